"""Settings, logs, life cycle, health, Kafka and Postgres plumbing of a service."""
