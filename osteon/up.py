"""`osteon up`: the node until somebody stops it, and what there is to know about it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from osteon.node import Node, reachable
from studies.settings import Settings

_LOOK_SECONDS = 0.5


def run_up(settings: Settings, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Run the node until `stop` is set; tell where everything is, and what had to be restarted.

    Raises
    ------
    ConfigurationError
        If the data directory is in use, or an address is taken.
    ProgramFailed
        If a program does not stay alive; its last words are in the message.
    """
    say("Osteon is starting …")
    with Node(settings, os.environ) as node:
        if node.wait_until_ready(stop):
            for line in where_everything_is(settings):
                say(line)
            say("Osteon is up. Ctrl-C stops it.")
            while not stop.wait(_LOOK_SECONDS):
                for name in node.check():
                    say(f"{name} had ended; it was started again. Its log: {node.logs / name}.log")
        say("Stopping …")
    say("Osteon has stopped.")


def where_everything_is(settings: Settings) -> list[str]:
    """What a person needs to know of a node that has started, line by line."""
    folder = settings.data_dir.resolve()
    senders = ", ".join(f"{source.ae_title} at {source.host}" for source in settings.sources)
    reports = ", ".join(
        f"{d.name} ({d.ae_title} at {d.host}:{d.port})" for d in settings.destinations
    )
    page = f"http://{reachable(settings.web_host)}:{settings.web_port}/"
    if settings.open_node:
        senders = "ANYBODY who reaches the port: open_node is set"
    return [
        f"  DICOM    {settings.ae_title} at {settings.dicom_host}:{settings.dicom_port}",
        f"  Senders  {senders}",
        f"  Reports  {f'to {reports}' if reports else 'kept only: no [[destinations]] are set'}",
        f"  Page     {page}",
        f"  Data     {folder}",
        f"  Logs     {folder / 'logs'}",
    ]
