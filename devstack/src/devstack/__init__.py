"""Real Kafka and Postgres without any install: for `make run` and for the tests. It knows no SCIM.

    async with devstack.Kafka(folder / "kafka") as broker, devstack.Postgres(folder / "postgres") as server:
        broker.bootstrap, server.dsn, server.pid
        await server.kill()      # then `await server.start()`: same port, same data

`devstack.pytest_plugin` has the fixtures; `python -m devstack run` is `make run`.
"""

from devstack.errors import StartError
from devstack.kafka import Kafka
from devstack.postgres import Postgres

__all__ = ["Kafka", "Postgres", "StartError"]
