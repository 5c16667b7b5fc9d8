"""The option --no-skips: a test that is skipped counts as failed. For the build server."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("osteon").addoption(
        "--no-skips",
        action="store_true",
        help="a skipped test or module fails: everything that a test needs must be installed",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a test's skip into a failure; an expected failure stays one."""
    report = yield
    if item.config.getoption("no_skips") and not hasattr(report, "wasxfail"):
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module (importorskip) into an error."""
    report = yield
    if collector.config.getoption("no_skips"):
        _refuse_skip(report)
    return report


def _refuse_skip(report: Any) -> None:
    if report.outcome != "skipped":
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"--no-skips refuses: {reason}"
