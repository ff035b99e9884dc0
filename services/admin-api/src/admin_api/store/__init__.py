"""Every SQL statement of admin-api, through SQLAlchemy; no function commits, the transaction is the caller's."""
