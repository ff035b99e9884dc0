"""Connections, tokens, sign-in and the operators' CLI."""
