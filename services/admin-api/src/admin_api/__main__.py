"""The console script `admin-api`."""

import asyncio
from functools import partial

from admin_api.app import create_app
from admin_api.settings import Settings
from servicekit import lifecycle, logs, metrics, tracing
from servicekit.health import Health
from servicekit.http import serve
from servicekit.settings import load


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    logs.configure("admin-api")
    tracing.configure("admin-api")
    lifecycle.run(partial(serve_admin_api, load(Settings)))
    tracing.flush()


async def serve_admin_api(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve until `stopping`: readiness goes first, then the listener, then the requests in flight end."""
    health = Health()
    app = create_app(settings, health)

    def drain() -> None:
        health.draining = True
        if hasattr(app.state, "live"):  # the lifespan has begun
            app.state.live.close()

    async with metrics.served(settings.metrics_host, settings.metrics_port):
        await serve(
            app,
            settings.admin_host,
            settings.admin_port,
            stopping,
            on_drain=drain,
            drain_seconds=settings.admin_drain_seconds,
        )


if __name__ == "__main__":
    main()
