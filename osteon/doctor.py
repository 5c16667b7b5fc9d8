"""`osteon doctor`: asks every part of the node how it is, and says what to do. Changes nothing."""

from __future__ import annotations

import json as json_text
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final, TextIO

from rich.console import Console
from rich.text import Text

from osteon import checks
from osteon.checks import Check, State
from osteon.logs import set_up_logs
from studies.clock import Clock, utc_now
from studies.database import Database
from studies.errors import ConfigurationError
from studies.presence import Process, living
from studies.settings import Settings, load_settings

_SIGNS: Final = {State.OK: "✓", State.WARNING: "!", State.PROBLEM: "✗"}
_STYLES: Final = {State.OK: "green", State.WARNING: "yellow", State.PROBLEM: "bold red"}
_NAME_COLUMNS: Final = 14


def run_doctor(*, json: bool = False, out: TextIO | None = None) -> int:
    """Examine the node that the settings of this place describe.

    Parameters
    ----------
    json
        One JSON object a line: name, state ("ok", "warning", "problem"), message, remedy or null.

    Returns
    -------
    int
        Exit status: 1 if there is a problem; warnings are none.
    """
    set_up_logs(logging.CRITICAL)  # what is wrong is told below, once
    try:
        found = examine(load_settings())
    except ConfigurationError as error:
        remedy = "mend it; docs/operations.md lists every setting"
        found = iter([checks.problem("settings", str(error), remedy)])
    return _told(found, out or sys.stdout, as_lines=json)


def examine(settings: Settings, clock: Clock = utc_now) -> Iterator[Check]:
    """Every check of a node with these settings, each as soon as it is known."""
    yield from checks.check_settings(settings)
    yield checks.check_disk(settings)
    schema = checks.check_schema(settings)
    yield schema
    alive: Sequence[Process] = ()
    if schema.state is not State.PROBLEM and checks.is_there(settings):
        with Database(settings.resolved_database_url) as database:
            alive = living(database, now=clock())
            yield from checks.check_studies(settings, database)
    if schema.state is not State.PROBLEM:
        yield from checks.check_processes(alive)
    yield checks.check_broker(settings, alive)
    yield checks.check_listener(settings, alive)
    yield checks.check_web(settings, alive)
    yield from checks.check_models(settings, alive)
    yield from checks.check_destinations(settings)


def _told(found: Iterator[Check], stream: TextIO, *, as_lines: bool) -> int:
    console = Console(file=stream, highlight=False, soft_wrap=True)
    counts = dict.fromkeys(State, 0)
    for check in found:
        counts[check.state] += 1
        if as_lines:
            stream.write(json_text.dumps(asdict(check)) + "\n")
            stream.flush()
            continue
        line = Text.assemble(
            (f"{_SIGNS[check.state]} {check.state:<7} ", _STYLES[check.state]),
            (f"{check.name:<{_NAME_COLUMNS}} ", "bold"),
            check.message,
        )
        console.print(line)
        if check.remedy is not None:
            console.print(Text(f"{'':<10} {'':<{_NAME_COLUMNS}}→ {check.remedy}"))
    if not as_lines:
        console.print(", ".join(_counted(counts[s], s) for s in (State.PROBLEM, State.WARNING)))
    return 1 if counts[State.PROBLEM] else 0


def _counted(count: int, state: State) -> str:
    return f"{count} {state}{'' if count == 1 else 's'}"
