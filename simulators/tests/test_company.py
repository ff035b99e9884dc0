from simulators.company import EVERYBODY, TEAM, make_company
from simulators.names import DEPARTMENTS


def test_the_same_seed_makes_the_same_company():
    assert make_company(80, seed=4).people == make_company(80, seed=4).people
    assert make_company(80, seed=4).people != make_company(80, seed=5).people


def test_another_domain_has_the_same_people_with_other_addresses_and_ids():
    here, there = make_company(50, domain="a.example"), make_company(50, domain="b.example")

    assert [each.full_name for each in here.people.values()] == [each.full_name for each in there.people.values()]
    assert not {each.user_name for each in here.people.values()} & {each.user_name for each in there.people.values()}
    assert not {each.uid for each in here.people.values()} & {each.uid for each in there.people.values()}


def test_nobody_shares_a_user_name():
    people = make_company(3000).people.values()

    assert len({each.user_name for each in people}) == 3000


def test_logins_are_ascii_and_names_are_not_all():
    people = make_company(300).people.values()

    assert all(each.user_name.isascii() for each in people)
    assert not all(each.full_name.isascii() for each in people)


def test_everybody_but_the_chief_has_a_manager_who_was_there_before():
    people = make_company(400).people

    chief, *others = people.values()
    assert chief.manager is None
    assert all(each.manager is not None and each.manager < each.key for each in others)


def test_no_team_is_larger_than_a_lead_can_have():
    people = list(make_company(400).people.values())
    heads = {each.key for each in people[: len(DEPARTMENTS) + 1]}

    teams = [sum(each.manager == lead.key for each in people) for lead in people if lead.key not in heads]

    assert max(teams) <= TEAM


def test_everybody_is_in_the_groups_of_the_company_their_department_and_their_site():
    company = make_company(60)

    for person in company.people.values():
        assert {EVERYBODY, f"department:{person.department}", f"site:{person.site}"} <= person.groups
        assert person.groups <= company.groups.keys()


def test_a_company_may_be_tiny():
    assert [len(make_company(size).people) for size in (0, 1, 2)] == [0, 1, 2]
