"""Work that a crash or an outage left behind, looked for now and then.

A connection is deleted in Postgres first and the provisioner is told afterwards: the other way round, its users could
go while the connection stays. So the telling may be missing, and is repeated here until users and groups are gone. Any
number of processes may do it at the same time; the provisioner does not mind being told twice.
"""

import asyncio
from datetime import UTC, datetime

import structlog
from sqlalchemy.exc import DBAPIError

from admin_api import audit, metrics
from admin_api.audit import Act, Subject
from admin_api.changes import KafkaAway, delete_connection
from admin_api.errors import Unavailable
from admin_api.notices import EXPIRY_NOTICE
from admin_api.service import Service
from admin_api.store import connections, outcomes, sessions, state
from admin_api.store.database import root_of

log = structlog.get_logger()

MAX_CONNECTIONS = 100  # in one sweep
OUTCOME_DAYS = 30  # of the provisioning log; at least 8, for the log of changes is kept 7 and may be replayed
ACTOR = "admin-api"


async def sweep_forever(service: Service, interval: float) -> None:
    """Sweep at once and every `interval` seconds, until cancelled."""
    while True:
        try:
            await sweep(service, datetime.now(UTC))
        except (Unavailable, KafkaAway) as error:
            log.warning("sweep.postponed", error=type(error).__name__)
            metrics.SWEEPS_POSTPONED.inc()
        await asyncio.sleep(interval)


async def sweep(service: Service, now: datetime) -> None:
    """Forget expired sessions and old outcomes; repeat deletions that were not done; count for the metrics."""
    async with service.transaction() as db:
        await sessions.delete_expired(db, now)
        unfinished = await connections.list_unfinished_deletions(db, MAX_CONNECTIONS)
        found = await state.count_state(db, now)
    for connection in unfinished:
        await service.publisher.publish(delete_connection(connection, ACTOR, now))
        log.info("connection.deletion.repeated", connection_id=str(connection.id))
        metrics.DELETIONS_REPEATED.inc()
    metrics.swept(found)
    await tell_expiring(service, now)
    await keep_outcomes(service, now)


async def tell_expiring(service: Service, now: datetime) -> None:
    """An event for each token that is about to expire, once."""
    async with service.transaction() as db:
        for token, organization_id in await connections.list_expiring(db, Act.TOKEN_EXPIRES, now, now + EXPIRY_NOTICE):
            assert token.expires_at is not None
            await audit.record(
                db,
                organization_id,
                ACTOR,
                Act.TOKEN_EXPIRES,
                (Subject.TOKEN, token.id),
                {"hint": token.hint, "expiresAt": token.expires_at.isoformat()},
                connection_id=token.connection_id,
                token_id=token.id,
            )
            log.warning("token.expires", connection_id=str(token.connection_id), token_id=str(token.id))


async def keep_outcomes(service: Service, now: datetime) -> None:
    """Make the coming days' partitions and drop those long gone; a reader of them delays it to the next sweep."""
    try:
        async with service.transaction() as db:
            created, dropped = await outcomes.keep(db, OUTCOME_DAYS, now)
    except DBAPIError as error:
        log.warning("outcomes.not_kept", error=type(root_of(error)).__name__)
        return
    if created or dropped:
        log.info("outcomes.kept", created=created, dropped=dropped)
