"""What must hold of the rows and of the log when everything is over."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import CHANGES, Change

SHOWN = 4  # changes, of those that one wrong move concerns
# Those of changes; what a gateway has refused by itself is in the table too, and tells how many more were `similar`.
OUTCOMES = """
    SELECT change_id, count(*) AS number FROM outcomes
    WHERE NOT convert_from(reply, 'UTF8')::jsonb ? 'similar' GROUP BY change_id
"""
DECIDED_DEADLINE = 90.0  # seconds for the last change to be decided

# Each of these must find nothing.
BROKEN = {
    "P1: a counter that is not the number of users": """
        SELECT connection_id, users FROM connection_stats AS stats
        WHERE users <> (SELECT count(*) FROM users WHERE users.connection_id = stats.connection_id)
    """,
    "P1: a counter that is not the number of groups": """
        SELECT connection_id, groups FROM connection_stats AS stats
        WHERE groups <> (SELECT count(*) FROM groups WHERE groups.connection_id = stats.connection_id)
    """,
    "P5: two live users of one name": """
        SELECT connection_id, user_name_key, array_agg(id) FROM users
        GROUP BY connection_id, user_name_key HAVING count(*) > 1
    """,
    "P1: a membership of nobody, or of a deleted user": """
        SELECT group_id, member_id FROM memberships
        WHERE member_type = 'User' AND member_id NOT IN (SELECT id FROM users)
    """,
    "P6: a user whose account is not as active as it is": """
        SELECT users.id, users.user_name FROM users JOIN accounts ON accounts.id = users.account_id
        WHERE users.active <> (accounts.status = 'active')
    """,
    "P6: an active account whose only user is deleted": """
        SELECT accounts.id FROM accounts JOIN user_tombstones ON user_tombstones.account_id = accounts.id
        WHERE accounts.status = 'active' AND accounts.id NOT IN (SELECT account_id FROM users)
    """,
    "P6: a session of a suspended account that is alive": """
        SELECT sessions.id, accounts.id FROM sessions JOIN accounts ON accounts.id = sessions.account_id
        WHERE accounts.status = 'suspended' AND revoked_at IS NULL AND sessions.epoch = accounts.epoch
    """,
    "P2: an id that lives and is deleted": "SELECT users.id FROM users JOIN user_tombstones USING (id)",
    "P11: a record in quarantine though nothing was wrong with it": """
        SELECT partition, record_offset, error FROM quarantine
    """,
}

# Everybody who is active signs in now and then; a suspension must end these sessions (P6).
SIGN_IN = """
    INSERT INTO sessions (id, account_id, digest, epoch, created_at, last_seen_at, expires_at)
    SELECT gen_random_uuid(), id, uuid_send(gen_random_uuid()), epoch, now(), now(), now() + interval '1 day'
    FROM accounts WHERE status = 'active'
        AND id NOT IN (SELECT account_id FROM sessions WHERE sessions.epoch = accounts.epoch)
"""

MOVES = """
    SELECT partition, old_offset, new_offset, old_epoch, new_epoch, who FROM chaos.moves
    WHERE topic = 'scim.changes' ORDER BY number
"""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A record of `scim.changes`."""

    partition: int
    offset: int
    change: Change

    def __str__(self) -> str:
        change = self.change
        content = change.members or change.patch or change.resource or ""
        asked = f"{change.operation} {change.resource_type} {change.resource_id} {content}"
        return f"{asked} (change {change.id}, offset {self.partition}/{self.offset})"


async def sign_in_now_and_then(dsn: str) -> None:
    """Make sessions until cancelled, through whatever happens to Postgres."""
    while True:
        await asyncio.sleep(1.0)
        try:
            async with asyncio.timeout(10):
                db = await asyncpg.connect(dsn)
                try:
                    await db.execute(SIGN_IN)
                finally:
                    db.terminate()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            continue


async def violations(dsn: str, bootstrap: str) -> list[str]:
    """Every invariant that is broken, in words; waits until the log is applied."""
    log = await read_log(bootstrap)
    db = await asyncpg.connect(dsn)
    try:
        found = await undecided(db, log)
        found += zombies(log, await db.fetch(MOVES))
        for what, query in BROKEN.items():
            found += [f"{what}: {tuple(row)}" for row in (await db.fetch(query))[:5]]
        return found
    finally:
        await db.close()


async def read_log(bootstrap: str) -> list[LogEntry]:
    """Every record, in the order of its partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(CHANGES.name, number) for number in range(CHANGES.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        log: list[LogEntry] = []
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    change = Change.model_validate_json(record.value or b"")
                    log.append(LogEntry(record.partition, record.offset, change))
        return log
    finally:
        await consumer.stop()


async def undecided(db: asyncpg.Connection, log: list[LogEntry]) -> list[str]:
    """P2: the offsets stand at the log's end, each record has one outcome, and there are no others."""
    ends: dict[int, int] = {}
    for entry in log:
        ends[entry.partition] = max(ends.get(entry.partition, 0), entry.offset + 1)
    deadline = asyncio.get_running_loop().time() + DECIDED_DEADLINE
    while True:
        rows = await db.fetch("SELECT partition, next_offset FROM partition_offsets WHERE topic = $1", CHANGES.name)
        offsets = {row["partition"]: row["next_offset"] for row in rows if row["next_offset"]}
        if offsets == ends or asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(0.2)
    found = [] if offsets == ends else [f"P2: the offsets are {offsets}, the log ends at {ends}"]
    outcomes = await db.fetch(OUTCOMES)
    decided: dict[UUID, int] = {row["change_id"]: row["number"] for row in outcomes}
    by_id = {entry.change.id: entry for entry in log}
    found += [f"P2: no outcome for {entry}" for change_id, entry in by_id.items() if change_id not in decided]
    found += [f"P2: an outcome of {change_id}, which is not in the log" for change_id in decided.keys() - by_id.keys()]
    return found + [f"P2: {number} outcomes for {by_id[each]}" for each, number in decided.items() if number > 1]


def zombies(log: list[LogEntry], moves: list[asyncpg.Record]) -> Iterator[str]:
    """P9: who moves an offset has claimed the epoch under which it is moved, and moves it forward."""
    entries = {(entry.partition, entry.offset): entry for entry in log}
    owners: dict[tuple[int, int], str] = {}  # by partition and epoch
    for partition, old, new, old_epoch, epoch, who in moves:
        if old_epoch != epoch:
            owners[partition, epoch] = who
            continue
        if new == old or (new > old and owners.get((partition, epoch)) == who):
            continue
        concerned = [
            str(entries[partition, offset]) for offset in range(*sorted((old, new))) if (partition, offset) in entries
        ]
        yield "\n    ".join(
            [
                f"P9: {who} moved partition {partition} from offset {old} to {new} under epoch {epoch}, "
                f"which {owners.get((partition, epoch))} had claimed:",
                *concerned[:SHOWN],
            ]
        )
