"""Structured logs: one JSON object a line on standard error, without private fields."""

from __future__ import annotations

import io
import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

#: Never written, whoever passes them: what is private in a call or could identify a person.
PRIVATE_KEYS = frozenset({"payload", "request", "answer", "metadata", "peer", "message_text"})


def _drop_private(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    for key in PRIVATE_KEYS & event.keys():
        del event[key]
    return event


class LossyStandardError(io.TextIOBase):
    """Standard error for logs: where its reader has gone away the lines are lost, nothing else.

    A supervisor or a routing feed that dies of a log line nobody reads would be the worse loss.
    """

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def configure_logs(level: int = logging.INFO) -> None:
    """Send the logs of this process, structlog's and the standard library's, to standard error."""
    stream = cast("TextIO", LossyStandardError())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _drop_private,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processor=structlog.processors.JSONRenderer(), foreign_pre_chain=shared
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # What it migrates is the business of nobody but a reader of its errors.
    logging.getLogger("alembic").setLevel(max(level, logging.WARNING))
