import pytest

from scim import errors
from scim.errors import InvalidValue, ScimError, TooManyRequests, Unavailable, error_of

CLASSES = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, ScimError) and error is not ScimError and error.status != 500
]


def test_the_body_is_the_error_message_with_the_status_as_text():
    assert InvalidValue("userName is required.").body() == {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
        "status": "400",
        "scimType": "invalidValue",
        "detail": "userName is required.",
    }


def test_a_status_without_scim_type_leaves_it_out():
    assert "scimType" not in errors.NotFound("No such user.").body()


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_comes_back_from_what_an_outcome_record_holds(kind: type[ScimError]):
    error = kind("Why.")

    again = error_of(error.status, error.scim_type, error.detail)

    assert type(again) is kind
    assert again.body() == error.body()


@pytest.mark.parametrize(("status", "scim_type"), [(500, None), (400, None), (409, "madeUp"), (507, None)])
def test_an_unknown_pair_keeps_its_status_and_type(status: int, scim_type: str | None):
    error = error_of(status, scim_type, "Why.")

    assert (error.status, error.scim_type, error.detail) == (status, scim_type, "Why.")
    assert ScimError("x").status == 500


def test_busy_errors_say_when_to_come_back():
    assert Unavailable("Busy.", retry_after=7).retry_after == 7
    assert TooManyRequests("Slow down.").retry_after == 1
