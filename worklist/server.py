"""Serves the web application on one address; beyond loopback only where a setting says so."""

from __future__ import annotations

import ipaddress
import threading
from contextlib import suppress

import structlog
import uvicorn
from sqlalchemy.exc import SQLAlchemyError

from studies.database import Database
from studies.errors import ConfigurationError
from studies.presence import Presence
from studies.settings import Settings
from worklist.app import make_app

_TICK_SECONDS = 0.2
_TICKS_BETWEEN_TRIES = 25
_log = structlog.get_logger()


def check_exposure(settings: Settings) -> None:
    """Refuse to show patients to a network while there is no login.

    Raises
    ------
    ConfigurationError
        If web_host is not loopback and web_without_login is not set.
    """
    if is_loopback(settings.web_host) or settings.web_without_login:
        return
    raise ConfigurationError(
        f"web_host: {settings.web_host} is not loopback, and the web has no login: set it to "
        "127.0.0.1, or web_without_login = true if something before it asks who is there"
    )


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run_web(settings: Settings, stop: threading.Event) -> None:
    """Serve until `stop` is set.

    Raises
    ------
    ConfigurationError
        If the address would show patients to whoever comes.
    """
    check_exposure(settings)
    if not is_loopback(settings.web_host):
        _log.warning("WEB WITHOUT LOGIN: whoever reaches it sees patients", host=settings.web_host)
    with Database(settings.resolved_database_url) as database:
        config = uvicorn.Config(
            make_app(settings, database),
            host=settings.web_host,
            port=settings.web_port,
            # Ours is a line without the query, which may hold a Patient ID (worklist.app).
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        facts = {"host": settings.web_host, "port": settings.web_port}
        _serve(uvicorn.Server(config), Presence(database, "web", facts), stop)


def _serve(server: uvicorn.Server, presence: Presence, stop: threading.Event) -> None:
    """Serve in a thread: signals are ours, and reach the server through `stop`.

    A database that is away does not keep the pages from saying so.
    """
    thread = threading.Thread(target=_run, args=[server], name="web")
    thread.start()
    announced, tries = False, 0
    while thread.is_alive() and not stop.wait(_TICK_SECONDS):
        if server.started and not announced and tries % _TICKS_BETWEEN_TRIES == 0:
            announced = _announced(presence)
        tries += 1
    failed = not stop.is_set()
    server.should_exit = True
    thread.join()
    if announced:
        presence.__exit__(None, None, None)
    if failed:
        raise ConfigurationError(
            f"web_host, web_port: {server.config.host}:{server.config.port} cannot be listened on"
        )


def _run(server: uvicorn.Server) -> None:
    # uvicorn leaves by SystemExit where it cannot bind; in a thread that is an end like any other.
    with suppress(SystemExit):
        server.run()


def _announced(presence: Presence) -> bool:
    try:
        presence.__enter__()
    except SQLAlchemyError as error:
        _log.warning("presence not written", error=type(error).__name__)
        return False
    return True
