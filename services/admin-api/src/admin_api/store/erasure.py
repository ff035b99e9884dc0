"""Blanking what the directory knows of a person; as the schema's owner, for no service may.

`:subjects` are the ids of the account and of all its SCIM users; `:marks` what the person is recognised by in the
requests of others: those ids and the addresses, as patterns of LIKE in lower case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

USERS = text("SELECT id FROM users WHERE account_id = :account")

# Deleted users are known by their tombstones, by grants of old, or only by the events that tell of them.
SUBJECTS = text("""
    SELECT CAST(:account AS uuid) AS id
    UNION SELECT id FROM user_tombstones WHERE account_id = :account
    UNION SELECT CAST(data ->> 'userId' AS uuid) FROM events WHERE subject_id = :account AND data ? 'userId'
""")

# Every address that the trail and the log tell of the person's own rows, and what the account and its users go by.
ADDRESSES = text("""
    SELECT lower(found.address[1]) AS address FROM (
        SELECT regexp_matches(told, '"([^"@\\s]+@[^"@\\s]+)"', 'g') AS address FROM (
            SELECT data::text AS told FROM events WHERE organization_id = :organization AND subject_id = ANY (:subjects)
            UNION ALL SELECT request::text FROM outcomes
                WHERE organization_id = :organization AND resource_id = ANY (:subjects)
            UNION ALL SELECT convert_from(reply, 'UTF8') FROM outcomes
                WHERE organization_id = :organization AND resource_id = ANY (:subjects)
        ) rows
    ) found
    UNION SELECT lower(email) FROM accounts WHERE id = :account AND email IS NOT NULL
    UNION SELECT user_name_key FROM user_tombstones WHERE account_id = :account
""")

LAST_ADMIN = text("""
    SELECT count(*) FILTER (WHERE a.id = :account) > 0 AND count(*) FILTER (WHERE a.id <> :account) = 0
    FROM roles r JOIN grants g ON g.role_id = r.id JOIN accounts a ON a.id = g.account_id
    WHERE r.organization_id = :organization AND r.is_protected AND a.status = 'active'
""")

# What a log entry keeps: that it was, when, of which resource, and what came of it.
_BLANK_OUTCOME = """
    request = CASE WHEN request IS NULL THEN NULL ELSE jsonb_set(request, '{body}', 'null') END,
    reply = convert_to((convert_from(reply, 'UTF8')::jsonb - 'resource' - 'effects')::text, 'UTF8')
"""

BLANK = {
    "events": """
        UPDATE events SET data = NULL WHERE organization_id = :organization AND data IS NOT NULL
            AND (subject_id = ANY (:subjects) OR lower(data::text) LIKE ANY (:marks))
    """,
    "outcomes": f"""
        UPDATE outcomes SET {_BLANK_OUTCOME} WHERE organization_id = :organization
            AND (resource_id = ANY (:subjects) OR lower(request::text) LIKE ANY (:marks)
                OR lower(convert_from(reply, 'UTF8')) LIKE ANY (:marks))
    """,
    "holds": """
        UPDATE holds SET change = change - 'resource' - 'patch' - 'request'
        WHERE organization_id = :organization AND (account_id = :account OR user_id = ANY (:subjects))
    """,
    "link_requests": "UPDATE link_requests SET user_name = '' WHERE account_id = :account",
    "quarantine": """
        UPDATE quarantine SET value = NULL WHERE organization_id = :organization AND value IS NOT NULL
            AND lower(encode(value, 'escape')) LIKE ANY (:marks)
    """,
    "user_tombstones": "DELETE FROM user_tombstones WHERE account_id = :account",
    "sessions": "DELETE FROM sessions WHERE account_id = :account",
    "credentials": "DELETE FROM credentials WHERE account_id = :account",
    "identities": "DELETE FROM identities WHERE account_id = :account",
    "grants": "DELETE FROM grants WHERE account_id = :account",
    "links": "DELETE FROM links WHERE account_id = :account",
    "accounts": """
        UPDATE accounts SET email = NULL, email_key = NULL, display_name = '', status = 'suspended', epoch = epoch + 1,
                            break_glass = false, updated_at = :now
        WHERE id = :account
    """,
}


@dataclass(frozen=True, slots=True)
class Traces:
    """By what a person is found."""

    subjects: Sequence[UUID]
    addresses: Sequence[str]


async def has_users(db: AsyncSession, account_id: UUID) -> bool:
    """Whether an identity provider has a user of this account."""
    return (await db.execute(USERS, {"account": account_id})).first() is not None


async def is_last_admin(db: AsyncSession, organization_id: UUID, account_id: UUID) -> bool:
    return bool((await db.execute(LAST_ADMIN, {"organization": organization_id, "account": account_id})).scalar())


async def find_traces(db: AsyncSession, organization_id: UUID, account_id: UUID) -> Traces:
    bound = {"organization": organization_id, "account": account_id}
    subjects = (await db.execute(SUBJECTS, bound)).scalars().all()
    addresses = (await db.execute(ADDRESSES, {**bound, "subjects": subjects})).scalars().all()
    return Traces(subjects, addresses)


async def blank(
    db: AsyncSession, organization_id: UUID, account_id: UUID, traces: Traces, now: datetime
) -> dict[str, int]:
    """By table, how many rows were blanked."""
    marks = [_pattern(text) for text in (*map(str, traces.subjects), *traces.addresses)]
    bound = {
        "organization": organization_id,
        "account": account_id,
        "subjects": list(traces.subjects),
        "marks": marks,
        "now": now,
    }
    counts = {}
    for table, statement in BLANK.items():
        used = {name: value for name, value in bound.items() if f":{name}" in statement}
        counts[table] = (await db.execute(text(statement), used)).rowcount  # pyright: ignore[reportAttributeAccessIssue]
    return counts


def _pattern(mark: str) -> str:
    escaped = mark.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
