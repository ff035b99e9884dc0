"""What to enter at each identity provider; the same as in `docs/setup` (tests/test_presets.py compares them)."""

from dataclasses import dataclass

from fastapi import Request

from admin_api.service import Service

SCIM_PATH = "/api/auth/scim/v2"
BASE_URL, TOKEN = "{base url}", "{token}"  # stand for values of the connection


@dataclass(frozen=True, slots=True)
class Preset:
    """An identity provider: where its fields are, what goes into each, and what to switch on afterwards."""

    key: str
    name: str
    provider_id: str
    summary: str
    place: str
    fields: tuple[tuple[str, str], ...]
    steps: tuple[str, ...]


PRESETS = (
    Preset(
        key="okta",
        name="Okta",
        provider_id="okta",
        summary="A SCIM 2.0 app, or any app with SCIM provisioning switched on.",
        place="Applications › your app › General › App Settings: provisioning SCIM. Then Provisioning › Integration.",
        fields=(
            ("SCIM connector base URL", BASE_URL),
            ("Unique identifier field for users", "userName"),
            ("Supported provisioning actions", "Push New Users, Push Profile Updates, Push Groups"),
            ("Authentication Mode", "HTTP Header"),
            ("Authorization", TOKEN),
        ),
        steps=(
            "Choose Test Connector Configuration: it reads two users and the groups.",
            "Under Provisioning › To App enable Create Users, Update User Attributes and Deactivate Users.",
            "The Okta username should be the email address: it becomes the account's email.",
            "Push Groups sends the groups by whose names roles are mapped.",
            "Assign one person: within seconds they are among the users.",
        ),
    ),
    Preset(
        key="entra",
        name="Microsoft Entra ID",
        provider_id="entra",
        summary="An enterprise application with automatic provisioning.",
        place=(
            "Enterprise applications › New application › Create your own › Non-gallery; "
            "then Provisioning › Provisioning Mode: Automatic."
        ),
        fields=(
            ("Tenant URL", BASE_URL),
            ("Secret Token", TOKEN),
        ),
        steps=(
            "Choose Test Connection: it asks for a user that does not exist, and is content with an empty list.",
            "Under Mappings, the matching attribute of users is userName: map userPrincipalName (or mail) to it.",
            "Keep Switch([IsSoftDeleted], …) for active, as Entra's default does.",
            "For groups, map displayName and members: roles are mapped by displayName.",
            "Assign users and groups, set the scope to Sync only assigned users and groups, and start provisioning.",
            "Provision on demand with one person shows at once whether it works; a cycle runs about every 40 minutes.",
        ),
    ),
    Preset(
        key="onelogin",
        name="OneLogin",
        provider_id="onelogin",
        summary="The app SCIM Provisioner with SAML (SCIM v2 Enterprise), or (SCIM v2 Core).",
        place="Configuration.",
        fields=(
            ("SCIM Base URL", BASE_URL),
            ("SCIM Bearer Token", TOKEN),
            ("SCIM JSON Template", "OneLogin's, or your own: userName and emails are what is needed"),
        ),
        steps=(
            "Under API Status choose Enable.",
            "Under Provisioning enable provisioning, and choose which actions need an admin's approval.",
            "For users who are deleted in OneLogin, or lose the app, choose Suspend or Delete; Do Nothing leaves the "
            "account active.",
            "Under Parameters, SCIM Username should be the email address: it becomes the account's email.",
            "To send groups, include Groups in user provisioning and fill it by rules.",
        ),
    ),
    Preset(
        key="other",
        name="Another SCIM 2.0 client",
        provider_id="",
        summary="Any client that speaks SCIM 2.0 with a bearer token.",
        place="Wherever the client asks for them.",
        fields=(
            ("Base URL", BASE_URL),
            ("Unique identifier of users", "userName"),
            ("Authentication", "OAuth bearer token, in the Authorization header"),
            ("Token", TOKEN),
        ),
        steps=(
            "The userName should be the email address: it becomes the account's email.",
            "Send groups with displayName and members: roles are mapped by displayName.",
        ),
    ),
)


def preset_of(key: str) -> Preset:
    """The one of this key; the last, which fits everything, for any other."""
    return next((preset for preset in PRESETS if preset.key == key), PRESETS[-1])


def guess(provider_id: str) -> Preset:
    """The one whose name is in the connection's."""
    name = provider_id.lower()
    return next((preset for preset in PRESETS[:-1] if preset.key in name), PRESETS[-1])


def base_url(request: Request, service: Service) -> str:
    """Where identity providers reach us."""
    return (service.scim_origin or service.public_origin or str(request.base_url).rstrip("/")) + SCIM_PATH
