"""Each alert fires in the case that it is for, and none in the healthy one: Prometheus's own promtool says so."""

import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from devstack.cache import cache_folder, locked

HERE = Path(__file__).parents[1]
RULES = HERE / "rules.yaml"
HOUSE = HERE.parents[1]
DURATION = "scim_gateway_request_duration_seconds"
POST = '{route="/Users",method="POST",outcome="success"'

# One sample a minute; values in promtool's notation: start+step x repetitions.
END, SAMPLES = "130m", 260
HEALTHY = {
    f"{DURATION}_count{POST}}}": f"0+600x{SAMPLES}",
    f'{DURATION}_bucket{POST},le="1.0"}}': f"0+600x{SAMPLES}",
    f'{DURATION}_count{{route="/Users",method="GET",outcome="success"}}': f"0+6000x{SAMPLES}",
    f'{DURATION}_count{{route="/Users",method="POST",outcome="unavailable"}}': f"0+0x{SAMPLES}",
    'scim_gateway_slots{kind="changes"}': f"512x{SAMPLES}",
    "scim_gateway_kafka_reachable": f"1x{SAMPLES}",
    'scim_gateway_unanswered_total{reason="not_accepted"}': f"3x{SAMPLES}",
    'scim_gateway_unanswered_total{reason="unknown"}': f"3x{SAMPLES}",
    'scim_gateway_outcome_wait_seconds_count{source="topic"}': f"0+600x{SAMPLES}",
    'scim_gateway_outcome_wait_seconds_count{source="table"}': f"0+1x{SAMPLES}",
    'scim_gateway_refusals_total{kind="changes",scope="connection"}': f"0+6x{SAMPLES}",
    'scim_gateway_auth_failures_total{reason="revoked"}': f"5x{SAMPLES}",
    'scim_gateway_auth_failures_total{reason="unknown"}': f"0+6x{SAMPLES}",
    'provisioner_partitions{instance="a"}': f"6x{SAMPLES}",
    'provisioner_partitions{instance="b"}': f"6x{SAMPLES}",
    'provisioner_lag_seconds{partition="3"}': f"0 1 0 2x{SAMPLES}",
    'provisioner_lag_records{partition="3"}': f"0 10 0 20x{SAMPLES}",
    "provisioner_batch_retries_total": f"2x{SAMPLES}",
    "provisioner_claims_total": f"24x{SAMPLES}",
    "provisioner_quarantined_records_total": f"1x{SAMPLES}",
    "provisioner_replies_lost_total": f"1x{SAMPLES}",
    "provisioner_guard_trips_total": f"1x{SAMPLES}",
    "directory_quarantined_records": f"0x{SAMPLES}",
    "directory_connections_failing": f"0x{SAMPLES}",
    "directory_connections_token_expires_7d": f"0x{SAMPLES}",
    "directory_connections_token_expires_1d": f"0x{SAMPLES}",
    "directory_guards_tripped": f"0x{SAMPLES}",
    "admin_api_sweep_last_success_timestamp_seconds": f"0+60x{SAMPLES}",
    'admin_api_sign_ins_total{result="refused"}': f"0+6x{SAMPLES}",
}
ERRORS = f'{DURATION}_count{{route="/Users",method="POST",outcome="unavailable"}}'
FAST = f'{DURATION}_bucket{POST},le="1.0"}}'


@dataclass(frozen=True)
class Case:
    """What differs from the healthy case (None: the series is missing), and the minute at which the alert is there."""

    differs: dict[str, str | None] = field(default_factory=dict)
    at: str = "20m"


