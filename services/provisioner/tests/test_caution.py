"""A record that ends the process: counted claims, marks, and the quarantine at last (P11)."""

from dataclasses import replace

import pytest

from contracts import CHANGES, Change
from provisioner import caution
from provisioner.caution import ENDED, divide, suspects
from provisioner.engine import ClaimLost
from provisioner.queue import MAX_BATCH
from provisioner.records import NewerVersion, Record
from provisioner.store.claims import Claim, OtherCluster


async def status_of(world, change: Change) -> int | None:
    outcome = await world.outcome(change.id)
    return outcome.status if outcome else None


FIRST = Claim(CHANGES.name, 0, next_offset=10, epoch=1, times=1)


@pytest.mark.parametrize(
    ("times", "log_end", "expected"),
    [
        (1, 20, range(0)),
        (2, 20, range(10, 20)),
        (2, 10, range(10, 10)),
        (5, 10_000, range(10, 10 + MAX_BATCH)),
    ],
    ids=["first claim", "second claim", "nothing there", "no more than a batch"],
)
def test_suspects_are_what_the_next_batch_was_made_of(times: int, log_end: int, expected: range):
    assert suspects(replace(FIRST, times=times), log_end) == expected


def test_suspects_come_first_and_alone():
    records = [Record("t", 0, offset, None, None) for offset in range(10, 14)]

    alone, together = divide(records, range(10, 12))

    assert [record.offset for record in alone] == [10, 11]
    assert [record.offset for record in together] == [12, 13]


async def test_claims_are_counted_while_the_offset_stands_still(world):
    async def claim() -> int:
        return (await world.engine.claim(CHANGES.name, 0, 0, "test")).times

    assert [await claim(), await claim()] == [2, 3]  # the world has claimed once
    world.claim = await world.engine.claim(CHANGES.name, 0, 0, "test")
    await world.apply(world.create("moves"))

    assert [await claim(), await claim()] == [1, 2]


async def test_a_record_alone_is_applied_like_any_other(world):
    create = world.create("ada")

    claim = await world.engine.apply_alone(world.claim, world.records([create])[0])

    assert claim.next_offset == world.claim.next_offset + 1
    assert await status_of(world, create) == 201


async def test_p11_a_record_that_was_marked_twice_is_set_aside_with_an_outcome_and_the_rest_goes_on(world):
    create, after = world.create("ada"), world.create("after")
    record, following = world.records([create, after])
    for _ in range(2):  # two processes that did not come back from it
        await caution.mark(world.pool, world.claim)

    claim = await world.engine.apply_alone(world.claim, record)
    await world.engine.apply_alone(claim, following)

    (row,) = await world.rows("quarantine")
    assert (row["error"], row["value"], row["change_id"]) == (ENDED, record.value, create.id)
    assert await status_of(world, create) == 500
    assert [user["user_name"] for user in await world.rows("users")] == ["after"]


async def test_p11_a_record_that_cannot_even_be_decoded_alive_is_set_aside_undecoded(world):
    record = world.records([world.create("ada")])[0]
    for _ in range(3):
        await caution.mark(world.pool, world.claim)

    await world.engine.apply_alone(world.claim, record)

    (row,) = await world.rows("quarantine")
    assert (row["error"], row["value"], row["change_id"]) == (ENDED, record.value, None)


async def test_a_newer_version_is_a_mistake_of_the_roll_out_however_often_it_is_met(world):
    newer = world.records([world.create("ada").model_dump_json().replace('"version":1', '"version":99').encode()])[0]

    for _ in range(4):
        with pytest.raises(NewerVersion):
            await world.engine.apply_alone(world.claim, newer)

    assert await world.rows("quarantine") == []


async def test_p9_a_zombie_does_not_mark(world):
    record = world.records([world.create("ada")])[0]
    await world.engine.claim(CHANGES.name, 0, 0, "another")

    with pytest.raises(ClaimLost):
        await world.engine.apply_alone(world.claim, record)
    (offset,) = await world.rows("partition_offsets")
    assert offset["marks"] == 0


async def test_offsets_of_another_cluster_are_not_taken_over_and_their_owner_keeps_them(world):
    await world.engine.claim(CHANGES.name, 0, 0, "right", "cluster-a")
    (before,) = await world.rows("partition_offsets")

    with pytest.raises(OtherCluster, match=r"cluster-a.*cluster-b.*runbooks/offset-outside-log"):
        await world.engine.claim(CHANGES.name, 0, 0, "wrong", "cluster-b")

    assert await world.rows("partition_offsets") == [before]


async def test_offsets_from_before_clusters_were_noted_get_their_cluster_with_the_next_claim(world):
    claim = await world.engine.claim(CHANGES.name, 0, 0, "test", "cluster-a")

    (offset,) = await world.rows("partition_offsets")
    assert (offset["cluster_id"], claim.epoch) == ("cluster-a", 2)
