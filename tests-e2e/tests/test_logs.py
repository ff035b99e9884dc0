"""What must not be in any log, metric or trace, after everything that the tests did (P15)."""

import re
import uuid

import pytest

from e2e import metrics
from e2e.admin import Organization
from e2e.collector import Collector
from e2e.scim import user
from e2e.stack import Stack

pytestmark = pytest.mark.last

OURS = ("gateway", "provisioner", "admin-api")
EMAIL = re.compile(rb"[\w.+-]+@[\w.-]*example\.(?:com|org)")
PASSWORD = "Canary-Passw0rd"


async def test_p15_no_token_password_or_email_is_in_any_log(stack: Stack, organization: Organization):
    if stack.logs is None:
        pytest.skip("this stack does not say where its logs are")
    canary = f"canary{uuid.uuid4().hex}"
    await leave_traces(organization, canary)

    logs = {log.name: log.read_bytes() for log in stack.logs.iterdir() if log.name.startswith(OURS)}
    everything = {log.name: log.read_bytes() for log in stack.logs.iterdir()}

    assert set(OURS) <= {name.removesuffix(".log") for name in logs}
    assert any(b"scim.request.done" in text for text in logs.values())
    secrets = {organization.scim.token, organization.admin.session, stack.document["adminPassword"], PASSWORD, canary}
    for name, text in everything.items():
        found = [secret[:12] for secret in secrets if secret.encode() in text]
        assert not found, f"{name} holds {found}"
    for name, text in logs.items():
        assert EMAIL.findall(text) == [], name


async def test_p15_no_token_password_email_or_name_is_in_any_metric_or_trace(
    stack: Stack, organization: Organization, other_organization: Organization, collector: Collector
):
    canary = f"canary{uuid.uuid4().hex}"
    await leave_traces(organization, canary)

    scraped = (await metrics.scrape(stack)).encode()
    everything = scraped + b"".join(collector.exports)

    tokens = {organization.scim.token, organization.admin.session, other_organization.scim.token}
    secrets = {*tokens, stack.document["adminPassword"], PASSWORD, canary, other_organization.name}
    assert b"scim_gateway_request_duration_seconds" in scraped
    assert [secret[:12] for secret in secrets if secret.encode() in everything] == []
    assert EMAIL.findall(everything) == []


async def leave_traces(organization: Organization, canary: str) -> None:
    """Send the canary through every path that could log it, refusals included."""
    scim, admin = organization.scim, organization.admin
    email = f"{canary}@example.com"
    created = await scim.create(user(email, title=canary, password=f"{PASSWORD}-{canary}", externalId=canary))
    at = f"/Users/{created['id']}"
    await scim.request("POST", "/Users", user(email))
    await scim.request("POST", "/Users", f'{{"userName": "{email}"')
    await scim.request("PATCH", at, {"Operations": canary})
    await scim.patch(created["id"], {"op": "replace", "path": canary, "value": canary})
    await scim.request("PUT", at, user(email, active=canary))
    await scim.request("GET", "/Users", params={"filter": f'userName eq "{email}"'})
    await scim.request("GET", "/Users", params={"filter": f'{canary} eq "{email}'})
    await scim.request("GET", f"/Users/{canary}", headers={"user-agent": canary, "x-request-id": canary})
    await scim.request("GET", "/Users", headers={"authorization": f"Bearer {canary}"})
    await scim.request("GET", f"/Users?access_token={canary}")
    await scim.request("DELETE", at)
    await admin.http.post("/api/auth/sign-in/email", json={"email": email, "password": PASSWORD + canary})
    await admin.request("POST", "/api/auth/scim/generate-token", {"providerId": "okta", "scimToken": canary})
    await admin.request("GET", "/api/auth/scim/get-provider-connection", params={"providerId": canary})
    await admin.http.get("/api/auth/get-session", headers={"authorization": f"Bearer {canary}"})
