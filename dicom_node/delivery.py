"""Brings the outbox to its destinations: one thread each, with retries and dead letters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.sender import ANSWER_SECONDS, CONNECT_SECONDS, StoreClient
from studies.database import Database
from studies.errors import DeliveryRefused, DestinationUnreachable, OsteonError, TemporaryError
from studies.files import Files
from studies.model import Delivery
from studies.outbox import Outbox
from studies.presence import announce
from studies.rules import retry_delay
from studies.settings import Destination, Settings

# A status that may be a hiccup or final: with the delays of studies.rules, some four hours.
DOUBTFUL_TRIES = 20
# A destination that was away is asked at least so often.
MOST_WAIT_SECONDS = 60.0
# An association without work is released after so long.
IDLE_SECONDS = 10.0
POLL_SECONDS = 0.5
HOLD_SECONDS = CONNECT_SECONDS + ANSWER_SECONDS + 30.0

_log = structlog.get_logger()


class Courier:
    """Delivers to one destination, the most urgent object first.

    Parameters
    ----------
    destination
        Where to.
    outbox, files
        What there is to send, and the kept objects.
    calling_ae_title
        Ours.
    """

    def __init__(
        self, destination: Destination, outbox: Outbox, files: Files, calling_ae_title: str
    ) -> None:
        self._destination = destination
        self._outbox = outbox
        self._files = files
        self._client = StoreClient(destination, calling_ae_title)
        self._failures = 0

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set."""
        idle_since = time.monotonic()
        with self._client:
            while not stop.is_set():
                wait = self.step()
                if wait is None:
                    idle_since = time.monotonic()
                    continue
                if self._client.is_open and time.monotonic() - idle_since > IDLE_SECONDS:
                    self._client.close()
                stop.wait(wait)

    def step(self) -> float | None:
        """Deliver one object.

        Returns
        -------
        float or None
            Seconds to wait before the next step; None if there may be more to do at once.
        """
        try:
            delivery = self._outbox.take(self._destination.name, hold_seconds=HOLD_SECONDS)
            if delivery is None:
                return POLL_SECONDS
            return self._deliver(delivery)
        except SQLAlchemyError as error:
            # The database is away. What was taken is held only so long; nothing is lost.
            _log.warning(
                "outbox not reached",
                destination=self._destination.name,
                error=type(error).__name__,
            )
            return 5.0

    def _deliver(self, delivery: Delivery) -> float | None:
        started = time.monotonic()
        try:
            answer = self._send(delivery)
        except DestinationUnreachable as error:
            self._failures += 1
            wait = retry_delay(self._failures, first=2.0, most=MOST_WAIT_SECONDS)
            self._outbox.try_again(delivery, str(error), delay=wait)
            self._tell(delivery, "waits", str(error))
            return wait
        except TemporaryError as error:
            if delivery.attempts >= DOUBTFUL_TRIES:
                self._bury(delivery, f"{error} ({delivery.attempts} tries)")
                return None
            delay = retry_delay(delivery.attempts)
            self._outbox.try_again(delivery, str(error), delay=delay)
            self._tell(delivery, "waits", str(error))
            return None
        except DeliveryRefused as error:
            self._bury(delivery, str(error))
            return None
        self._failures = 0
        seconds = time.monotonic() - started
        self._outbox.sent(delivery, detail=answer, seconds=seconds)
        self._tell(delivery, "sent", answer)
        return None

    def _send(self, delivery: Delivery) -> str:
        try:
            return self._client.send(self._files.read(delivery.object.path))
        except OsteonError:
            raise
        except Exception as error:
            # Nobody would bring anything to this destination any more if our thread ended. The
            # text may repeat a value of the object, and so the patient's name: it goes nowhere.
            raise TemporaryError(f"a defect of Osteon: {type(error).__name__}") from error

    def _bury(self, delivery: Delivery, error: str) -> None:
        self._outbox.bury(delivery, error)
        self._tell(delivery, "dead letter", error)

    def _tell(self, delivery: Delivery, outcome: str, answer: str) -> None:
        _log.info(
            "delivery",
            outcome=outcome,
            destination=delivery.destination,
            StudyInstanceUID=delivery.StudyInstanceUID,
            SOPInstanceUID=delivery.object.SOPInstanceUID,
            attempt=delivery.attempts,
            # The status; a peer's comment may say anything, even a name. It stands in the outbox.
            answer=answer.partition(" (")[0],
        )


def run_sender(settings: Settings, stop: threading.Event) -> None:
    """Deliver to every configured destination until `stop` is set.

    A database that is away at the start is waited for.

    Raises
    ------
    ConfigurationError
        If a destination's certificates cannot be used.
    """
    database = Database(settings.resolved_database_url)
    files = Files(settings.data_dir, reserve_bytes=settings.reserve_bytes)
    outbox = Outbox(database)
    couriers = [
        Courier(destination, outbox, files, settings.ae_title)
        for destination in settings.destinations
    ]
    facts = {"destinations": [destination.name for destination in settings.destinations]}
    presence = announce(database, "sender", facts, stop)
    if presence is None:
        database.close()
        return
    try:
        _warn_of_strays(settings, outbox)
        threads = [_start(courier.run, stop) for courier in couriers]
        stop.wait()
        for thread in threads:
            thread.join()
    finally:
        presence.__exit__(None, None, None)
        database.close()


def _start(run: Callable[[threading.Event], None], stop: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=run, args=(stop,), name="courier")
    thread.start()
    return thread


def _warn_of_strays(settings: Settings, outbox: Outbox) -> None:
    """Tell of deliveries to a destination that is no longer configured: nobody brings them."""
    for name, count in outbox.waiting().items():
        if settings.destination(name) is None:
            _log.warning("deliveries to an unknown destination wait", destination=name, count=count)
