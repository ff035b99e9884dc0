"""An admin's handlers at the operator's command line: the same checks, the same audit trail."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol
from uuid import UUID

from pydantic import ValidationError

from admin_api.changes import Changes, Publisher
from admin_api.cli.frame import Failure
from admin_api.cli.quarantine import actor
from admin_api.paging import MAX_LIMIT, Paging
from admin_api.principals import Principal
from admin_api.service import Core
from admin_api.settings import OperatorSettings
from admin_api.shapes import Body
from admin_api.store.database import open_engine, transactions
from admin_api.store.organizations import get_organization
from servicekit.settings import load


class Listed(Protocol):
    """A page of a list."""

    next_cursor: str | None


def as_admin[T](organization_id: UUID, work: Callable[[Principal, Core], Awaitable[T]]) -> T:
    """The result of `work`, which may in the organization what an admin may, whatever its plan."""

    async def run() -> T:
        async with _open_core(load(OperatorSettings)) as core:
            async with core.transaction() as db:
                organization = await get_organization(db, organization_id)
            if organization is None:
                raise Failure("there is no organization of that id")
            return await work(Principal(organization, actor(), is_admin=True), core)

    return asyncio.run(run())


async def whole[T: Listed](ask: Callable[[Paging], Awaitable[T]]) -> list[T]:
    """All pages of a list."""
    pages = [await ask(Paging(MAX_LIMIT, None))]
    while pages[-1].next_cursor:
        pages.append(await ask(Paging(MAX_LIMIT, pages[-1].next_cursor)))
    return pages


def parsed[B: Body](shape: type[B], **values: Any) -> B:
    """What a request's body would be; raises Failure (code 2) with the first thing that is wrong."""
    try:
        return shape(**values)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise Failure(f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}", 2) from error


@asynccontextmanager
async def _open_core(settings: OperatorSettings) -> AsyncIterator[Core]:
    dsn = settings.database_url.get_secret_value()
    publisher = Publisher(settings.kafka())
    try:
        async with open_engine(dsn, pool_size=2) as engine:
            transaction = transactions(engine)
            yield Core(transaction, publisher, Changes(publisher, transaction), settings.pepper())
    finally:
        await publisher.close()
