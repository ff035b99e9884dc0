"""What happens in a company after its first sync: rounds of events, the same for a seed, whatever the provider.

Within a round nobody has two events, so those of one round may run at the same time; rounds follow one another. A group
that opens, closes or changes its name has a round of its own.
"""

import copy
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from simulators.company import FAMILY_NAMES, Company, Person
from simulators.names import DEPARTMENTS, SITES

ROUNDS = 6
# Parts of the company. Leavers stay below what a guard against mass deactivation would notice.
JOINERS, MOVERS, RENAMES, LEAVERS = 0.04, 0.06, 0.02, 0.04
RETURNING = 1 / 3  # of the leavers; as many are removed for good, and of these every other one comes back, too
CLUB = "role:club"
CLUB_NAME = "Crumb Marathon"
CLUB_NAME_LATER = "Crumb Half Marathon"
CLUB_PART = 0.05


class Kind(StrEnum):
    JOINER = "joiner"
    MOVER = "mover"
    RENAME = "rename"
    LEAVER = "leaver"
    REHIRE = "rehire"
    REMOVAL = "removal"
    GROUP_OPENED = "group opened"
    GROUP_RENAMED = "group renamed"
    GROUP_CLOSED = "group closed"


@dataclass(frozen=True, slots=True)
class PersonEvent:
    kind: Kind
    person: Person  # as they are from now on


@dataclass(frozen=True, slots=True)
class GroupEvent:
    kind: Kind
    group: str
    name: str
    members: frozenset[str] = frozenset()  # keys of people; of an opened group only


type Event = PersonEvent | GroupEvent
type Round = Sequence[Event]


def make_life(company: Company, *, seed: int = 1) -> list[Round]:
    """Rounds of joiners, movers, renames, leavers, rehires and removals, about a sixth of the company in all."""
    return _Life(company, random.Random(f"life {seed}")).rounds()


