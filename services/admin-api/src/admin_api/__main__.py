"""`admin-api`: the HTTP service."""
