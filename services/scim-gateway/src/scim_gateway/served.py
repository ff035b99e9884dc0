"""The resource types that this gateway serves: handlers ask here instead of branching."""

from dataclasses import dataclass

from starlette.requests import Request

import contracts
from scim.schema import USER, ResourceType
from scim_gateway.endpoints import ENDPOINT
from scim_gateway.store.resources import Table
from scim_gateway.store.users import USERS


@dataclass(frozen=True, slots=True)
class Served:
    """A resource type, its name in changes, where it is read from, and how large a body may be (bytes)."""

    type: ResourceType
    name: contracts.ResourceType
    table: Table
    body_limit: int

    @property
    def endpoint(self) -> str:
        """The path under the base, such as `/Users`."""
        return self.type.endpoint


SERVED = (Served(USER, contracts.ResourceType.USER, USERS, 1024 * 1024),)

_BY_ENDPOINT = {served.endpoint: served for served in SERVED}


def resource_type(request: Request) -> Served:
    """The resource type that the request's route belongs to."""
    return _BY_ENDPOINT[request.scope[ENDPOINT]]