CASES = {
    # 2 % of 11 requests a second fail: 20 times the budget.
    "ScimErrorsBurnFast": Case({ERRORS: f"0+132x{SAMPLES}"}, at="10m"),
    "ScimErrorsBurnSlowly": Case({ERRORS: f"0+26x{SAMPLES}"}, at="60m"),
    "ScimLatencyBurnFast": Case({FAST: f"0+480x{SAMPLES}"}, at="10m"),
    "ScimLatencyBurnSlowly": Case({FAST: f"0+576x{SAMPLES}"}, at="60m"),
    "GatewayAbsent": Case({'scim_gateway_slots{kind="changes"}': None}),
    "GatewayWithoutKafka": Case({"scim_gateway_kafka_reachable": f"1x5 0x{SAMPLES}"}),
    "ChangesNotAccepted": Case({'scim_gateway_unanswered_total{reason="not_accepted"}': f"0+1x{SAMPLES}"}),
    "OutcomesTimeOut": Case({'scim_gateway_unanswered_total{reason="unknown"}': f"0+1x{SAMPLES}"}),
    "OutcomesFoundLate": Case({'scim_gateway_outcome_wait_seconds_count{source="table"}': f"0+60x{SAMPLES}"}),
    "GatewayOverloaded": Case({'scim_gateway_refusals_total{kind="changes",scope="connection"}': f"0+120x{SAMPLES}"}),
    "RevokedTokenInUse": Case({'scim_gateway_auth_failures_total{reason="revoked"}': f"0+1x{SAMPLES}"}),
    "TokensGuessed": Case({'scim_gateway_auth_failures_total{reason="unknown"}': f"0+600x{SAMPLES}"}),
    "PartitionsUnowned": Case({'provisioner_partitions{instance="b"}': f"6x5 0x{SAMPLES}"}),
    "ConsumerLag": Case({'provisioner_lag_seconds{partition="3"}': f"0+5x{SAMPLES}"}),
    "ConsumerLagGrows": Case({'provisioner_lag_records{partition="3"}': f"0+200x{SAMPLES}"}, at="40m"),
    "BatchesRetried": Case({"provisioner_batch_retries_total": f"0+30x{SAMPLES}"}),
    "ClaimsChurn": Case({"provisioner_claims_total": f"0+12x{SAMPLES}"}, at="40m"),
    "QuarantineGrows": Case({"provisioner_quarantined_records_total": "0x10 1x20"}, at="12m"),
    "QuarantineUnresolved": Case({"directory_quarantined_records": f"1x{SAMPLES}"}, at="250m"),
    "RepliesLost": Case({"provisioner_replies_lost_total": f"0+1x{SAMPLES}"}),
    "ConnectionsFailing": Case({"directory_connections_failing": f"1x{SAMPLES}"}, at="40m"),
    "TokensExpireSoon": Case({"directory_connections_token_expires_7d": f"2x{SAMPLES}"}, at="70m"),
    "TokensExpireTomorrow": Case({"directory_connections_token_expires_1d": f"1x{SAMPLES}"}),
    "GuardTripped": Case({"provisioner_guard_trips_total": "0x10 1x20"}, at="12m"),
    "AdminApiAbsent": Case({"admin_api_sweep_last_success_timestamp_seconds": None}),
    "SweepStalled": Case({"admin_api_sweep_last_success_timestamp_seconds": f"60x{SAMPLES}"}),
    "SignInsRefused": Case({'admin_api_sign_ins_total{result="refused"}': f"0+60x{SAMPLES}"}),
}


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def expressions() -> list[str]:
    """Every query of every dashboard."""
    found = []
    for file in sorted((HERE / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            found += [target["expr"] for target in panel.get("targets", ())]
    return found


@pytest.fixture(scope="session")
def promtool() -> str:
    """PROMTOOL, or what PATH has; else Debian's package or Go's module of Prometheus, kept in the cache folder."""
    if found := os.environ.get("PROMTOOL") or shutil.which("promtool"):
        return found
    folder = cache_folder() / "promtool"
    with locked(cache_folder() / "promtool.lock"):
        if not (folder / "promtool").exists():
            folder.mkdir(exist_ok=True)
            if not (from_debian(folder) or from_go(folder)):
                assert not os.environ.get("REQUIRE_PROMTOOL"), "promtool is required here and cannot be had"
                pytest.skip("NOT TESTED: no promtool; install Prometheus, or set PROMTOOL")
    return str(folder / "promtool")


def from_debian(folder: Path) -> bool:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return False
    if subprocess.run(["apt-get", "download", "prometheus"], cwd=folder, capture_output=True).returncode:
        return False
    package = next(folder.glob("prometheus_*.deb"))
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as files,
    ):
        for file in files:
            if file.name == "./usr/bin/promtool":
                file.name = "promtool"
                files.extract(file, folder, filter="data")
    package.unlink()
    return (folder / "promtool").exists()


def from_go(folder: Path) -> bool:
    module = "github.com/prometheus/prometheus/cmd/promtool@v0.307.3"
    environment = os.environ | {"GOBIN": str(folder)}
    return bool(shutil.which("go")) and not subprocess.run(["go", "install", module], env=environment).returncode


def check(promtool: str, tests: list[dict[str, Any]], folder: Path) -> None:
    """Run promtool's unit tests of the rules."""
    file = folder / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    ran = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def series(differs: dict[str, str | None]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in {**HEALTHY, **differs}.items() if values is not None]


def expectation(name: str, rule: dict[str, Any], at: str, *, fires: bool) -> dict[str, Any]:
    alert = {"exp_labels": rule["labels"], "exp_annotations": rule["annotations"]}
    return {"eval_time": at, "alertname": name, "exp_alerts": [alert] if fires else []}


def test_every_alert_has_a_case():
    assert set(CASES) == set(alerts())


def test_every_alert_fires_once_in_its_case(promtool: str, tmp_path: Path):
    tests = [
        {
            "name": name,
            "interval": "1m",
            "input_series": series(CASES[name].differs),
            "alert_rule_test": [expectation(name, rule, CASES[name].at, fires=True)],
        }
        for name, rule in alerts().items()
    ]

    check(promtool, tests, tmp_path)


def test_no_alert_fires_in_the_healthy_case(promtool: str, tmp_path: Path):
    silent = [expectation(name, rule, at, fires=False) for name, rule in alerts().items() for at in ("30m", END)]

    check(promtool, [{"interval": "1m", "input_series": series({}), "alert_rule_test": silent}], tmp_path)


def test_every_alert_names_a_runbook_that_exists_and_how_urgent_it_is():
    for name, rule in alerts().items():
        runbook = Path(rule["annotations"]["runbook_url"])
        assert runbook.parent == Path("docs/runbooks"), name
        assert (HOUSE / runbook).is_file(), name
        assert rule["labels"]["severity"] in ("page", "ticket"), name


def test_every_query_of_the_dashboards_is_promql(promtool: str, tmp_path: Path):
    rules = [
        {"record": f"query:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(expressions())
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))

    ran = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True)

    assert rules
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("file", sorted((HERE / "dashboards").glob("*.json")), ids=lambda file: file.stem)
def test_a_dashboard_can_be_imported_anywhere(file: Path):
    dashboard = json.loads(file.read_text())

    assert dashboard["uid"] == f"directory-sync-{file.stem}"
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource"]
    assert all(panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"} for panel in dashboard["panels"])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
