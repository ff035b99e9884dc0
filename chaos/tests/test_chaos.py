"""The harness on real processes: a run without violations, and planted mistakes that it notices (LONG=1)."""

import asyncio
import subprocess
import sys

import pytest

from chaos.planted import MISTAKES

FAULTS = 30
DEATHS = 50
PLANTED_SEEDS = 50
PROMISES = {"no-fence": "P9: ", "advance-first": "P2: no outcome for ", "reply-first": "P4: "}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_can_still_be_planted(mistake: str):
    command = [sys.executable, "-c", f"from chaos.planted import MISTAKES; MISTAKES[{mistake!r}]()"]

    subprocess.run(command, check=True)


async def chaos(*arguments: str) -> tuple[int, str]:
    """Exit code and output of `python -m chaos`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chaos", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    print(output.decode())
    return process.returncode or 0, output.decode()


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_30_faults_break_no_promise():
    status, output = await chaos("run", "--faults", str(FAULTS))

    assert status == 0, output[-3000:]
    assert "no violation" in output


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_p2_p3_creates_are_answered_through_50_deaths_between_publication_and_answer():
    status, output = await chaos("deaths", "--number", str(DEATHS))

    assert status == 0, output[-3000:]
    assert f"{DEATHS} deaths" in output


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_planted_mistake_fails_a_run_within_50_seeds_and_the_operations_are_named(mistake: str):
    status, output = await chaos(
        *("run", "--seed", "1", "--seeds", str(PLANTED_SEEDS), "--faults", "8", "--writes", "0", "--mistake", mistake)
    )

    assert status == 1
    assert "violations" in output
    assert PROMISES[mistake] in output
