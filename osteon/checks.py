"""What `osteon doctor` asks, one function per part. Each looks, and changes nothing."""

from __future__ import annotations

import os
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.admission import Admission
from dicom_node.sender import StoreClient
from osteon import migrations
from studies.catalogue import Catalogue
from studies.database import Database
from studies.errors import ConfigurationError, DestinationUnreachable
from studies.model import Status
from studies.outbox import Outbox
from studies.presence import Process
from studies.settings import Destination, Settings
from worklist.health import broker_trouble, provider_trouble

NEEDED: Final = ("listener", "worker", "sweep", "sender", "web")
START: Final = "start the node: osteon up"
_ROOMY: Final = 5  # times the reserve; with less room, somebody should look before it is late
_SECONDS: Final = 3.0


class State(StrEnum):
    """How a part is."""

    OK = "ok"
    WARNING = "warning"  # works, or will; somebody should know
    PROBLEM = "problem"  # because of it, studies are not received, read or delivered


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One part, how it is, and what to do.

    Raises
    ------
    ValueError
        If something is not ok and no remedy is named, or the other way round.
    """

    name: str
    state: State
    message: str
    remedy: str | None = None

    def __post_init__(self) -> None:
        if (self.state is State.OK) != (self.remedy is None):
            raise ValueError(
                f"{self.name}: what is not ok needs a remedy, and nothing else has one"
            )


def ok(name: str, message: str) -> Check:
    """A part that is well."""
    return Check(name=name, state=State.OK, message=message)


def warning(name: str, message: str, remedy: str) -> Check:
    """A part that somebody should know of."""
    return Check(name=name, state=State.WARNING, message=message, remedy=remedy)


def problem(name: str, message: str, remedy: str) -> Check:
    """A part that keeps studies from being received, read or delivered."""
    return Check(name=name, state=State.PROBLEM, message=message, remedy=remedy)


def check_settings(settings: Settings) -> Iterator[Check]:
    """What is allowed, and should be meant."""
    if settings.open_node:
        remedy = "name the senders in [[sources]] and set open_node = false"
        yield warning("senders", "anybody who reaches the port may send (open_node)", remedy)
    if settings.web_without_login:
        remedy = "keep a proxy that asks for a login before it, or unset web_without_login"
        yield warning("web login", "the pages may be served without a login", remedy)


def check_disk(settings: Settings) -> Check:
    """Room in the data directory against the reserve; and whether we may write there."""
    folder = settings.data_dir.resolve()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(there, os.W_OK | os.X_OK) or not there.is_dir():
        return problem("disk", f"{there} cannot be written to", "give this user the right to it")
    free = shutil.disk_usage(there).free
    message = f"{_size(free)} free for {folder}, reserve {_size(settings.reserve_bytes)}"
    remedy = "make room, move data_dir to a larger disk, or lower reserve_bytes"
    if free <= settings.reserve_bytes:
        return problem("disk", f"{message}: images are refused (0xA700)", remedy)
    if free < _ROOMY * settings.reserve_bytes:
        return warning("disk", message, remedy)
    return ok("disk", message)


def check_schema(settings: Settings) -> Check:
    """Whether the database answers, and has the tables that this version needs."""
    url = make_url(settings.resolved_database_url)
    where = url.render_as_string(hide_password=True)
    if not is_there(settings):
        remedy = "make it: osteon migrate (osteon up does so too)"
        return warning("database", f"{where} is not there yet", remedy)
    try:
        with Database(settings.resolved_database_url) as database:
            current = migrations.current_revision(database)
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        return problem("database", f"{where}: {cause}", "start it, or mend database_url")
    except ConfigurationError as error:
        return problem("database", str(error), "mend database_url")
    return _revision(where, current)


def is_there(settings: Settings) -> bool:
    """False for a file of SQLite that does not exist: asking it would make it."""
    url = make_url(settings.resolved_database_url)
    return url.get_backend_name() != "sqlite" or Path(url.database or "").is_file()


def check_processes(alive: Sequence[Process]) -> Iterator[Check]:
    """Every kind of process that the node needs, by its heartbeat."""
    kinds = {process.kind for process in alive}
    if not kinds:
        yield warning("processes", "the node is not running", START)
        return
    for kind in NEEDED:
        count = sum(process.kind == kind for process in alive)
        if count:
            hosts = sorted({process.host for process in alive if process.kind == kind})
            yield ok(kind, f"{count} alive on {', '.join(hosts)}")
        else:
            remedy = f"start it: osteon {kind} (osteon up starts them all); its log says why"
            yield problem(kind, "no heartbeat in the last 30 seconds", remedy)


def check_broker(settings: Settings, alive: Sequence[Process]) -> Check:
    """Whether the queue's server answers a ping."""
    trouble = broker_trouble(settings, seconds=_SECONDS)
    kind = "the configured one" if settings.broker_url else "the embedded Valkey"
    if trouble is None:
        return ok("broker", f"{kind} answers")
    if settings.broker_url:
        remedy = "start it, or mend broker_url; receiving goes on meanwhile, reading waits"
        return problem("broker", f"{kind} does not answer: {trouble}", remedy)
    if alive:
        remedy = "start it: osteon broker (osteon up does); receiving goes on, reading waits"
        return problem("broker", f"{kind} does not answer: {trouble}", remedy)
    return warning("broker", f"{kind} is not running", START)


