from collections import Counter

import pytest

from simulators.company import Company, make_company
from simulators.life import CLUB, CLUB_NAME, CLUB_NAME_LATER, GroupEvent, Kind, PersonEvent, Round, make_life


def counts(rounds: list[Round]) -> Counter[Kind]:
    return Counter(event.kind for events in rounds for event in events)


@pytest.fixture(scope="module")
def company() -> Company:
    return make_company(500, seed=2)


@pytest.fixture(scope="module")
def rounds(company: Company) -> list[Round]:
    return make_life(company, seed=2)


def test_the_same_seed_makes_the_same_life(company: Company, rounds: list[Round]):
    assert make_life(company, seed=2) == rounds
    assert make_life(company, seed=3) != rounds


def test_everything_that_can_happen_happens(rounds: list[Round]):
    assert counts(rounds).keys() == set(Kind)


@pytest.mark.parametrize("size", [0, 1, 9, 20, 60])
def test_small_companies_live_too(size: int):
    kinds = counts(make_life(make_company(size)))

    assert kinds[Kind.JOINER] >= 2
    assert size < 20 or kinds.keys() == set(Kind)


def test_nobody_has_two_events_in_a_round(rounds: list[Round]):
    for events in rounds:
        keys = [event.person.key for event in events if isinstance(event, PersonEvent)]
        assert len(keys) == len(set(keys))


def test_each_event_fits_the_state_that_the_person_is_in(company: Company, rounds: list[Round]):
    state = dict.fromkeys(company.people, "present")
    before = {
        Kind.JOINER: {None},
        Kind.MOVER: {"present"},
        Kind.RENAME: {"present"},
        Kind.LEAVER: {"present"},
        Kind.REHIRE: {"left", "removed"},
        Kind.REMOVAL: {"left"},
    }
    after = {Kind.LEAVER: "left", Kind.REMOVAL: "removed"}
    for event in (event for events in rounds for event in events if isinstance(event, PersonEvent)):
        assert state.get(event.person.key) in before[event.kind], event
        state[event.person.key] = after.get(event.kind, "present")


def test_a_move_or_a_new_name_changes_something_and_no_key(company: Company, rounds: list[Round]):
    people = dict(company.people)
    for event in (event for events in rounds for event in events if isinstance(event, PersonEvent)):
        if event.kind in (Kind.MOVER, Kind.RENAME):
            assert event.person != people[event.person.key]
        people[event.person.key] = event.person


def test_when_a_lead_leaves_the_team_gets_another_manager(company: Company, rounds: list[Round]):
    managers = {key: person.manager for key, person in company.people.items()}
    gone: set[str] = set()
    for events in rounds:
        for event in (event for event in events if isinstance(event, PersonEvent)):
            managers[event.person.key] = event.person.manager
            if event.kind in (Kind.LEAVER, Kind.REMOVAL):
                gone.add(event.person.key)
            else:
                gone.discard(event.person.key)

    assert gone
    assert not {key for key, manager in managers.items() if manager in gone} - gone


def test_nobody_who_is_named_as_manager_is_removed(company: Company, rounds: list[Round]):
    managers = {key: person.manager for key, person in company.people.items()}
    for event in (event for events in rounds for event in events if isinstance(event, PersonEvent)):
        managers[event.person.key] = event.person.manager
        if event.kind == Kind.REMOVAL:
            assert event.person.key not in managers.values()


def test_the_club_opens_changes_its_name_and_closes_each_in_a_round_of_its_own(rounds: list[Round]):
    alone = [events[0] for events in rounds if isinstance(events[0], GroupEvent)]

    assert [(event.kind, event.group, event.name) for event in alone if isinstance(event, GroupEvent)] == [
        (Kind.GROUP_OPENED, CLUB, CLUB_NAME),
        (Kind.GROUP_RENAMED, CLUB, CLUB_NAME_LATER),
        (Kind.GROUP_CLOSED, CLUB, CLUB_NAME_LATER),
    ]
    assert all(len(events) == 1 for events in rounds if isinstance(events[0], GroupEvent))
