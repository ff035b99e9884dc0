"""The failures that a person can do something about."""


class StartError(Exception):
    """A part cannot run. The message is one sentence that says what to do about it; it is shown without a traceback."""
