import pytest

from devstack.supervisor import back_off, describe


def test_the_first_end_is_answered_at_once_and_each_quick_one_after_it_later():
    assert [back_off(quick_ends) for quick_ends in range(9)] == [0, 0, 0.5, 1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize(("status", "reason"), [(-9, "was ended by SIGKILL"), (3, "ended with status 3")])
def test_the_reason_of_an_end_is_readable(status: int, reason: str):
    assert describe(status) == reason
