"""The application: the only place that knows every part."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.metadata import version
from urllib.parse import urlsplit

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException

import directory
from admin_api import (
    access_report,
    accounts,
    auth,
    automation,
    connection_tokens,
    connections,
    console,
    drift_report,
    holds,
    link_requests,
    mappings,
    organizations,
    preview,
    provisioning_log,
    quarantine_view,
    roles,
    sign_in,
    sync_status,
    trail,
)
from admin_api.answers import answer_api_error, answer_http_error, answer_validation_error
from admin_api.changes import Changes, Publisher
from admin_api.console.frame import HOME
from admin_api.console.live import Live
from admin_api.console.volume import Volume
from admin_api.drift_counts import DriftCounts
from admin_api.edge import EDGE
from admin_api.errors import ApiError
from admin_api.failures import Failures
from admin_api.log_ends import LogEnds
from admin_api.openapi import describe
from admin_api.openid import Client, Provider
from admin_api.passwords import Passwords
from admin_api.service import Service
from admin_api.settings import Settings
from admin_api.shapes import PREFIX
from admin_api.store.database import driver_connection, open_engine, transactions
from admin_api.sweep import sweep_forever
from servicekit.health import Health
from servicekit.postgres import OldSchema

log = structlog.get_logger()

# A router of a new module goes here; tests/test_matrix.py wants a row for each of its routes.
ROUTERS = (
    auth.router,
    sign_in.router,
    connections.router,
    roles.router,
    mappings.router,
    sync_status.router,
    connection_tokens.router,
    automation.router,
    organizations.router,
    accounts.router,
    link_requests.router,
    holds.router,
    provisioning_log.router,
    trail.router,
    access_report.router,
    drift_report.router,
    preview.router,
    quarantine_view.router,
    console.router,
)


def create_app(settings: Settings, health: Health | None = None) -> FastAPI:
    """Wire the service. Connects to nothing until its lifespan starts, and then waits for nothing: Kafka and Postgres
    may come later."""
    health = health or Health()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_service(settings, health) as service:
            app.state.service = service
            app.state.live = Live(service.transaction, service.pepper)
            app.state.volume = Volume(service.transaction)
            yield

    app = FastAPI(
        title="Directory sync: admin API",
        version=version("directory-sync-admin-api"),
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
        routes=[*health.routes()],
        middleware=[EDGE],
        exception_handlers={
            ApiError: answer_api_error,
            RequestValidationError: answer_validation_error,
            HTTPException: answer_http_error,
        },
        openapi_url=None,
        redirect_slashes=False,
    )
    app.get("/", include_in_schema=False)(name)
    app.get(f"{PREFIX}/openapi.json", include_in_schema=False)(openapi)
    for router in ROUTERS:
        app.include_router(router)
    return app


async def name(request: Request) -> Response:
    """What this is; browsers go on to the console."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(HOME, 303)
    return JSONResponse({"service": "admin-api"})


async def openapi(request: Request) -> Response:
    """The description of the API."""
    return JSONResponse(describe(request.app))


@asynccontextmanager
async def open_service(settings: Settings, health: Health) -> AsyncIterator[Service]:
    """The parts, running; closed in reverse order."""
    async with AsyncExitStack() as stack:
        dsn = settings.admin_database_url.get_secret_value()
        engine = await stack.enter_async_context(open_engine(dsn, pool_size=settings.admin_pool_size))
        passwords = Passwords()
        stack.callback(passwords.close)
        publisher = Publisher(settings.kafka())
        stack.push_async_callback(publisher.close)
        log_ends = LogEnds(settings.kafka())
        stack.push_async_callback(log_ends.close)
        transaction = transactions(engine)
        gateway = preview.open_gateway(settings.gateway_url)
        if gateway is not None:
            stack.push_async_callback(gateway.aclose)
        service = Service(
            transaction=transaction,
            passwords=passwords,
            failures=Failures(),
            publisher=publisher,
            changes=Changes(publisher, transaction),
            log_ends=log_ends,
            drift_counts=DriftCounts(),
            pepper=settings.pepper(),
            public_origin=origin_of(settings.public_url),
            provider=provider_of(settings),
            gateway=gateway,
            scim_origin=origin_of(settings.scim_public_url),
        )
        sweeping = asyncio.create_task(sweep_forever(service, settings.admin_sweep_seconds))
        stack.push_async_callback(_stop, sweeping)
        watch(health, engine, publisher, sweeping)
        yield service


def watch(health: Health, engine: AsyncEngine, publisher: Publisher, sweeping: asyncio.Task[None]) -> None:
    """Ready while Postgres and Kafka are; live while the sweep runs."""

    async def postgres() -> None:
        async with engine.connect() as db:
            revision = await directory.revision_of(await driver_connection(db))
        if revision is None or revision < directory.HEAD:
            raise OldSchema(f"the schema is at revision {revision}, this release needs {directory.HEAD}")

    async def sweep() -> None:
        if sweeping.done():
            raise RuntimeError("the sweep has ended")

    health.add("postgres", postgres)
    health.add("kafka", publisher.check)
    health.add_live("sweep", sweep)


def provider_of(settings: Settings) -> Provider | None:
    """The OpenID provider of the console's sign-in, if there is one."""
    if not settings.oidc_issuer:
        return None
    secret = settings.oidc_client_secret.get_secret_value()
    redirect_uri = f"{origin_of(settings.public_url)}/api/auth/callback/oidc"
    return Provider(Client(settings.oidc_issuer, settings.oidc_client_id, secret, redirect_uri))


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL; empty for an empty one."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
