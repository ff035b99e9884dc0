"""Adding a member: does it cost the same in a group of 10,000 as of 10? `python bench/groups.py [STACK_JSON]`."""

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any
from uuid import UUID

from measuring import Connection, Stack, compare, main, medians

SIZES = (10, 10_000)
SPARE = 200  # users who become members one by one
LIMIT = 1.3
PATCH_OP = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


async def run(stack: Stack) -> bool:
    connection = await stack.add_connection(SIZES[-1] + SPARE)
    small, large = [[await stack.add_group(connection, size) for _ in range(2)] for size in SIZES]
    await stack.settle()
    rows = await stack.db.fetch(
        "SELECT id FROM users WHERE connection_id = $1 ORDER BY created_at DESC LIMIT $2", connection.id, SPARE
    )
    spare = [row["id"] for row in rows]
    without = {"excludedAttributes": "members"}
    taken = await medians(
        [
            adding(connection, small[0], spare, {}),
            adding(connection, large[0], spare, {}),
            adding(connection, small[1], spare, without),
            adding(connection, large[1], spare, without),
        ]
    )
    table = [("PATCH add", taken[0], taken[1]), ("PATCH add, members excluded", taken[2], taken[3])]
    return compare("Adding a member to a group", ("of 10", "of 10,000"), table, LIMIT)


def adding(
    connection: Connection, group_id: UUID, spare: list[UUID], params: dict[str, Any]
) -> Callable[[], Awaitable[None]]:
    """Each time another user."""
    turns = count()

    async def add() -> None:
        operation = {"op": "add", "path": "members", "value": [{"value": str(spare[next(turns)])}]}
        body = {"schemas": [PATCH_OP], "Operations": [operation]}
        await connection.send("PATCH", f"/Groups/{group_id}", json=body, params=params)

    return add


if __name__ == "__main__":
    main(run)
