"""What admin-api counts; docs/observability.md explains each.

The state of the directory is shown in sums over all organizations: no series names one. Every process shows the same.
"""

import time
from collections.abc import Mapping

from prometheus_client import Counter, Gauge

from servicekit.metrics import Requests

REQUESTS = Requests("admin_api")

_SIGN_INS = Counter("admin_api_sign_ins", "Attempts to sign in with a password.", ("result",))
SIGNED_IN, SIGN_IN_REFUSED, SIGN_IN_THROTTLED = (_SIGN_INS.labels(each) for each in ("success", "refused", "throttled"))

SWEPT_AT = Gauge("admin_api_sweep_last_success_timestamp_seconds", "When a sweep last ended well, Unix time.")
SWEEPS_POSTPONED = Counter("admin_api_sweeps_postponed", "Sweeps that found Postgres or Kafka away.")
DELETIONS_REPEATED = Counter("admin_api_deletions_repeated", "Deletions of connections that were asked for again.")

STATE = {
    "connections": Gauge("directory_connections", "Connections that are not deleted."),
    "connections_failing": Gauge(
        "directory_connections_failing",
        "Connections whose changes have all been refused for a quarter of an hour.",
    ),
    "connections_without_token": Gauge("directory_connections_without_token", "Connections without a live token."),
    "tokens_expire_in_7_days": Gauge(
        "directory_connections_token_expires_7d", "Connections whose last live token expires within 7 days."
    ),
    "tokens_expire_in_1_day": Gauge(
        "directory_connections_token_expires_1d", "Connections whose last live token expires within a day."
    ),
    "guards_tripped": Gauge("directory_guards_tripped", "Connections whose guard was tripped in the last hour."),
    "held_changes": Gauge("directory_held_changes", "Deactivations that a guard holds until an admin decides."),
    "quarantined": Gauge("directory_quarantined_records", "Records in the quarantine that nobody has dealt with."),
}


def swept(state: Mapping[str, int]) -> None:
    """A sweep ended well and found the directory in this state."""
    for name, value in state.items():
        STATE[name].set(value)
    SWEPT_AT.set(time.time())
