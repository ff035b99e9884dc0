"""Applies changes to the directory, exactly once and in order."""
