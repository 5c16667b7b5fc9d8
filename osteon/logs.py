"""Where log lines go, and in which form. What they say is each module's own affair."""

from __future__ import annotations

import logging
import sys
import warnings

import structlog
from structlog.typing import Processor

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
    on_terminal = sys.stderr.isatty()
    if not on_terminal:
        # On a terminal the renderer does that itself, in colour.
        shared.append(structlog.processors.format_exc_info)
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
        # Values of variables may be about a patient: a traceback shows the lines alone.
        return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return structlog.processors.JSONRenderer(ensure_ascii=False)
