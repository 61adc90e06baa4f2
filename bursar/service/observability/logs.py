"""Structured logs of a process, on standard error: JSON, or lines for people on a terminal.

Everything goes one way, the standard library's loggers (uvicorn, aio-pika, FastStream) included, and through redaction
last, so that nothing is written that it did not see (MS-14).
"""

import logging
import sys
import traceback
from typing import Literal, TextIO

import orjson
import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from bursar.billing.errors import describe
from bursar.service.observability.redaction import redact, redact_fields

MAX_FRAMES = 20
QUIET_LOGGERS = ("aiosmtplib", "asyncio", "faststream", "httpcore", "httpx", "stripe", "uvicorn")
# They log an error with each attempt to connect; our own lines say once that a server is gone, and that it is back.
SILENT_LOGGERS = ("aio_pika", "aiormq", "asyncpg.pool")

LogFormat = Literal["auto", "json", "console"]


def configure_logging(
    level: str, log_format: LogFormat, stream: TextIO | None = None, *, process: str | None = None
) -> None:
    """Set the process's logging up, once, before anything logs. `process` is in every line: several may share a log."""
    stream = stream or sys.stderr
    if process:
        structlog.contextvars.bind_contextvars(process=process)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(log_format, stream)],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_context()],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in SILENT_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_context(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _context() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _describe_exception,
    ]


def _rendering(log_format: LogFormat, stream: TextIO) -> list[Processor]:
    if log_format == "json" or (log_format == "auto" and not stream.isatty()):
        return [_redact, structlog.processors.JSONRenderer(serializer=_json)]
    return [_redact, _on_lines, structlog.dev.ConsoleRenderer(colors=stream.isatty())]


def _describe_exception(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:  # noqa: ARG001
    """Write an exception as its kind and frames: a foreign one's text may hold anything, a row's values included."""
    raised = event.pop("exc_info", None)
    error = raised if isinstance(raised, BaseException) else sys.exc_info()[1] if raised is True else None
    if isinstance(raised, tuple):
        error = raised[1]
    if error is not None:
        event["error"] = describe(error)
        event["stack"] = _frames(error)
        if error.__cause__ is not None:
            event["caused_by"] = describe(error.__cause__)
    return event


def _frames(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def _on_lines(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:  # noqa: ARG001
    """A frame a line: people read it, and the console takes a stack as text."""
    return {**event, "stack": "\n".join(event["stack"])} if "stack" in event else event


def _redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:  # noqa: ARG001
    redacted: EventDict = {**redact_fields(event), "event": redact(event.get("event", ""))}
    return redacted


def _json(event: EventDict, **_: object) -> str:
    return orjson.dumps(event).decode()
