"""The console script `scim-gateway`."""

import asyncio
from functools import partial

from scim_gateway.app import create_app
from scim_gateway.settings import Settings
from servicekit import lifecycle, logs, metrics, tracing
from servicekit.health import Health
from servicekit.http import serve
from servicekit.settings import load


def main() -> None:
    """Serve until SIGTERM or SIGINT; exit code 0 once every accepted request is answered."""
    logs.configure("scim-gateway")
    tracing.configure("scim-gateway")
    lifecycle.run(partial(serve_gateway, load(Settings)))
    tracing.flush()


async def serve_gateway(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve until `stopping`: readiness goes first, then the listener, then the requests in flight end."""
    health = Health()

    def drain() -> None:
        health.draining = True

    async with metrics.served(settings.metrics_host, settings.metrics_port):
        await serve(
            create_app(settings, health),
            settings.gateway_host,
            settings.gateway_port,
            stopping,
            on_drain=drain,
            drain_seconds=settings.gateway_drain_seconds,
        )


if __name__ == "__main__":
    main()
