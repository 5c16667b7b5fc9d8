"""Where log lines go, and in which form. What they say is each module's own affair."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.typing import Processor

from studies.errors import OsteonError

# Their messages may repeat values of a file, and so a patient's name.
_TALKATIVE = ("pydicom", "pynetdicom", "highdicom")
# They tell of every step.
_WORDY = ("alembic", "celery", "kombu", "uvicorn.access")


def set_up_logs(level: int = logging.INFO) -> None:
    """Write log lines to stderr: for people on a terminal, one JSON object a line elsewhere."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    # Before the renderer, which would print an exception's text, and with it a patient's name.
    shared.append(tell_errors_without_values)
    on_terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _renderer(on_terminal=on_terminal),
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
    for name in _WORDY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _renderer(*, on_terminal: bool) -> Processor:
    if on_terminal:
        return structlog.dev.ConsoleRenderer()
    return structlog.processors.JSONRenderer(ensure_ascii=False)


def tell_errors_without_values(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Put frames and types of an error in the place of its text.

    The text may repeat a value of a file, and so a patient's name. Our own errors name UIDs, files
    and keys only: theirs is kept.
    """
    info = event.pop("exc_info", None)
    error = _error_of(info)
    if error is not None:
        event["exception"] = "\n".join(_story(error))
    return event


def _error_of(info: Any) -> BaseException | None:
    if isinstance(info, BaseException):
        return info
    if isinstance(info, tuple):
        return info[1] if isinstance(info[1], BaseException) else None
    return sys.exc_info()[1] if info else None


def _story(error: BaseException) -> list[str]:
    """The causes first, then the error itself, each with its frames, innermost last."""
    lines: list[str] = []
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        lines += _story(before)
    for frame in traceback.extract_tb(error.__traceback__):
        lines.append(f"{frame.filename}:{frame.lineno} in {frame.name}")
    told = f": {error}" if isinstance(error, OsteonError) else ""
    lines.append(f"{type(error).__module__}.{type(error).__qualname__}{told}")
    return lines
