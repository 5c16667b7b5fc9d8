"""Waiting for conditions, so that no test waits for time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    seconds: float = 10.0,
    what: str = "the condition",
    *,
    pause_seconds: float = 0.02,
) -> T:
    """Call ``condition`` until it returns something true; return that.

    Parameters
    ----------
    condition
        Called again and again from this thread; its errors are the test's errors.
    seconds
        Limit after which the test fails. Generous is right: a fast test never reaches it.
    what
        Completes "waited N s for …" in the failure.
    pause_seconds
        Pause between two calls.

    Raises
    ------
    AssertionError
        If the limit passes first. The last value is in the message.
    """
    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}; last value: {value!r}")
        pause.wait(pause_seconds)
