"""A made-up company: people, their managers, and the groups that its identity provider pushes."""

import hashlib
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from simulators.names import DEPARTMENTS, FAMILY, GIVEN, ROLES, SITES, spellings

DOMAIN = "quillmoor.example"
TEAM = 8  # people who report to one team lead
EVERYBODY = "all"
EVERYBODY_NAME = "All Quillmoor"
WITHOUT_TELEPHONE = 0.3


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of the company, as the provider's own directory has them."""

    key: str  # for ever the same, and what others call the manager by
    uid: str  # 32 hexadecimal digits from which a provider makes its own ids
    given: str
    family: str
    user_name: str  # also the email address
    title: str
    department: str
    site: str
    manager: str | None  # a key
    roles: frozenset[str]
    telephone: str | None

    @property
    def full_name(self) -> str:
        return f"{self.given} {self.family}"

    @property
    def country(self) -> str:
        return SITES[self.site][0]

    @property
    def language(self) -> str:
        return SITES[self.site][1]

    @property
    def groups(self) -> frozenset[str]:
        """Keys of the groups that this person is a member of."""
        return frozenset({EVERYBODY, f"department:{self.department}", f"site:{self.site}", *self.roles})


@dataclass(frozen=True)
class Company:
    people: Mapping[str, Person]
    groups: Mapping[str, str]  # key: displayName
    office: "Office"  # who hires the next ones


@dataclass
class Office:
    """Hires people: no two ever get the same key or userName, also when the first has left."""

    dice: random.Random
    domain: str
    hired: int = 0
    chief: str | None = None
    heads: dict[str, str] = field(default_factory=dict)  # department: key
    leads: dict[str, str] = field(default_factory=dict)  # department: key of the one whose team is being filled
    counts: Counter[str] = field(default_factory=Counter)  # department: people below its head
    names_taken: set[str] = field(default_factory=set)

    def hire(self) -> Person:
        """The first one leads the company, the next ones its departments; then come teams with their leads."""
        vacant = [department for department in DEPARTMENTS if department not in self.heads]
        if self.chief is None:
            person = self._new_person("Chief Executive", next(iter(DEPARTMENTS)), None)
            self.chief = person.key
        elif vacant:
            person = self._new_person(DEPARTMENTS[vacant[0]][0], vacant[0], self.chief)
            self.heads[vacant[0]] = self.leads[vacant[0]] = person.key
        else:
            person = self._for_a_team(self.dice.choice(list(DEPARTMENTS)))
        return person

    def _for_a_team(self, department: str) -> Person:
        _, lead_title, *titles = DEPARTMENTS[department]
        self.counts[department] += 1
        if self.counts[department] % TEAM:
            return self._new_person(self.dice.choice(titles), department, self.leads[department])
        lead = self._new_person(lead_title, department, self.heads[department])
        self.leads[department] = lead.key
        return lead

    def _new_person(self, title: str, department: str, manager: str | None) -> Person:
        self.hired += 1
        given, given_login = self.dice.choice(GIVEN_NAMES)
        family, family_login = self.dice.choice(FAMILY_NAMES)
        site = self.dice.choice(list(SITES))
        key = f"{self.hired:06}"
        return Person(
            key=key,
            uid=hashlib.md5(f"{self.domain}/{key}".encode(), usedforsecurity=False).hexdigest(),
            given=given,
            family=family,
            user_name=self.user_name(given_login, family_login),
            title=title,
            department=department,
            site=site,
            manager=manager,
            roles=frozenset(f"role:{role}" for role, (_, part) in ROLES.items() if self.dice.random() < part),
            telephone=None if self.dice.random() < WITHOUT_TELEPHONE else self.telephone(site),
        )

    def user_name(self, given_login: str, family_login: str) -> str:
        """given.family@domain, with a number when somebody has or had that one."""
        number = 1
        while (name := f"{given_login}.{family_login}{number if number > 1 else ''}@{self.domain}") in self.names_taken:
            number += 1
        self.names_taken.add(name)
        return name

    def telephone(self, site: str) -> str:
        return f"{SITES[site][2]} {self.dice.randrange(10_000):04}"


GIVEN_NAMES = spellings(GIVEN)
FAMILY_NAMES = spellings(FAMILY)


def make_company(size: int, *, seed: int = 1, domain: str = DOMAIN) -> Company:
    """A company of `size` people with addresses under `domain`; the same people for the same seed."""
    office = Office(random.Random(seed), domain)
    people = [office.hire() for _ in range(size)]
    return Company({person.key: person for person in people}, group_names(), office)


def group_names() -> dict[str, str]:
    """The displayName of each group by its key."""
    return (
        {EVERYBODY: EVERYBODY_NAME}
        | {f"department:{name}": f"Dept {name}" for name in DEPARTMENTS}
        | {f"site:{name}": f"Site {name}" for name in SITES}
        | {f"role:{role}": name for role, (name, _) in ROLES.items()}
    )
