"""A page of 100 users: does it cost the same among 100,000 as among 1,000? `python bench/lists.py [STACK_JSON]`."""

from collections.abc import Awaitable, Callable

from measuring import Connection, Stack, compare, main, medians

SIZES = (1_000, 100_000)
LIMIT = 1.5
PAGE = 100


async def run(stack: Stack) -> bool:
    connections = [await stack.add_connection(size) for size in SIZES]
    await stack.settle()
    small, large = [await pages(connection, size) for connection, size in zip(connections, SIZES, strict=True)]
    taken = await medians([measure for pair in zip(small.values(), large.values(), strict=True) for measure in pair])
    rows = [(name, taken[2 * place], taken[2 * place + 1]) for place, name in enumerate(small)]
    return compare(f"A page of {PAGE} users", ("of 1,000", "of 100,000"), rows, LIMIT)


async def pages(connection: Connection, size: int) -> dict[str, Callable[[], Awaitable[None]]]:
    """What is measured of one connection, by name."""
    cursors = await walk(connection, size)
    return {
        "by index, first page": page(connection, startIndex=1),
        "by cursor, first page": page(connection, cursor=""),
        "by cursor, in the middle": page(connection, cursor=cursors[len(cursors) // 2]),
        "by cursor, at the end": page(connection, cursor=cursors[-1]),
    }


async def walk(connection: Connection, size: int) -> list[str]:
    """The cursors of all pages; everybody is seen once."""
    cursors: list[str] = []
    seen: set[str] = set()
    following: str | None = ""
    while following is not None:
        cursors.append(following)
        document = (await connection.send("GET", "/Users", params={"cursor": following, "count": PAGE})).json()
        assert document["totalResults"] == size
        seen |= {resource["id"] for resource in document["Resources"]}
        following = document.get("nextCursor")
    assert len(seen) == size
    return cursors


def page(connection: Connection, **params: str | int) -> Callable[[], Awaitable[None]]:
    async def read() -> None:
        answer = await connection.send("GET", "/Users", params={"count": PAGE, **params})
        assert answer.json()["itemsPerPage"] == PAGE

    return read


if __name__ == "__main__":
    main(run)