def check_listener(settings: Settings, alive: Sequence[Process]) -> Check:
    """Whether our listener answers a C-ECHO, or its port is free for it."""
    host, port = _reachable(settings.dicom_host), settings.dicom_port
    where = f"{host}:{port}"
    if not _accepts(host, port):
        if any(process.kind == "listener" for process in alive):
            message = f"a listener is alive, but nobody accepts connections at {where}"
            remedy = "look at dicom_host and dicom_port; behind a container, at its published port"
            return problem("dicom port", message, remedy)
        return _free("dicom port", "dicom_port", settings.dicom_host, port)
    if settings.listener_tls is not None:
        return ok("dicom port", f"{where} accepts connections (TLS: not asked by C-ECHO)")
    admission = Admission(settings.sources, open_node=settings.open_node)
    if admission.source_of(settings.ae_title, _address(host)) is None:
        return ok("dicom port", f"{where} accepts connections (this machine is no source)")
    us = Destination(ae_title=settings.ae_title, host=host, port=port, name=where)
    try:
        with StoreClient(us, settings.ae_title) as client:
            client.echo()
    except DestinationUnreachable as error:
        remedy = f"find out who listens there (ss -ltnp 'sport = :{port}'), or change dicom_port"
        return problem("dicom port", f"no C-ECHO from {settings.ae_title}: {error}", remedy)
    return ok("dicom port", f"{settings.ae_title} at {where} answers a C-ECHO")


def check_web(settings: Settings, alive: Sequence[Process]) -> Check:
    """Whether our web answers, or its port is free for it."""
    host, port = _reachable(settings.web_host), settings.web_port
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if not _accepts(host, port):
        if any(process.kind == "web" for process in alive):
            message = f"the web is alive, but nobody accepts connections at {url}"
            return problem("web port", message, "look at web_host and web_port")
        return _free("web port", "web_port", settings.web_host, port)
    try:
        with urllib.request.urlopen(f"{url}/health/live", timeout=_SECONDS) as answer:  # noqa: S310
            is_ours = b"alive" in answer.read(200)
    except (urllib.error.URLError, OSError, ValueError):
        is_ours = False
    if is_ours:
        return ok("web port", f"{url} answers")
    remedy = f"find out who listens there (ss -ltnp 'sport = :{port}'), or change web_port"
    return problem("web port", f"{url} is somebody else's", remedy)


def check_models(settings: Settings, alive: Sequence[Process]) -> Iterator[Check]:
    """Digests and golden images of the models here; providers and models of the workers."""
    # Heavy: ONNX Runtime and all weights.
    from worker.models import load_models, models_folder

    here: set[str] = set()
    try:
        models = load_models(settings)
    except ConfigurationError as error:
        remedy = f"restore the model, or look at device and models_dir ({models_folder(settings)})"
        yield problem("models", str(error), remedy)
    else:
        here = {f"{model.name} {model.version}" for model in models.refs}
        read = ", ".join(sorted(models.bones)) or "no region"
        silent = ", ".join(sorted(models.inactive))
        message = f"{len(here)} open, each says what its card says; they read {read}"
        yield ok("models", f"{message} (experimental, silent: {silent})" if silent else message)
        yield _provider(settings, models.provider)
    yield from _workers(settings, [process for process in alive if process.kind == "worker"], here)


