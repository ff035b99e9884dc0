"""The admin console: pages under `/admin`, rendered here, that call what the routes of the JSON API call."""

from fastapi import APIRouter

from admin_api.console import (
    activity,
    assets,
    connections,
    holds,
    link_requests,
    mappings,
    quarantine,
    roles,
    settings,
    sign_in,
    status,
    tokens,
    users,
)

router = APIRouter(include_in_schema=False)
# A page's router goes here; tests/test_console_matrix.py wants a row for each of its routes.
for part in (
    assets.router,
    sign_in.router,
    status.router,
    activity.router,
    settings.router,
    connections.router,
    tokens.router,
    holds.router,
    mappings.router,
    link_requests.router,
    quarantine.router,
    roles.router,
    users.router,
):
    router.include_router(part)
