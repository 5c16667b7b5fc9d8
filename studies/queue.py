"""Celery's names and set-up, shared by those who ring and those who work. No task code."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Celery
from kombu.exceptions import ChannelError, OperationalError

from studies.settings import Settings

READ_STUDY = "osteon.read_study"
QUEUE = "osteon.studies"

_log = structlog.get_logger()


def make_celery(settings: Settings) -> Celery:
    """A Celery application on the broker in force.

    A message only says "look at this study": the row in the database decides (lease, reaper).
    Hence a lost message is rung again by the sweep, and a doubled one finds nothing to claim.
    """
    app = Celery("osteon", broker=settings.resolved_broker_url, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        broker_transport_options={
            # Kombu's own redelivery: longer than the longest reading, checked often.
            "visibility_timeout": 600,
            "unacked_restore_interval": 2,
            "unacked_restore_throttle": 1,
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    )
    return app


class Doorbell:
    """Tells the workers that a study is ready. Rung only after the commit."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def ring(self, StudyInstanceUID: str) -> bool:
        """Ring for a study; False if the broker is away. Then the sweep rings again later."""
        try:
            self._app.send_task(
                READ_STUDY,
                args=[StudyInstanceUID],
                queue=QUEUE,
                retry=False,
            )
        except (OperationalError, OSError) as error:
            _log.warning(
                "doorbell not heard", StudyInstanceUID=StudyInstanceUID, error=type(error).__name__
            )
            return False
        return True

    def waiting(self) -> int | None:
        """How many doorbells nobody has heard yet; None if the broker is away."""
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=0)
                channel: Any = connection.default_channel
                return int(channel.queue_declare(queue=QUEUE, passive=True).message_count)
        except ChannelError:  # an empty queue does not exist (Redis, Valkey)
            return 0
        except (OperationalError, OSError):
            return None