def check_destinations(settings: Settings) -> Iterator[Check]:
    """Whether each destination answers a C-ECHO."""
    if not settings.destinations:
        remedy = "name the PACS in [[destinations]]"
        yield warning("destinations", "none: reports are made and kept, and go nowhere", remedy)
    for destination in settings.destinations:
        name = f"destination {destination.name}"
        where = f"{destination.ae_title} at {destination.host}:{destination.port}"
        try:
            with StoreClient(destination, settings.ae_title) as client:
                client.echo()
        except DestinationUnreachable as error:
            remedy = (
                f"let it know {settings.ae_title} and this machine's address; look at host, port "
                "and ae_title, and at the firewall"
            )
            yield problem(name, str(error), remedy)
        except ConfigurationError as error:
            yield problem(name, str(error), "mend its tls section")
        else:
            yield ok(name, f"{where} answers a C-ECHO")


def check_studies(settings: Settings, database: Database) -> Iterator[Check]:
    """What waits for a person."""
    catalogue, outbox = Catalogue(database), Outbox(database)
    ledger = catalogue.ledger()
    if ledger[Status.FAILED]:
        remedy = "osteon studies show UID says why; osteon studies replay UID reads it again"
        yield warning("studies", f"{ledger[Status.FAILED]} failed", remedy)
    quarantined = catalogue.quarantined()
    if quarantined:
        remedy = "docs/operations.md, Quarantine: they contradict what is held"
        yield warning("quarantine", f"{quarantined} files", remedy)
    dead = outbox.dead_letters()
    if dead:
        to = ", ".join(sorted({letter.destination for letter in dead}))
        remedy = "osteon deadletters list says why; osteon deadletters retry sends them again"
        yield warning("dead letters", f"{len(dead)} for {to}", remedy)
    strays = sorted(name for name in outbox.waiting() if settings.destination(name) is None)
    if strays:
        remedy = "configure it again under that name"
        message = f"reports wait for what is no longer a destination: {', '.join(strays)}"
        yield warning("outbox", message, remedy)
    if not (ledger[Status.FAILED] or quarantined or dead or strays):
        yield ok("studies", f"{sum(ledger.values())} held, none waits for a person")


def _revision(where: str, current: str | None) -> Check:
    """Whether a database's tables are those that this version needs."""
    newest = migrations.newest_revision()
    if current == newest:
        return ok("database", f"{where}, schema {current}")
    if current is None:
        return problem("database", f"{where} has no tables", "make them: osteon migrate")
    if current in migrations.known_revisions():
        message = f"{where} has schema {current}, this version needs {newest}"
        return problem("database", message, "bring it up to date: osteon migrate")
    message = f"{where} has schema {current}, which is newer than this version"
    return warning("database", message, "update this installation too")


def _provider(settings: Settings, provider: str) -> Check:
    import onnxruntime

    cuda = "CUDAExecutionProvider"
    if settings.device == "auto" and provider != cuda:
        if cuda in onnxruntime.get_available_providers():
            remedy = "look at the driver, or set device to cpu; device = cuda makes it an error"
            return warning("provider", f"{provider}, though ONNX Runtime knows CUDA", remedy)
        return ok("provider", f"{provider} (device = auto)")
    return ok("provider", f"{provider}, as configured")


def _workers(settings: Settings, workers: Sequence[Process], here: set[str]) -> Iterator[Check]:
    """What the running workers really use, which is not always what is configured now."""
    if not workers:
        return
    trouble = provider_trouble(settings, workers)
    if trouble is not None:
        yield problem("workers", trouble, "mend the GPU's driver, then restart the worker")
        return
    other = [w.id for w in workers if here and set(w.facts.get("models", here)) != here]
    if other:
        message = f"{', '.join(other)} reads with other models than lie here now"
        yield warning("workers", message, "restart the worker")
        return
    used = sorted({str(w.facts.get("provider", "a provider it does not state")) for w in workers})
    yield ok("workers", f"use {', '.join(used)}")


def _free(name: str, setting: str, host: str, port: int) -> Check:
    """Whether a port that nobody answers at is ours to take."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            return ok(name, f"{host}:{port} is free")
    except OSError as error:
        message = f"{host}:{port} cannot be listened on: {error.strerror or error}"
        return problem(name, message, f"change {setting}, or end what holds it")


def _reachable(host: str) -> str:
    """Where to reach from this machine what listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=_SECONDS):
            return True
    except OSError:
        return False


def _address(host: str) -> str:
    """The address from which a connection to a host of this machine comes."""
    return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])


def _size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 10**8 else f"{count / 1e6:.1f} MB"
