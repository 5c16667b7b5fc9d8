"""What every test gets: real servers on free ports, no settings of the developer's machine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog

pytest_plugins = [
    "tests.support.broker",
    "tests.support.domain",
    "tests.support.no_skips",
    "tests.support.postgres",
]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sees the defaults, whatever OSTEON_… variables the shell that started it has."""
    for name in list(os.environ):
        if name.startswith("OSTEON_") and not name.startswith("OSTEON_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> Iterator[None]:
    """A command that was run in a test has set up the logs; the next test begins without that."""
    yield
    structlog.reset_defaults()
