"""A deadlock or a serialisation failure is nobody's fault: the batch is applied again, in its order."""

import asyncio

WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
FAIL_ONCE = """
    CREATE SEQUENCE tries;
    CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
        IF nextval('tries') = 1 THEN
            RAISE EXCEPTION 'could not serialize access' USING ERRCODE = 'serialization_failure';
        END IF;
        RETURN new;
    END $$;
    CREATE TRIGGER fail_once BEFORE INSERT ON outcomes FOR EACH STATEMENT EXECUTE FUNCTION fail_once();
"""


async def test_a_batch_that_postgres_picks_as_the_victim_of_a_deadlock_is_applied_in_order(world):
    await world.apply(world.create("first"))  # so that there are counters to update, and to lock
    async with world.owner.acquire() as other, other.transaction():
        # The flush holds the partition's row and waits for the counters; the other one waits for that row then.
        # Postgres looks for a deadlock a second after a wait began, so the flush, which waited first, is the victim.
        await other.execute("SELECT FROM connection_stats FOR UPDATE")
        applying = asyncio.create_task(world.apply(world.create("ada"), world.create("ada"), world.create("bob")))
        async with asyncio.timeout(10):
            while not await world.owner.fetchval(WAITING):
                await asyncio.sleep(0.01)
        await other.execute("UPDATE partition_offsets SET owner = owner")

    assert [outcome.status for outcome in await applying] == [201, 409, 201]
    assert [row["user_name"] for row in await world.rows("users ORDER BY user_name")] == ["ada", "bob", "first"]
    assert await world.rows("quarantine") == []


async def test_a_serialisation_failure_is_tried_again_in_order(world):
    await world.owner.execute(FAIL_ONCE)

    outcomes = await world.apply(world.create("ada"), world.create("ada"))

    assert [outcome.status for outcome in outcomes] == [201, 409]
    assert await world.owner.fetchval("SELECT last_value FROM tries") == 2
    assert await world.rows("quarantine") == []
