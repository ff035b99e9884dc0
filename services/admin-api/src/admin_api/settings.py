"""Settings of the service and of the operators' commands (all names as environment variables, in upper case)."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from servicekit.kafka import KafkaSettings
from servicekit.settings import ServerSettings, ServiceSettings

_MIN_PEPPER = 16  # characters; a shorter one can be guessed from a dump of the digests


def _check_dsn(dsn: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(dsn.get_secret_value())
        is_dsn = parts.scheme in ("postgresql", "postgres") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_dsn = False
    if not is_dsn:
        raise PydanticCustomError("dsn", "must be like postgresql://user:password@host:port/database")
    return dsn


def _check_pepper(pepper: SecretStr) -> SecretStr:
    if len(pepper.get_secret_value()) < _MIN_PEPPER:
        raise PydanticCustomError("pepper", "must have at least 16 characters, better 43 random ones")
    return pepper


Dsn = Annotated[SecretStr, AfterValidator(_check_dsn)]


class PepperSettings(ServiceSettings):
    """TOKEN_PEPPER, the key of all digests; the gateway has the same one."""

    token_pepper: Annotated[SecretStr, AfterValidator(_check_pepper)]

    def pepper(self) -> bytes:
        return self.token_pepper.get_secret_value().encode()


class OidcSettings(ServiceSettings):
    """The OpenID provider of the console's sign-in; none without OIDC_ISSUER.

    The provider sends browsers back to PUBLIC_URL/api/auth/callback/oidc, which it must know as a redirect URI.
    """

    # Origin under which browsers reach us; requests with the cookie may come from it besides from their own Host.
    public_url: str = ""
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _check_oidc(self) -> Self:
        if not self.oidc_issuer:
            return self
        if not self.oidc_client_id or not self.public_url:
            raise PydanticCustomError("oidc", "OIDC_CLIENT_ID and PUBLIC_URL are needed with OIDC_ISSUER")
        parts = urlsplit(self.oidc_issuer)
        if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise PydanticCustomError("oidc", "OIDC_ISSUER must be an https URL")
        return self


class Settings(PepperSettings, KafkaSettings, OidcSettings, ServerSettings):
    """The HTTP service. Addresses and secrets have no defaults, except where one process on one machine is meant."""

    admin_host: str = "127.0.0.1"
    admin_port: int = 8081
    admin_database_url: Dsn
    # Origin of a gateway, which reads what is to be previewed; without it there are no previews.
    gateway_url: str = ""
    # Origin at which identity providers reach the gateway, when it is not PUBLIC_URL's; the console shows it.
    scim_public_url: str = ""

    # Connections to Postgres; one request holds at most one.
    admin_pool_size: int = 10
    # Seconds between failing the readiness probe and closing the listener, so that load balancers notice.
    admin_drain_seconds: float = 0.0
    # Seconds between two looks for work that a crash or an outage left behind.
    admin_sweep_seconds: float = 30.0


class MigrateSettings(ServiceSettings):
    """`directory-sync migrate`; DATABASE_URL is the owner's, a role's password is set when it is given."""

    database_url: Dsn
    gateway_db_password: SecretStr | None = None
    provisioner_db_password: SecretStr | None = None
    admin_db_password: SecretStr | None = None


class DatabaseSettings(ServiceSettings):
    """`directory-sync schema`; DATABASE_URL is the owner's."""

    database_url: Dsn


class TopicsSettings(KafkaSettings):
    """`directory-sync topics`."""

    # 3 on a cluster of three brokers or more; a single broker takes 1.
    kafka_replication_factor: Annotated[int, Field(ge=1, le=9)] = 1


class BootstrapSettings(PepperSettings):
    """`directory-sync bootstrap`; DATABASE_URL is the owner's: accounts are not admin-api's to write."""

    database_url: Dsn


class OperatorSettings(PepperSettings, KafkaSettings):
    """Commands that do what an admin may: `role`, `mapping`, `connection`, `token`; DATABASE_URL is the owner's."""

    database_url: Dsn


class PreviewSettings(PepperSettings):
    """`directory-sync preview`; DATABASE_URL is the owner's."""

    database_url: Dsn
    gateway_url: Annotated[str, Field(min_length=1)]
