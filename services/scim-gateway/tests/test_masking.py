import json

import pytest

from scim_gateway.masking import MASK, may_hold_secrets, summarize

SECRETS = ["password", "passPhrase", "clientSecret", "accessToken", "credentials", "private key", "x-API-Key", "my.pin"]
# A look at the bytes alone would not see these.
DISGUISED = ["pa\u017f\u017fword", "api\u212aey"]


def masked(document: object, data: bytes) -> object:
    return summarize("POST", "/Users", document, data).body


@pytest.mark.parametrize("name", SECRETS + DISGUISED)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_t39_a_member_or_path_of_a_secrets_name_is_masked_however_it_is_written(name, ascii_only):
    document = {"userName": "ada", name: "hush", "Operations": [{"op": "add", "path": name, "value": "hush"}]}
    data = json.dumps(document, ensure_ascii=ascii_only).encode()
    assert masked(document, data) == {
        "userName": "ada",
        name: MASK,
        "Operations": [{"op": "add", "path": name, "value": MASK}],
    }


def test_t39_a_name_with_escapes_is_masked():
    data = b'{"\\u0070assword": "hush"}'
    assert masked(json.loads(data), data) == {"password": MASK}


def test_an_ordinary_body_is_kept_without_a_search():
    data = b'{"userName": "ada", "emails": [{"value": "ada@example.com"}]}'
    document = json.loads(data)
    assert not may_hold_secrets(data)
    assert masked(document, data) == document
