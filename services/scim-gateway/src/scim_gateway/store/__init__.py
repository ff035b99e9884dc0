"""Every SQL statement of the gateway: its database role can only SELECT, each statement is bounded by connection."""
