"""`verify`: the directory recomputed from its raw rows, and put right on request (design section 5, "Drift").

The keys of names and addresses are recomputed here with `scim.keys`; everything else in SQL, by `store.drift`. A repair
holds the provisioner up, briefly: nothing can change between finding and repairing.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.chains import ChainReport, verify_chains
from admin_api.store import drift as store
from admin_api.store.drift import CHECKS, EXAMPLES, Check
from scim.errors import InvalidValue
from scim.keys import email_key, identity_key, name_key

STALE_AFTER = timedelta(days=90)
MAX_LISTED = 1_000
REPAIR_TIMEOUT = 600  # seconds

_TAKEN = "another row has the key that this one should have; rename or remove one of the two in the identity provider"

type Row = dict[str, Any]
type Compute = Callable[[AsyncSession, UUID | None], Awaitable[Sequence[Row]]]


@dataclass(slots=True)
class Drift:
    """One kind of drift: how many rows were at fault, examples, and how many still are."""

    kind: str
    says: str
    found: int
    examples: Sequence[Row]
    left: int
    advice: str | None = None


@dataclass(slots=True)
class Report:
    """What `verify` found. `stale` and `orphans` are users to look at, and no fault of ours."""

    drifts: list[Drift] = field(default_factory=list)
    chains: list[ChainReport] = field(default_factory=list)
    stale: Sequence[Row] = ()
    orphans: Sequence[Row] = ()

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong any more."""
        return not any(drift.left for drift in self.drifts) and not any(chain.why for chain in self.chains)


async def verify(db: AsyncSession, organization_id: UUID | None, now: datetime, stale_after: timedelta) -> Report:
    """What is wrong in an organization, or in all of them; changes nothing."""
    return Report(
        drifts=[drift for check in ALL_CHECKS if (drift := await _found(db, check, organization_id)).found],
        stale=await store.list_stale(db, organization_id, now - stale_after, MAX_LISTED),
        orphans=await store.list_orphans(db, organization_id, MAX_LISTED),
    )


async def verify_all(
    db: AsyncSession, organization_id: UUID | None, now: datetime, stale_after: timedelta, *, repair: bool
) -> Report:
    """As `verify`, with the chains of the audit trail; `repair` puts right what can be. For the schema's owner."""
    await store.set_timeout(db, REPAIR_TIMEOUT)
    report = await verify(db, organization_id, now, stale_after)
    report.chains = await verify_chains(db)
    if repair and report.drifts:
        await store.lock_partitions(db)
        report.drifts = await repair_all(db, organization_id)
    return report


async def repair_all(db: AsyncSession, organization_id: UUID | None) -> list[Drift]:
    """Repair in the order of the checks, for each may make the next one's faults; then look at everything again."""
    drifts = []
    for check in ALL_CHECKS:
        drift = await _found(db, check, organization_id)
        if drift.found:
            drifts.append(drift)
            await _repair(db, check, organization_id)
    for drift in drifts:
        drift.left = (await _found(db, BY_KIND[drift.kind], organization_id)).found
    return drifts


async def _repair(db: AsyncSession, check: "Check | KeyCheck", organization_id: UUID | None) -> None:
    if isinstance(check, KeyCheck):
        for row in await check.compute(db, organization_id):
            await _put_key(db, check, row)
    elif check.repair is not None:
        try:
            await store.repair(db, check, organization_id)
        except IntegrityError:
            return  # what is left is counted afterwards, and told with its advice


async def _found(db: AsyncSession, check: "Check | KeyCheck", organization_id: UUID | None) -> Drift:
    if isinstance(check, KeyCheck):
        rows = await check.compute(db, organization_id)
        return Drift(check.kind, check.says, len(rows), rows[:EXAMPLES], len(rows), check.advice)
    found = await store.find(db, check, organization_id)
    return Drift(check.kind, check.says, found.count, found.examples, found.count, check.advice)


# --- keys


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """A kind of drift that only Python can see; `compute` gives the rows with the keys they should have."""

    kind: str
    says: str
    compute: Compute
    put: Any
    columns: tuple[str, ...]
    advice: str = _TAKEN


async def _put_key(db: AsyncSession, check: KeyCheck, row: Row) -> None:
    try:
        await store.put_keys(db, check.put, {name: row[name] for name in check.columns})
    except IntegrityError:
        return  # it stays, and is told


async def _user_keys(db: AsyncSession, organization_id: UUID | None) -> Sequence[Row]:
    wrong = []
    async for user in store.stream(db, store.USERS, organization_id):
        key = _key(identity_key, user.user_name)
        emails = sorted(emails_of(user.resource))
        if key is not None and (key, emails) != (user.user_name_key, user.email_keys):
            wrong.append(_place(user) | {"key": key, "emails": emails})
    return wrong


async def _group_keys(db: AsyncSession, organization_id: UUID | None) -> Sequence[Row]:
    wrong = []
    async for group in store.stream(db, store.GROUPS, organization_id):
        key = _key(name_key, group.display_name)
        if key is not None and key != group.display_name_key:
            wrong.append(_place(group) | {"key": key})
    return wrong


async def _account_keys(db: AsyncSession, organization_id: UUID | None) -> Sequence[Row]:
    wrong = []
    async for account in store.stream(db, store.ACCOUNTS, organization_id):
        key = _key(email_key, account.email) if account.email is not None else None
        if key != account.email_key:
            wrong.append({"organization_id": account.organization_id, "id": account.id, "key": key})
    return wrong


def emails_of(resource: Row) -> set[str]:
    """The keys of all addresses in a user's resource; on purpose not the provisioner's own code, which it checks."""
    values = [resource.get("userName"), *(email.get("value") for email in resource.get("emails", ()))]
    return {key for value in values if isinstance(value, str) and (key := _key(email_key, value))}


def _key(compute: Callable[[str], str | None], value: str) -> str | None:
    try:
        return compute(value)
    except InvalidValue:
        return None


def _place(row: Any) -> Row:
    return {"organization_id": row.organization_id, "connection_id": row.connection_id, "id": row.id}


KEY_CHECKS = (
    KeyCheck(
        "user_keys",
        "users whose keys are not those of their userName and addresses",
        _user_keys,
        store.SET_USER_KEYS,
        ("id", "key", "emails"),
    ),
    KeyCheck(
        "group_keys",
        "groups whose key is not that of their displayName",
        _group_keys,
        store.SET_GROUP_KEY,
        ("id", "key"),
    ),
    KeyCheck(
        "account_keys",
        "accounts whose key is not that of their email",
        _account_keys,
        store.SET_ACCOUNT_KEY,
        ("id", "key"),
    ),
)

# The keys follow from the first two, and nothing follows from them.
ALL_CHECKS: tuple[Check | KeyCheck, ...] = (*CHECKS[:2], *KEY_CHECKS, *CHECKS[2:])
BY_KIND = {check.kind: check for check in ALL_CHECKS}
