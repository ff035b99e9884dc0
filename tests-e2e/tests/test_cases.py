"""Every scenario of every case file, one test each."""

import pytest

from e2e.conformance import case_folders
from e2e.player import Server, play
from e2e.scenarios import Scenario, load_all

SCENARIOS = load_all(case_folders())


def test_there_are_cases():
    assert len(SCENARIOS) > 100


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: f"{scenario.file}/{scenario.id}")
async def test_scenario(scenario: Scenario, server: Server):
    verdict = await play(scenario, server)

    if verdict.result == "skip":
        pytest.skip(verdict.reason)
    if verdict.result == "fail" and scenario.level == "info":
        pytest.xfail(verdict.reason)
    assert verdict.result == "pass", verdict.reason
