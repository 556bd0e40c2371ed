"""Structured logs: one JSON object a line on standard error, without private fields."""

from __future__ import annotations

import logging
import sys

import structlog

#: Never written, whoever passes them: what is private in a call or could identify a person.
PRIVATE_KEYS = frozenset({"payload", "request", "answer", "metadata", "peer", "message_text"})


def _drop_private(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    for key in PRIVATE_KEYS & event.keys():
        del event[key]
    return event


def configure_logs(level: int = logging.INFO) -> None:
    """Send the logs of this process, structlog's and the standard library's, to standard error."""
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
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processor=structlog.processors.JSONRenderer(), foreign_pre_chain=shared
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # What it migrates is the business of nobody but a reader of its errors.
    logging.getLogger("alembic").setLevel(max(level, logging.WARNING))
