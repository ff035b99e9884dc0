"""What the provisioner counts."""

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from provisioner import metrics
from provisioner.records import Item, Poison, Record
from provisioner.results import Results

PARTITION = 997  # no other test's


@pytest.fixture
def lag() -> Iterator[None]:
    yield
    metrics.hide_lag(PARTITION)


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


@pytest.mark.usefixtures("lag")
def test_lag_is_shown_for_as_long_as_the_partition_is_ours():
    metrics.show_lag(PARTITION, 3, 1)
    shown = (
        value("provisioner_lag_records", partition=str(PARTITION)),
        value("provisioner_lag_seconds", partition=str(PARTITION)),
    )

    metrics.hide_lag(PARTITION)
    metrics.hide_lag(PARTITION)

    assert shown[0] == 3
    assert (shown[1] or 0) > 1_000_000_000
    assert value("provisioner_lag_records", partition=str(PARTITION)) is None


@pytest.mark.usefixtures("lag")
def test_an_applied_partition_has_no_lag():
    metrics.show_lag(PARTITION, -1, None)

    assert value("provisioner_lag_records", partition=str(PARTITION)) == 0
    assert value("provisioner_lag_seconds", partition=str(PARTITION)) == 0


def test_a_committed_batch_counts_its_records_phases_and_what_it_set_aside():
    record = Record("scim.changes", PARTITION, 0, None, b"not JSON")
    run: list[Item] = [(record, Poison(record, "not JSON"))]
    names = ("provisioner_quarantined_records_total", "provisioner_batch_records_sum")
    before = [value(name) or 0 for name in names]
    flushes = value("provisioner_batch_phase_seconds_count", phase="flush") or 0

    attempt = metrics.Attempt()
    attempt.loaded()
    attempt.decided()
    attempt.committed(PARTITION, run, Results(poison=[Poison(record, "not JSON")]))

    assert [value(name) for name in names] == [count + 1 for count in before]
    assert value("provisioner_batch_phase_seconds_count", phase="flush") == flushes + 1
