"""What the gateway counts; docs/observability.md explains each. Children are looked up once, here, not per request."""

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

from servicekit.metrics import DURATIONS, Requests

AUTH_REASONS = ("malformed", "unknown", "expired", "revoked", "no_plan", "network", "scope", "throttled")

REQUESTS = Requests("scim_gateway")

_IN_USE = Gauge("scim_gateway_slots_in_use", "Slots taken, by what they are for.", ("kind",))
_SLOTS = Gauge("scim_gateway_slots", "Slots that there are, by what they are for.", ("kind",))
_REFUSALS = Counter("scim_gateway_refusals", "Requests refused for want of a slot, by whose.", ("kind", "scope"))

_WAIT = Histogram(
    "scim_gateway_outcome_wait_seconds",
    "Time from a change's admission to its outcome, by where it was found.",
    ("source",),
    buckets=DURATIONS,
)
FROM_TOPIC, FROM_TABLE = _WAIT.labels("topic"), _WAIT.labels("table")

_UNANSWERED = Counter("scim_gateway_unanswered", "Changes answered 503: not accepted, or outcome unknown.", ("reason",))
NOT_ACCEPTED, UNKNOWN = _UNANSWERED.labels("not_accepted"), _UNANSWERED.labels("unknown")
ABANDONED = Counter("scim_gateway_outcomes_abandoned", "Slots given up because no outcome came in their lifetime.")
PENDING = Gauge("scim_gateway_outcomes_pending", "Changes whose outcome has not been seen.")

REFUSALS_LOST = Counter("scim_gateway_refusals_lost", "Refusals that did not get on their way to the provisioning log.")

_AUTH_FAILURES = Counter("scim_gateway_auth_failures", "Requests without a token that is good here.", ("reason",))
AUTH_FAILURES = {reason: _AUTH_FAILURES.labels(reason) for reason in AUTH_REASONS}

KAFKA_REACHABLE = Gauge("scim_gateway_kafka_reachable", "1 while Kafka has answered in the last seconds.")
PRODUCER_OPEN = Gauge("scim_gateway_producer_open", "1 while changes can be published.")
PRODUCER_FAILURES = Counter("scim_gateway_producer_failures", "Times that the producer broke and was made anew.")
OUTCOMES_POSITIONED = Gauge("scim_gateway_outcomes_positioned", "1 while outcomes are read as they come.")
OUTCOMES_RECONNECTS = Counter("scim_gateway_outcomes_reconnects", "Times that reading outcomes failed or stalled.")


def refusal(kind: str, scope: str) -> Counter:
    """The counter of refusals for want of a slot of this kind, the connection's or the gateway's."""
    return _REFUSALS.labels(kind, scope)


def watch_slots(kind: str, total: int, in_use: Callable[[], int]) -> None:
    """Show `in_use` of `total` slots whenever somebody scrapes."""
    _SLOTS.labels(kind).set(total)
    _IN_USE.labels(kind).set_function(in_use)