class _Life:
    """The company as it changes while its future is being written."""

    def __init__(self, company: Company, dice: random.Random) -> None:
        self.dice = dice
        self.office = copy.deepcopy(company.office)
        self.office.dice = dice
        self.present = dict(company.people)
        self.left: dict[str, Person] = {}  # who may come back or be removed
        self.removed: dict[str, Person] = {}
        self.reports: defaultdict[str | None, set[str]] = defaultdict(set)
        for person in company.people.values():
            self.reports[person.manager].add(person.key)
        self.orphaned: list[str] = []  # whose manager has left: they get another in the next round
        self.busy: set[str] = set()  # who has an event in this round
        self.makers: dict[Kind, Callable[[], Person | None]] = {
            Kind.JOINER: self._join,
            Kind.MOVER: self._move,
            Kind.RENAME: self._rename,
            Kind.LEAVER: self._leave,
            Kind.REHIRE: self._rehire,
            Kind.REMOVAL: self._remove,
        }

    def rounds(self) -> list[Round]:
        rounds: list[Round] = []
        for number, kinds in enumerate(self._agenda()):
            if number == 1:
                rounds.append([self._open_club()])
            if number == 3:
                rounds.append([GroupEvent(Kind.GROUP_RENAMED, CLUB, CLUB_NAME_LATER)])
            rounds.append(self._round(kinds))
        return [*rounds, [GroupEvent(Kind.GROUP_CLOSED, CLUB, CLUB_NAME_LATER)]]

    def _agenda(self) -> list[list[Kind]]:
        """What happens in each round: leavers in the first half, who comes back or is removed in the second."""
        size = len(self.present)
        leavers = max(3, round(size * LEAVERS))
        back = max(1, round(leavers * RETURNING))
        anytime = [Kind.JOINER] * max(2, round(size * JOINERS)) + [Kind.MOVER] * max(2, round(size * MOVERS))
        anytime += [Kind.RENAME] * max(1, round(size * RENAMES))
        agenda: list[list[Kind]] = [[] for _ in range(ROUNDS)]
        for kinds, rounds in (
            (anytime, agenda),
            ([Kind.LEAVER] * leavers, agenda[: ROUNDS // 2]),
            ([Kind.REMOVAL] * back, agenda[ROUNDS // 2 : -1]),
            ([Kind.REHIRE] * (back + back // 2), agenda[-2:]),
        ):
            for number, kind in enumerate(kinds):
                rounds[number % len(rounds)].append(kind)
        for kinds in agenda:
            self.dice.shuffle(kinds)
        return agenda

    def _round(self, kinds: Sequence[Kind]) -> Round:
        self.busy = set()
        events = [PersonEvent(Kind.MOVER, person) for person in self._adopt_orphans()]
        for kind in kinds:
            if person := self.makers[kind]():
                self.busy.add(person.key)
                events.append(PersonEvent(kind, person))
        return events

    def _adopt_orphans(self) -> list[Person]:
        orphans = [self.present[key] for key in self.orphaned if key in self.present]
        self.orphaned = []
        adopted = [self._change(each, manager=self.office.heads[each.department]) for each in orphans]
        self.busy |= {each.key for each in adopted}
        return adopted

    def _join(self) -> Person | None:
        person = self.office.hire()
        self.present[person.key] = person
        self.reports[person.manager].add(person.key)
        return person

    def _move(self) -> Person | None:
        """Another department, another location, or another title where they are."""
        if (person := self._anybody()) is None:
            return None
        department = self.dice.choice(list(DEPARTMENTS))
        if department == person.department or department not in self.office.leads:
            return self._change(person, title=f"Acting {person.title}", telephone=self.office.telephone(person.site))
        if self.dice.random() < 0.5:
            return self._change(person, site=self.dice.choice([site for site in SITES if site != person.site]))
        title = self.dice.choice(DEPARTMENTS[department][2:])
        return self._change(person, department=department, title=title, manager=self.office.leads[department])

    def _rename(self) -> Person | None:
        if (person := self._anybody()) is None:
            return None
        family, login = self.dice.choice(FAMILY_NAMES)
        given_login = person.user_name.partition(".")[0]
        return self._change(person, family=family, user_name=self.office.user_name(given_login, login))

    def _leave(self) -> Person | None:
        """The first to leave is a team lead if there is one, so that a team needs another manager."""
        person = (None if self.left else self._lead()) or self._anybody()
        if person is None:
            return None
        self.left[person.key] = self.present.pop(person.key)
        self.orphaned += sorted(self.reports[person.key] & self.present.keys())
        for department, lead in self.office.leads.items():
            if lead == person.key:
                self.office.leads[department] = self.office.heads[department]
        return person

    def _rehire(self) -> Person | None:
        """Somebody who left or was removed comes back, every other one with another title."""
        gone = self.removed if self.removed and self.dice.random() < 0.5 else self.left
        candidates = [key for key in gone if key not in self.busy]
        if not candidates:
            return None
        person = gone.pop(self.dice.choice(candidates))
        self.present[person.key] = person
        manager = person.manager if person.manager in self.present else self.office.heads[person.department]
        title = f"Returning {person.title}" if self.dice.random() < 0.5 else person.title
        return self._change(person, title=title, manager=manager)

    def _remove(self) -> Person | None:
        """Somebody whom nobody's record names as manager, so that no reference is left hanging."""
        candidates = [key for key in self.left if not self.reports[key] and key not in self.busy]
        if not candidates:
            return None
        key = self.dice.choice(candidates)
        self.removed[key] = self.left.pop(key)
        return self.removed[key]

    def _open_club(self) -> GroupEvent:
        members = [each.key for each in self.present.values() if self.dice.random() < CLUB_PART]
        for key in members:
            self.present[key] = replace(self.present[key], roles=self.present[key].roles | {CLUB})
        return GroupEvent(Kind.GROUP_OPENED, CLUB, CLUB_NAME, frozenset(members))

    def _change(self, person: Person, *, manager: str | None = None, **changes: str) -> Person:
        manager = manager or person.manager
        self.reports[person.manager].discard(person.key)
        self.reports[manager].add(person.key)
        self.present[person.key] = replace(person, manager=manager, **changes)
        return self.present[person.key]

    def _anybody(self) -> Person | None:
        """Somebody who leads nobody and has no event in this round yet."""
        for _ in range(50):
            if not self.present:
                return None
            person = self._sample()
            if person.key not in self.busy and not self.reports[person.key] and not self._is_head(person):
                return person
        return None

    def _sample(self) -> Person:
        key = f"{self.dice.randrange(1, self.office.hired + 1):06}"
        return self.present.get(key) or self.present[self.dice.choice(sorted(self.present))]

    def _lead(self) -> Person | None:
        leads = [self.present[key] for key in self.reports if key in self.present]
        return next((lead for lead in leads if not self._is_head(lead) and lead.key not in self.busy), None)

    def _is_head(self, person: Person) -> bool:
        return person.key == self.office.chief or person.key in self.office.heads.values()
