"""Logs of the clearing house's process: JSON lines on standard error that name no customer.

An exception is logged as its type and where it was raised. Its message may hold a row of the
database, and what a debugger would show beside it holds charge detail records and contracts.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator

import structlog

#: Of an exception and of those that it followed from.
_FRAMES_MAX = 20
_CHAIN_MAX = 5


def configure_log() -> None:
    """Send what structlog and the standard library log to standard error."""
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_values,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    logging.getLogger().handlers[:] = [handler]


def without_values(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Replace an exception of a log entry by its type and place, those behind it too."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["exception"] = list(_told(error))
    return event


def _told(error: BaseException | None) -> Iterator[dict[str, object]]:
    for _ in range(_CHAIN_MAX):
        if error is None:
            return
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES_MAX:]
        places = [f"{each.filename}:{each.lineno} {each.name}" for each in frames]
        yield {"type": type(error).__qualname__, "at": places}
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
