"""The application: the only place that knows every part."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import asyncpg
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from scim.errors import NotImplementedYet
from scim_gateway import bulk, discovery, openapi, resources
from scim_gateway.admission import Slots
from scim_gateway.auth import GATEWAY, Authenticator, authenticate
from scim_gateway.broker import Reachability
from scim_gateway.changes import Changes
from scim_gateway.cursors import Cursors
from scim_gateway.edge import Edge, InFlight
from scim_gateway.endpoints import Handler, Unknown, route
from scim_gateway.gateway import Gateway, base_url
from scim_gateway.outcomes import Outcomes
from scim_gateway.publisher import STOP_SECONDS, Publisher
from scim_gateway.rates import Buckets
from scim_gateway.refusals import Refusals
from scim_gateway.related import Related
from scim_gateway.served import SERVED
from scim_gateway.settings import Settings
from scim_gateway.shedding import Shedding
from scim_gateway.store.filter_sql import fold_map
from servicekit.health import Health
from servicekit.postgres import check_revision, open_pool

log = structlog.get_logger()

NEEDED_REVISION = "0004"
NO_ME = "A connection's token acts for no user of its own, so /Me names nobody; use /Users."
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class KafkaAway(Exception):
    """The broker has not answered for some seconds."""


class TaskEnded(Exception):
    """A task that runs as long as the process has returned."""


class NoProducer(Exception):
    """Changes could not be published now."""


class NotPositioned(Exception):
    """Outcomes published now would be read late, by the poll."""


def create_app(settings: Settings, health: Health | None = None) -> ASGIApp:
    """Wire the gateway. Connects to nothing until its lifespan starts, and then waits for nothing: Kafka and Postgres
    may come later.

    Starlette's routes without its application, and no FastAPI: their layers between server and endpoint would be an
    eighth of what a request costs (decision 0011).
    """
    health, in_flight = health or Health(), InFlight()

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[dict[str, Gateway]]:
        async with open_gateway(settings, health) as gateway:
            yield {GATEWAY: gateway}
            await drained(in_flight, settings.gateway_drain_deadline)

    routes = [*scim_routes(base_url(settings)), *health.routes(), Route("/{path:path}", Unknown())]
    return Edge(Router(routes, redirect_slashes=False, lifespan=lifespan), in_flight)


def scim_routes(url: str) -> list[Route]:
    """Resources first: they are matched in order, and they are what is asked for."""
    routes: list[Route] = []
    for served in SERVED:
        one = {"GET": resources.get, "PUT": resources.replace, "PATCH": resources.patch, "DELETE": resources.delete}
        routes += [
            route(served.endpoint, {"GET": resources.search, "POST": resources.create}, served.endpoint),
            route(f"{served.endpoint}/.search", {"POST": resources.search_by_post}, served.endpoint),
            route(f"{served.endpoint}/{{id}}", one, served.endpoint),
        ]
    routes += [route(path, {"GET": handler}) for path, handler in discovery.handlers(url).items()]
    routes += [
        route("/Bulk", {"POST": bulk.bulk}),
        route("/Me", dict.fromkeys(_METHODS, not_offered(NO_ME))),
        route("/.search", {"POST": resources.search_everything}),
        route("/openapi.json", {"GET": openapi.get}),
    ]
    return routes


def not_offered(detail: str) -> Handler:
    """Answers what RFC 7644 knows and this server does not do."""

    async def answer(request: Request) -> Response:
        await authenticate(request)
        raise NotImplementedYet(detail)

    return answer


@asynccontextmanager
async def open_gateway(settings: Settings, health: Health) -> AsyncIterator[Gateway]:
    """The parts, running; closed in reverse order, so that what was accepted is flushed before Postgres goes."""
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(fold_map, True)  # now, so that no request waits for it
        pepper = settings.token_pepper.get_secret_value().encode()
        reachability, kafka = Reachability(), settings.kafka()
        pool = await stack.enter_async_context(
            open_pool(
                settings.gateway_database_url.get_secret_value(),
                service="scim-gateway",
                max_size=settings.gateway_pool_size,
                settings={"default_transaction_read_only": "on"},
                resets=False,
            )
        )
        outcomes = Outcomes(kafka, pool, reachability, settings.gateway_slot_lifetime)
        publisher, refusals = Publisher(kafka, reachability), Refusals(kafka)
        tasks = [
            asyncio.create_task(work) for work in (outcomes.listen(), outcomes.poll(), publisher.run(), refusals.run())
        ]
        for task in tasks:
            stack.push_async_callback(_stop, task)
        slots = slots_of(settings, "changes")
        changes = Changes(
            slots,
            publisher,
            outcomes,
            timedelta(seconds=settings.gateway_outcome_deadline),
            hmac.digest(pepper, b"fingerprints", "sha256"),
        )
        _watch(health, reachability, publisher, outcomes, pool, tasks)
        authenticator = authenticator_of(settings, pool, pepper)
        yield Gateway(
            settings=settings,
            pool=pool,
            authenticator=authenticator,
            changes=changes,
            reading=slots_of(settings, "reading"),
            large=Slots(settings.gateway_large_slots, settings.gateway_connection_large_slots, kind="large"),
            shedding=Shedding(slots, authenticator, refusals),
            refusals=refusals,
            cursors=Cursors(hmac.digest(pepper, b"cursors", "sha256")),
            related=Related(pool, base_url(settings)),
            base_url=base_url(settings),
        )


def slots_of(settings: Settings, kind: str) -> Slots:
    return Slots(
        settings.gateway_global_slots,
        settings.gateway_connection_slots,
        settings.gateway_reserved_slots,
        window=settings.gateway_connection_window,
        kind=kind,
    )


def authenticator_of(settings: Settings, pool: asyncpg.Pool, pepper: bytes) -> Authenticator:
    return Authenticator(
        pool,
        pepper,
        Buckets(settings.gateway_guess_rate, settings.gateway_guess_burst),
        Buckets(settings.gateway_connection_rate, settings.gateway_connection_burst),
        settings.trusted_proxies,
    )


async def drained(in_flight: InFlight, deadline: float) -> None:
    """Wait for the requests in flight: they hold changes whose outcome is on its way."""
    try:
        async with asyncio.timeout(deadline):
            await in_flight.idle()
    except TimeoutError:
        log.warning("drain.incomplete", in_flight=in_flight.count)


def _watch(
    health: Health,
    reachability: Reachability,
    publisher: Publisher,
    outcomes: Outcomes,
    pool: asyncpg.Pool,
    tasks: Sequence[asyncio.Task[None]],
) -> None:
    async def working() -> None:
        for task in tasks:
            if task.done():
                task.result()  # raises what ended it
                raise TaskEnded

    async def kafka() -> None:
        if not reachability.is_reachable:
            raise KafkaAway

    async def publishing() -> None:
        if not publisher.is_open:
            raise NoProducer

    async def positioned() -> None:
        if not outcomes.is_positioned:
            raise NotPositioned

    health.add_live("tasks", working)
    health.add("kafka", kafka)
    health.add("changes", publishing)
    health.add("outcomes", positioned)
    health.add("postgres", lambda: check_revision(pool, NEEDED_REVISION))


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=STOP_SECONDS)
    if not done:
        task.cancel()
