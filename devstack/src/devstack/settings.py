"""What `make run` reads from the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devstack.errors import StartError


@dataclass(frozen=True)
class Settings:
    gateway_port: int
    admin_port: int
    kafka_port: int
    postgres_port: int
    run_dir: Path

    @property
    def ports(self) -> dict[str, int]:
        """The fixed ports by their variable; every other port is chosen free."""
        return {
            "GATEWAY_PORT": self.gateway_port,
            "ADMIN_PORT": self.admin_port,
            "KAFKA_PORT": self.kafka_port,
            "POSTGRES_PORT": self.postgres_port,
        }


def read_settings(environment: Mapping[str, str]) -> Settings:
    return Settings(
        gateway_port=read_port(environment, "GATEWAY_PORT", 8080),
        admin_port=read_port(environment, "ADMIN_PORT", 8081),
        kafka_port=read_port(environment, "KAFKA_PORT", 9092),
        postgres_port=read_port(environment, "POSTGRES_PORT", 5432),
        run_dir=Path(environment.get("RUN_DIR") or ".run"),
    )


def read_port(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name) or str(default)
    if not value.isdecimal() or not 0 < int(value) < 65536:
        raise StartError(f"{name} is {value!r}: it must be a port number from 1 to 65535")
    return int(value)
