"""What the provisioner counts, and the spans of its batches; docs/observability.md explains each."""

import time
from collections.abc import Sequence

from prometheus_client import Counter, Gauge, Histogram

from contracts import Change
from provisioner.records import Item
from provisioner.results import Results
from servicekit import tracing
from servicekit.metrics import DURATIONS

_PHASES = Histogram(
    "provisioner_batch_phase_seconds", "Time of a batch's phases.", ("phase",), buckets=(0.0005, 0.001, *DURATIONS)
)
LOAD, DECIDE, FLUSH = (_PHASES.labels(phase) for phase in ("load", "decide", "flush"))
RECORDS = Histogram("provisioner_batch_records", "Records of a batch.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500))
RETRIES = Counter("provisioner_batch_retries", "Attempts at a batch that the infrastructure failed.")
ISOLATIONS = Counter("provisioner_batch_isolations", "Batches applied record by record, because of one at fault.")

CLAIMS = Counter("provisioner_claims", "Partitions taken over.")
CLAIMS_LOST = Counter("provisioner_claims_lost", "Batches that the fence kept from being written.")
PARTITIONS = Gauge("provisioner_partitions", "Partitions that this process works on.")
LAG_RECORDS = Gauge("provisioner_lag_records", "Records of a partition that are not applied.", ("partition",))
LAG_SECONDS = Gauge("provisioner_lag_seconds", "Age of a partition's oldest fetched, unapplied record.", ("partition",))

_CHANGES = Counter("provisioner_changes", "Changes decided.", ("resource_type", "operation", "status"))
_children: dict[tuple[str, str, int], Counter] = {}
AGE = Histogram("provisioner_change_age_seconds", "Time from a request to its commit.", buckets=(*DURATIONS, 60, 300))
QUARANTINED = Counter("provisioner_quarantined_records", "Records set aside.")
REFUSALS_LOST = Counter(
    "provisioner_refusals_lost", "Refused requests that could not be written into the provisioning log."
)
REPLIES_LOST = Counter("provisioner_replies_lost", "Outcomes and dead letters that could not be sent.")
EVENTS = Counter("provisioner_events_published", "Records sent to directory.events.")
GUARD_TRIPS = Counter("provisioner_guard_trips", "Bursts of deactivations that a guard noticed.")


class Attempt:
    """Times one attempt at a batch; the phases are told in order. Only a batch that is committed is counted."""

    def __init__(self) -> None:
        self._started = self._loaded = self._decided = time.time_ns()

    def loaded(self) -> None:
        self._loaded = time.time_ns()

    def decided(self) -> None:
        self._decided = time.time_ns()

    def committed(self, partition: int, run: Sequence[Item], results: Results) -> None:
        """Count what the batch did, and record a span for each change that is traced."""
        committed = time.time_ns()
        LOAD.observe((self._loaded - self._started) / 1e9)
        DECIDE.observe((self._decided - self._loaded) / 1e9)
        FLUSH.observe((committed - self._decided) / 1e9)
        RECORDS.observe(len(run))
        QUARANTINED.inc(len(results.poison))
        GUARD_TRIPS.inc(len(results.tripped))
        for change, outcome, _ in results.decided:
            _counter(change.resource_type.value, change.operation.value, outcome.status).inc()
            AGE.observe(max(0.0, committed / 1e9 - change.received_at.timestamp()))
        for record, item in run:
            if isinstance(item, Change) and item.traceparent:
                self._trace(item, {"messaging.kafka.offset": record.offset, "partition": partition, "batch": len(run)})

    def _trace(self, change: Change, attributes: tracing.Attributes) -> None:
        """The change's part in the batch, in the trace of its request: the batch, and in it the transaction."""
        applied = tracing.record(
            f"apply {change.resource_type.value} {change.operation.value}",
            change.traceparent,
            self._started,
            kind="consumer",
            attributes={"change_id": str(change.id), **attributes},
            events={"loaded": self._loaded, "decided": self._decided},
        )
        tracing.record(
            "transaction", applied, self._decided, kind="client", attributes={"db.system.name": "postgresql"}
        )


def show_lag(partition: int, records: int, oldest: int | None) -> None:
    """Of a partition that this process works on; `oldest` is when its oldest record was sent, in Unix milliseconds."""
    LAG_RECORDS.labels(str(partition)).set(max(0, records))
    LAG_SECONDS.labels(str(partition)).set(max(0.0, time.time() - oldest / 1000) if oldest else 0.0)


def hide_lag(partition: int) -> None:
    """Another process works on the partition, or none."""
    for gauge in (LAG_RECORDS, LAG_SECONDS):
        gauge.remove(str(partition))


def _counter(resource_type: str, operation: str, status: int) -> Counter:
    key = (resource_type, operation, status)
    if key not in _children:
        _children[key] = _CHANGES.labels(resource_type, operation, str(status))
    return _children[key]
