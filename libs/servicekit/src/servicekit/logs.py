"""Structured logs on standard output: JSON lines, or readable ones where standard output is a terminal."""

import logging
import os
import sys
from pathlib import Path
from traceback import extract_tb
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

QUIET = 10.0  # seconds
MAX_FRAMES = 12
MAX_REMEMBERED = 256  # messages


def configure(service: str) -> None:
    """Set up structlog and the standard library's logging; LOG_LEVEL (default INFO), LOG_FORMAT (json or pretty)."""
    level = logging.getLevelNamesMapping().get(os.environ.get("LOG_LEVEL", "INFO").upper(), logging.INFO)
    form = os.environ.get("LOG_FORMAT") or ("pretty" if sys.stdout.isatty() else "json")
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _describe_exception,
    ]
    if form == "json":
        structlog.configure(
            processors=[*shared, _named(service), structlog.processors.JSONRenderer(serializer=_dumps)],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.BytesLoggerFactory(),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[*shared, structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            cache_logger_on_first_use=True,
        )
    # Libraries: their warnings go through structlog too, without arguments that may hold personal data.
    logging.basicConfig(level=logging.WARNING, handlers=[_ToStructlog()], force=True)


def describe(error: BaseException) -> str:
    """An exception's class and where it was raised, causes included, without messages and variables.

    Those may hold what was being worked on: a Postgres error ends with the row's values (promise P15).
    """
    frames = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in extract_tb(error.__traceback__)]
    raised = f"{type(error).__name__} at {' > '.join(frames[-MAX_FRAMES:])}"
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{raised} from {describe(cause)}" if cause else raised


def _describe_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    raised = event.pop("exc_info", None)
    error = raised if isinstance(raised, BaseException) else sys.exc_info()[1]
    if raised and error:
        event["exception"] = describe(error)
    return event


class _ToStructlog(logging.Handler):
    """The libraries' messages, each at most once in QUIET seconds: some repeat one as fast as they can."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        key = (record.name, str(record.msg)[:100])
        if record.created - self._last.get(key, 0.0) < QUIET:
            return
        if len(self._last) >= MAX_REMEMBERED:
            self._last.clear()
        self._last[key] = record.created
        log = structlog.get_logger()
        error = type(record.exc_info[1]).__name__ if record.exc_info and record.exc_info[1] else None
        keys: dict[str, Any] = {"library": record.name, "message": str(record.msg)[:300]}
        if error:
            keys["error"] = error
        log.log(record.levelno, "library.message", **keys)


def _named(service: str) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add


def _dumps(value: Any, **_: Any) -> bytes:
    return orjson.dumps(value, default=str)
