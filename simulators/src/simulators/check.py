"""The directory against the belief: everything is read back over SCIM, and any difference is named."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from simulators.idp import ENTERPRISE, Document, IdentityProvider
from simulators.wire import Style, Wire, percent

PAGE = 200
READER = Style(headers={"accept": "application/scim+json"}, encode=percent, tries=5)
SERVERS_OWN = {"id", "meta", "schemas", "groups"}
MISSING = "nothing"


@dataclass(frozen=True)
class Difference:
    """`what` (a userName or a group's name) has `got` where the provider believes `expected`."""

    what: str
    attribute: str
    expected: Any
    got: Any

    def __str__(self) -> str:
        return f"{self.what}: {self.attribute} is {_shown(self.got)}, the provider believes {_shown(self.expected)}"


@dataclass(frozen=True)
class Contents:
    """What a connection has."""

    users: Mapping[str, Document]  # by id
    groups: Mapping[str, Document]  # by id; members are a set of ids

    @property
    def active(self) -> int:
        return sum(user.get("active") is True for user in self.users.values())

    @property
    def memberships(self) -> int:
        return sum(len(group["members"]) for group in self.groups.values())


async def read_all(wire: Wire) -> Contents:
    """Every user and group of the connection; for a directory that nobody changes meanwhile."""
    users = await _pages(wire, "/Users", excludedAttributes="groups")
    groups = await _pages(wire, "/Groups", excludedAttributes="members")
    members = {each["id"]: await wire.send(READER, "GET", f"/Groups/{each['id']}") for each in groups}
    return Contents(
        {each["id"]: each for each in users},
        {
            group["id"]: {"displayName": group["displayName"], "members": {one["value"] for one in whole["members"]}}
            for group in groups
            for whole in (members[group["id"]],)
        },
    )


async def count(wire: Wire, path: str, **query: object) -> int:
    """How many a list has, without reading it."""
    return (await wire.send(READER, "GET", path, {"count": 0, **query}))["totalResults"]


def differences(idp: IdentityProvider, contents: Contents) -> list[Difference]:
    """All that the directory has otherwise than `idp` believes; nothing when they agree."""
    return [*_of_users(idp, contents), *_of_groups(idp, contents)]


def _of_users(idp: IdentityProvider, contents: Contents) -> Iterator[Difference]:
    expected = idp.expected_users()
    for document in expected:
        got = contents.users.get(document["id"])
        if got is None:
            yield Difference(document["userName"], "user", f"id {document['id'] or 'not known'}", MISSING)
        else:
            yield from _of_attributes(document["userName"], document, got)
    for user_id in contents.users.keys() - {document["id"] for document in expected}:
        yield Difference(contents.users[user_id]["userName"], "user", MISSING, f"id {user_id}")


def _of_attributes(what: str, expected: Document, got: Document) -> Iterator[Difference]:
    left, right = _comparable(expected), _comparable(got)
    for name in sorted(left.keys() | right.keys()):
        if left.get(name, MISSING) != right.get(name, MISSING):
            yield Difference(what, name, left.get(name, MISSING), right.get(name, MISSING))


def _comparable(user: Document) -> Document:
    """Attributes by name, those of the extension beside the others; of a manager only whom it names."""
    attributes = {name: value for name, value in user.items() if name not in SERVERS_OWN | {ENTERPRISE}}
    extension = dict(user.get(ENTERPRISE, {}))
    if "manager" in extension:
        extension["manager"] = extension["manager"]["value"]
    return attributes | extension


def _of_groups(idp: IdentityProvider, contents: Contents) -> Iterator[Difference]:
    expected = idp.expected_groups()
    names = {user_id: user["userName"] for user_id, user in contents.users.items()}
    for document in expected:
        got = contents.groups.get(document["id"])
        name = document["displayName"]
        if got is None:
            yield Difference(name, "group", f"id {document['id'] or 'not known'}", MISSING)
            continue
        if got["displayName"] != name:
            yield Difference(name, "displayName", name, got["displayName"])
        for user_id in sorted(document["members"] - got["members"]):
            yield Difference(name, f"membership of {names.get(user_id, user_id)}", "member", "no member")
        for user_id in sorted(got["members"] - document["members"]):
            yield Difference(name, f"membership of {names.get(user_id, user_id)}", "no member", "member")
    for group_id in contents.groups.keys() - {document["id"] for document in expected}:
        yield Difference(contents.groups[group_id]["displayName"], "group", MISSING, f"id {group_id}")


async def _pages(wire: Wire, path: str, **query: object) -> list[Document]:
    found: list[Document] = []
    while True:
        page = await wire.send(READER, "GET", path, {"startIndex": len(found) + 1, "count": PAGE, **query})
        found += page.get("Resources", [])
        if len(found) >= page["totalResults"] or not page.get("Resources"):
            return found


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
