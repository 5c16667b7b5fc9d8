"""`osteon send`: a line for every file that was not taken, and the counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from osteon.console import FAILED, say
from osteon.sending import Answer, send_files, this_node
from studies.errors import ConfigurationError
from studies.settings import Destination, load_settings


def run_send(paths: Sequence[Path], *, to: str | None, called: str | None, calling: str) -> int:
    """Send the files; 0 if every one of them was accepted.

    Parameters
    ----------
    to
        "host:port"; our own listener if None.
    called
        AE title of the receiver; ours if None.
    """
    destination = _destination(to, called)

    def tell(answer: Answer) -> None:
        if not answer.accepted:
            say(f"{answer.path}: {answer.told}")

    answers = send_files(paths, destination, calling_ae_title=calling, tell=tell)
    accepted = sum(answer.accepted for answer in answers)
    say(
        f"{accepted} of {len(answers)} files accepted by {destination.ae_title} at "
        f"{destination.host}:{destination.port}"
    )
    return 0 if answers and accepted == len(answers) else FAILED


def _destination(to: str | None, called: str | None) -> Destination:
    node = this_node(load_settings())
    changed: dict[str, object] = {}
    if called is not None:
        changed["ae_title"] = called
    if to is not None:
        host, colon, port = to.rpartition(":")
        if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
            raise ConfigurationError(f"--to: {to!r} is not HOST:PORT")
        changed |= {"host": host.strip("[]"), "port": int(port), "tls": None}
    return node.model_copy(update=changed)
