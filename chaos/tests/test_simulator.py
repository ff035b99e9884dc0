"""The simulator: the pure core keeps its promises under simulated faults, and a planted mistake is noticed."""

import os

import pytest

from chaos.simulator.runs import DEATHS, run, run_deaths
from chaos.simulator.world import Bug

SEEDS = 5000 if os.environ.get("LONG") else 150
PLANTED_SEEDS = 50
ALL_DEATHS = 1000


@pytest.mark.timeout(600)
def test_the_core_keeps_its_promises_whatever_the_seed():
    runs = [run(seed) for seed in range(SEEDS)]

    assert [(each.seed, *each.broken) for each in runs if each.broken] == []
    assert sum(each.acknowledged for each in runs) > 40 * SEEDS
    assert sum(each.faults for each in runs) > 10 * SEEDS
    assert sum(each.unknown for each in runs) > SEEDS


def test_a_seed_gives_the_same_run_each_time():
    assert run(7) == run(7)
    assert run(7) != run(8)


@pytest.mark.parametrize("bug", Bug)
def test_a_planted_mistake_is_noticed_within_50_seeds_and_the_operations_are_named(bug: Bug):
    broken = next(filter(None, (run(seed, bug).broken for seed in range(PLANTED_SEEDS))), ())

    promise = {Bug.NO_FENCE: "P9:", Bug.ADVANCE_FIRST: "P2: no outcome for", Bug.REPLY_FIRST: "P4:"}[bug]
    assert any(line.startswith(promise) for line in broken), broken
    assert any("User" in line or "create" in line or "write" in line for line in broken)


def test_p2_p3_a_create_that_is_repeated_through_1000_deaths_makes_one_resource():
    runs = [run_deaths(seed) for seed in range(ALL_DEATHS // DEATHS)]

    assert [(each.seed, *each.broken) for each in runs if each.broken] == []
    assert sum(each.faults for each in runs) == ALL_DEATHS
