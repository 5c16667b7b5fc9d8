"""`osteon studies` and `osteon deadletters`: what is held, what became of it, and mending it."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from osteon.console import say
from studies.catalogue import Catalogue
from studies.clock import utc_now
from studies.database import Database
from studies.documents import reading_to_json
from studies.errors import ConfigurationError, UnknownStudy
from studies.lifecycle import Lifecycle
from studies.model import Delivery, Event, Reading, Status, Study
from studies.outbox import Outbox
from studies.settings import load_settings
from worklist.words import BANDS, REGIONS, STATUSES, age, percent


@contextmanager
def _database() -> Iterator[Database]:
    with Database(load_settings().resolved_database_url) as database:
        yield database


def list_studies(*, statuses: Sequence[str], text: str, limit: int, json: bool) -> None:
    """Print studies, the most urgent first. No names: a terminal's history outlives its user.

    Raises
    ------
    ConfigurationError
        If a status is none of ours.
    """
    wanted = [_status(status) for status in statuses]
    with _database() as database:
        found = Catalogue(database).studies(statuses=wanted, text=text, limit=limit)
    if json:
        for study in found:
            _print_json(_study_values(study))
        return
    table = _table("Study", "Status", "Result", "Fracture", "Images", "From", "Age", "Reason")
    now = utc_now()
    for study in found:
        table.add_row(
            study.StudyInstanceUID,
            STATUSES[study.status],
            BANDS[study.band] if study.band else "",
            percent(study.certainty) if study.certainty is not None else "",
            str(study.instances),
            study.sender.ae_title,
            age(now - study.first_received_at),
            study.reason or "",
        )
    _print(table)
    say(f"{len(found)} studies" + (f" (the first {limit})" if len(found) == limit else ""))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Whole:
    """Everything that is known of a study."""

    study: Study
    events: tuple[Event, ...]
    readings: tuple[Reading, ...]
    deliveries: tuple[Delivery, ...]


def show_study(StudyInstanceUID: str, *, json: bool) -> None:
    """Print one study: its timeline, its newest reading and its deliveries.

    Raises
    ------
    UnknownStudy
        If we do not hold it.
    """
    with _database() as database:
        catalogue = Catalogue(database)
        study = catalogue.study(StudyInstanceUID)
        whole = _Whole(
            study=study,
            events=catalogue.timeline(study),
            readings=catalogue.readings(study),
            deliveries=Outbox(database).of_study(StudyInstanceUID),
        )
    if json:
        _print_json(_whole_values(whole))
    else:
        _show(whole)


def _show(whole: _Whole) -> None:
    study = whole.study
    reason = f", because {study.reason}" if study.reason else ""
    say(f"{study.StudyInstanceUID}: {STATUSES[study.status]}{reason}")
    timeline = _table("Time (UTC)", "Event", "Took", "Detail")
    for event in whole.events:
        took = f"{event.seconds:.2f} s" if event.seconds is not None else ""
        timeline.add_row(_time(event.at), event.name, took, event.detail)
    _print(timeline)
    if whole.readings:
        _print(_reading_table(whole.readings[-1]))
    if whole.deliveries:
        table = _table("Destination", "Object", "State", "Tries", "Last error")
        for each in whole.deliveries:
            table.add_row(
                each.destination,
                each.object.kind.value,
                each.state.value,
                str(each.attempts),
                each.last_error or "",
            )
        _print(table)


def _reading_table(reading: Reading) -> Table:
    table = _table("Image", "Region", "Result", "Fracture", "Boxes (pixels)", "Model")
    for image in reading.images:
        if not image.readings:
            why = image.not_analysed or "no region that a model may read"
            table.add_row(image.SOPInstanceUID, "", f"not analysed, because {why}", "", "", "")
        for seen in image.readings:
            boxes = [f.box.edges for f in seen.findings if f.box is not None]
            table.add_row(
                image.SOPInstanceUID,
                REGIONS[seen.region],
                BANDS[seen.band],
                percent(seen.probability),
                "\n".join(", ".join(f"{edge:.0f}" for edge in box) for box in boxes),
                f"{seen.model.name} {seen.model.version}",
            )
    return table


def replay_study(StudyInstanceUID: str) -> None:
    """Put a study back to be read once more.

    Raises
    ------
    UnknownStudy
        If we do not hold it, or it is on its way already.
    """
    with _database() as database:
        status = Catalogue(database).study(StudyInstanceUID).status
        if not Lifecycle(database).replay(StudyInstanceUID):
            raise UnknownStudy(f"{StudyInstanceUID} is {STATUSES[status]}: it is read anyway")
    say(f"{StudyInstanceUID} will be read once more within half a minute")


def list_dead_letters(*, json: bool) -> None:
    """Print what destinations have refused for good."""
    with _database() as database:
        dead = Outbox(database).dead_letters()
    if json:
        for each in dead:
            _print_json(_delivery_values(each))
        return
    table = _table("Number", "Destination", "Study", "Object", "Tries", "Why")
    for each in dead:
        table.add_row(
            str(each.id),
            each.destination,
            each.StudyInstanceUID,
            each.object.kind.value,
            str(each.attempts),
            each.last_error or "",
        )
    _print(table)
    say(f"{len(dead)} dead letters" if dead else "no dead letters")


def retry_dead_letters(number: int | None, *, every: bool) -> None:
    """Send one dead letter again, or all of them.

    Raises
    ------
    ConfigurationError
        If neither is named.
    UnknownStudy
        If there is no such dead letter.
    """
    if number is None and not every:
        raise ConfigurationError("name a dead letter by its number, or give --all")
    with _database() as database:
        outbox = Outbox(database)
        numbers = [each.id for each in outbox.dead_letters()] if every else [number or 0]
        revived = [each for each in numbers if outbox.revive(each)]
    if not revived and not every:
        raise UnknownStudy(f"there is no dead letter {number}")
    say(f"{len(revived)} will be sent again")


def _status(text: str) -> Status:
    try:
        return Status(text)
    except ValueError as error:
        raise ConfigurationError(f"--status: {text!r} is none of {', '.join(Status)}") from error


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _print(table: Table) -> None:
    console = Console(file=sys.stdout)
    # In a pipe, columns must not be folded at 80 characters.
    (console if console.is_terminal else Console(file=sys.stdout, width=240)).print(table)


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S")


def _print_json(values: dict[str, Any]) -> None:
    sys.stdout.write(json_text.dumps(values, ensure_ascii=False) + "\n")


def _study_values(study: Study) -> dict[str, Any]:
    return {
        "StudyInstanceUID": study.StudyInstanceUID,
        "status": study.status.value,
        "reason": study.reason,
        "band": study.band.value if study.band else None,
        "certainty": study.certainty,
        "images": study.instances,
        "readings": study.readings,
        "sender": study.sender.ae_title,
        "first_received_at": study.first_received_at.isoformat(),
        "last_received_at": study.last_received_at.isoformat(),
    }


def _whole_values(whole: _Whole) -> dict[str, Any]:
    return {
        **_study_values(whole.study),
        "timeline": [
            {
                "at": event.at.isoformat(),
                "name": event.name,
                "detail": event.detail,
                "seconds": event.seconds,
            }
            for event in whole.events
        ],
        "reading": json_text.loads(reading_to_json(whole.readings[-1])) if whole.readings else None,
        "deliveries": [_delivery_values(each) for each in whole.deliveries],
    }


def _delivery_values(delivery: Delivery) -> dict[str, Any]:
    return {
        "number": delivery.id,
        "StudyInstanceUID": delivery.StudyInstanceUID,
        "destination": delivery.destination,
        "kind": delivery.object.kind.value,
        "SOPInstanceUID": delivery.object.SOPInstanceUID,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "last_error": delivery.last_error,
    }
