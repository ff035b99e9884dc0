"""Settings of the gateway (all names as environment variables, in upper case)."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any

from pydantic import SecretStr, field_validator
from pydantic_settings import NoDecode

from servicekit.kafka import KafkaSettings
from servicekit.settings import ServerSettings


class Settings(ServerSettings, KafkaSettings):
    """Addresses and secrets have no defaults, except where one process on one machine is meant."""

    gateway_host: str = "127.0.0.1"
    gateway_port: int = 8080
    gateway_database_url: SecretStr
    token_pepper: SecretStr
    # Origin under which clients reach us; `meta.location` is built from it, never from a Host header (T24).
    public_url: str = ""
    # Networks of the proxies in front of us, with commas between; only they are believed about X-Forwarded-For.
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()

    # Seconds. Below the clients' own patience: Okta gives up after 60.
    gateway_outcome_deadline: float = 10.0
    # Seconds. Above the deadline, and long enough for a provisioner to restart.
    gateway_slot_lifetime: float = 60.0
    gateway_connection_slots: int = 128
    # Of the connection's slots: kept for changes that only take access away.
    gateway_reserved_slots: int = 16
    # Of the connection's changes: in the log at a time. The rest waits for its turn in the gateway.
    gateway_connection_window: int = 64
    gateway_global_slots: int = 512
    # Requests a second that a connection may send in the long run, and how many at once; 0: as many as there are slots.
    # Clients send bursts, and Entra counts refusals against us: leave it off, or far above 25 a second.
    gateway_connection_rate: float = 0.0
    gateway_connection_burst: float = 500.0
    # Unknown tokens from one address that are looked up: a second in the long run, and at once.
    gateway_guess_rate: float = 5.0
    gateway_guess_burst: float = 300.0
    # Large bodies and large groups in memory at a time, at up to 100 MB each.
    gateway_large_slots: int = 6
    gateway_connection_large_slots: int = 4
    # Seconds that a client may take to send a body.
    gateway_read_deadline: float = 10.0
    # Seconds that a client may take to receive an answer that is read while it is sent.
    gateway_send_deadline: float = 60.0
    gateway_pool_size: int = 10
    # Seconds between failing the readiness probe and closing the listener, so that load balancers notice.
    gateway_drain_seconds: float = 0.0
    # Seconds to let requests in flight end; above the outcome deadline, below the pod's grace period.
    gateway_drain_deadline: float = 15.0

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    def origin(self) -> str:
        """The public origin, without a trailing slash."""
        return (self.public_url or f"http://127.0.0.1:{self.gateway_port}").rstrip("/")
