"""Settings, logs, metrics, traces, life cycle, health, Kafka and Postgres plumbing of a service."""
