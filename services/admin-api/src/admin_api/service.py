"""The running parts, as handlers see them."""

from dataclasses import dataclass
from typing import Annotated

import httpx
from fastapi import Depends, Request

from admin_api.changes import Changes, Publisher
from admin_api.drift_counts import DriftCounts
from admin_api.failures import Failures
from admin_api.log_ends import LogEnds
from admin_api.openid import Provider
from admin_api.passwords import Passwords
from admin_api.store.database import Transaction


@dataclass(frozen=True, slots=True)
class Core:
    """What it takes to do an admin's work, over HTTP and at the command line."""

    transaction: Transaction
    publisher: Publisher
    changes: Changes
    pepper: bytes


@dataclass(frozen=True, slots=True)
class Service(Core):
    """What `create_app` has wired."""

    passwords: Passwords
    failures: Failures
    log_ends: LogEnds
    drift_counts: DriftCounts
    public_origin: str
    provider: Provider | None
    gateway: httpx.AsyncClient | None
    scim_origin: str = ""  # where identity providers reach the gateway; empty when it is the public origin


async def service_of(request: Request) -> Service:
    return request.app.state.service


ServiceOf = Annotated[Service, Depends(service_of)]
CoreOf = Annotated[Core, Depends(service_of)]
