"""Settings of a service, from the environment or from files that it names."""

import os
import sys
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Base of every service's settings: the field `kafka_bootstrap` is read from KAFKA_BOOTSTRAP.

    For each field a variable with the suffix _FILE may name a file that holds the value instead (compose and
    Kubernetes secrets); a trailing newline is dropped.
    """

    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True)


class ServerSettings(ServiceSettings):
    """Of a service that keeps running: where its metrics are served."""

    metrics_host: str = "127.0.0.1"
    # 0: not served. Never the port that clients reach.
    metrics_port: int = Field(default=0, ge=0, le=65535)


def load[S: ServiceSettings](settings_class: type[S]) -> S:
    """The settings, or exit code 2 with one line on standard error for each one that is missing or wrong."""
    problems: list[str] = []
    from_files = _read_files(settings_class, problems)
    try:
        settings = settings_class(**from_files)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            name = "_".join(str(part) for part in problem["loc"]).upper()
            says = f"is not set (or name a file in {name}_FILE)" if problem["type"] == "missing" else problem["msg"]
            problems.append(f"{name}: {says}" if name else says)
    else:
        if not problems:
            return settings
    for line in problems:
        print(f"settings: {line}", file=sys.stderr)
    raise SystemExit(2)


def _read_files(settings_class: type[ServiceSettings], problems: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for field in settings_class.model_fields:
        variable = f"{field}_FILE".upper()
        path = os.environ.get(variable)
        if not path:
            continue
        try:
            values[field] = Path(path).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{variable}: cannot read {path}: {getattr(error, 'strerror', None) or 'not text'}")
    return values
