"""Other people's conformance suites against the running stack (scim-behaviour.md section 6)."""

import asyncio
import json
import sys
from pathlib import Path

import httpx2
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import CheckResult, Status, check_server

from e2e.conformance import main
from e2e.stack import Stack
from e2e.tls import authorities


def check(stack: Stack) -> list[CheckResult]:
    headers = {"authorization": f"Bearer {stack.token}"}
    with httpx2.Client(
        base_url=stack.scim_url, headers=headers, trust_env=False, timeout=30, verify=authorities()
    ) as http:
        return check_server(SyncSCIMClient(http))


async def test_scim2_tester_finds_no_error(stack: Stack):
    results = await asyncio.to_thread(check, stack)

    bad = {f"{each.title}: {each.reason}" for each in results if each.status in (Status.ERROR, Status.DEVIATION)}
    assert bad == set()
    assert len(results) > 50


async def test_scim_sanity_has_nothing_failing(stack: Stack):
    probe = ["probe", stack.scim_url, "--token", stack.token, "--i-accept-side-effects", "--json-output"]
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("scim-sanity")), *probe, "--user-domain", "example.com"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()

    report = json.loads(output)
    bad = [each for each in report["results"] if each["status"] not in ("pass", "skip")]
    assert [f"{each['name']}: {each.get('message')}" for each in bad] == []
    assert report["summary"]["passed"] >= 15


async def test_the_conformance_command_prints_a_table(stack: Stack, capsys):
    arguments = ["--url", stack.scim_url, "--token", stack.token, "--only", "onelogin-match-create"]

    code = await asyncio.to_thread(main, arguments)

    assert code == 0
    assert "1 passed, 0 failed, 0 skipped" in capsys.readouterr().out
