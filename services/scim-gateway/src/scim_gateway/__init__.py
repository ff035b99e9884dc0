"""The SCIM endpoint: authenticates, validates, publishes changes, answers with their outcomes."""
