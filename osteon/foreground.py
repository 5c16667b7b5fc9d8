"""The parts of the node as foreground processes: settings, logs, signals, then the part itself."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

from osteon.logs import set_up_logs
from studies.settings import Settings, load_settings

Part = Callable[[Settings, threading.Event], None]


def run_part(part: Part) -> None:
    """Run a part of the node until SIGTERM or SIGINT asks it to end."""
    settings = load_settings()
    set_up_logs()
    part(settings, stop_on_signal())


def stop_on_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set; a second SIGINT ends the process at once."""
    stop = threading.Event()

    def asked(number: int, _frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        stop.set()

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, asked)
    return stop
