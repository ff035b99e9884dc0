"""The parts of a running gateway, as handlers find them."""

from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
from starlette.requests import Request

from scim_gateway.admission import Slots
from scim_gateway.auth import GATEWAY, Authenticator, Connection
from scim_gateway.changes import Changes
from scim_gateway.cursors import Cursors
from scim_gateway.endpoints import BASE, ENDPOINT
from scim_gateway.recent import Recent
from scim_gateway.refusals import Refusals
from scim_gateway.related import Related
from scim_gateway.served import Served
from scim_gateway.settings import Settings
from scim_gateway.shedding import Shedding

OVERSIZED_SECONDS = 10.0


@dataclass(slots=True)
class Gateway:
    """Everything that outlives a request."""

    settings: Settings
    pool: asyncpg.Pool
    authenticator: Authenticator
    changes: Changes
    reading: Slots  # bodies being read
    large: Slots  # large bodies, and answers that hold a large group: each takes tens of megabytes
    shedding: Shedding
    refusals: Refusals
    cursors: Cursors
    related: Related
    base_url: str
    oversized: Recent[UUID] = field(default_factory=lambda: Recent(OVERSIZED_SECONDS, 10_000))
    """Groups that had too many members for the answer to a PATCH, so that the next one need not count them."""

    def location(self, served: Served, resource_id: str) -> str:
        """`meta.location`: from the configured origin, whatever Host the request had (T24)."""
        return f"{self.base_url}{served.endpoint}/{resource_id}"


def gateway_of(request: Request) -> Gateway:
    return request.scope["state"][GATEWAY]


def served_of(request: Request, connection: Connection) -> Served:
    """The resource type that the request's route belongs to, as the connection knows it."""
    return connection.served[request.scope[ENDPOINT]]


def base_url(settings: Settings) -> str:
    """Where clients reach the SCIM endpoints."""
    return settings.origin() + BASE
