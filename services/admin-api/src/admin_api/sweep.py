"""Work that a crash or an outage left behind, looked for now and then.

A connection is deleted in Postgres first and the provisioner is told afterwards: the other way round, its users could
go while the connection stays. So the telling may be missing, and is repeated here until users and groups are gone. Any
number of processes may do it at the same time; the provisioner does not mind being told twice.
"""

import asyncio
from datetime import UTC, datetime

import structlog

from admin_api import metrics
from admin_api.changes import KafkaAway, delete_connection
from admin_api.errors import Unavailable
from admin_api.service import Service
from admin_api.store import connections, sessions, state

log = structlog.get_logger()

MAX_CONNECTIONS = 100  # in one sweep
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
    """Forget expired sessions; ask again for the deletions that the provisioner has not done; count for the metrics."""
    async with service.transaction() as db:
        await sessions.delete_expired(db, now)
        unfinished = await connections.list_unfinished_deletions(db, MAX_CONNECTIONS)
        found = await state.count_state(db, now)
    for connection in unfinished:
        await service.publisher.publish(delete_connection(connection, ACTOR, now))
        log.info("connection.deletion.repeated", connection_id=str(connection.id))
        metrics.DELETIONS_REPEATED.inc()
    metrics.swept(found)
