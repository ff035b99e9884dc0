"""Real Kafka and Postgres without any install, and the supervisor behind make run."""
