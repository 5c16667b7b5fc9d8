"""The listener: sockets, associations and who is let in. What is done with bytes is in handlers."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from socketserver import BaseServer
from types import TracebackType
from typing import Any, Self

import structlog
from pynetdicom import AE, _config, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.transport import (
    AddressInformation,
    AssociationSocket,
    RequestHandler,
    ThreadedAssociationServer,
)

from dicom_node.admission import Admission, Rejection
from dicom_node.associations import AssociationBook
from dicom_node.contexts import supported_contexts
from dicom_node.handlers import Storage
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.plain import PlainAssociation, handle_store, note_abort
from dicom_node.streaming import StreamingAssociation
from dicom_node.tls import server_context
from studies.database import Database
from studies.files import Files
from studies.journal import Journal
from studies.model import Sender
from studies.presence import Presence, announce
from studies.settings import Settings

# A peer that connects must have asked for an association by then.
REQUEST_SECONDS = 15.0
# A spool file that nobody has written to for so long belongs to nobody.
ABANDONED_SECONDS = 3600.0
HOUSEKEEPING_SECONDS = 5.0
# An association that keeps an instance at this moment may finish that.
STOP_SECONDS = 30.0

_log = structlog.get_logger()


class Listener:
    """A storage SCP on one address.

    Use as a context manager, or call `start` and `stop`.

    Parameters
    ----------
    process_id
        Of this process, as its presence states it; the associations' rows refer to it.
    port
        Over `settings.dicom_port`; 0 takes a free one.

    Raises
    ------
    ConfigurationError
        If the TLS files cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        files: Files,
        journal: Journal,
        process_id: str,
        *,
        port: int | None = None,
    ) -> None:
        self._settings = settings
        self._address = (settings.dicom_host, settings.dicom_port if port is None else port)
        self._storage = Storage(
            files,
            journal,
            max_instance_bytes=settings.max_instance_bytes,
            default_charset=settings.default_charset,
        )
        self._book = AssociationBook(journal, process_id, limit=settings.max_associations)
        self._admission = Admission(settings.sources, open_node=settings.open_node)
        self._tls = server_context(settings.listener_tls) if settings.listener_tls else None
        # pynetdicom's own log handlers cost time per PDU, and may write what stands in a message.
        _config.LOG_HANDLER_LEVEL = "none"
        self._ae = _application_entity(settings)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The TCP port that we listen on."""
        if self._server is None:
            raise RuntimeError("the listener has not been started")
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Listen from now on, in threads of our own.

        Raises
        ------
        OSError
            If the address cannot be bound.
        """
        settings = self._settings
        if settings.open_node:
            _log.warning(
                "OPEN NODE: anybody who reaches this address may send; set sources instead",
                host=self._address[0],
            )
        self._server = _Server(
            self._ae,
            self._address,
            self._handlers(),
            association_class=StreamingAssociation if settings.fast_receive else PlainAssociation,
            storage=self._storage,
            tls=self._tls,
            network_seconds=settings.network_seconds,
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="listener"
        )
        self._thread.start()

    def stop(self) -> None:
        """Accept nobody any more, abort what is open, and return when all has ended."""
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        server.shutdown()
        self._thread.join()
        associations = server.active_associations
        for association in associations:
            association.stop()
        for association in associations:
            if association.record is not None:  # else it has not been let in, and holds nothing
                association.join(timeout=STOP_SECONDS)
        self._book.close_what_is_left()

    def keep_house(self) -> None:
        """Close what could not be closed before; to be called now and then."""
        self._book.close_what_is_left()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _handlers(self) -> list[Any]:
        return [
            (evt.EVT_REQUESTED, self._admit),
            (evt.EVT_ACSE_RECV, note_abort),
            (evt.EVT_C_STORE, handle_store),
        ]

    def _admit(self, event: evt.Event) -> None:
        """Let an association in or reject it, before its contexts are negotiated."""
        association = event.assoc
        request = association.requestor.primitive
        sender = Sender(
            ae_title=str(request.calling_ae_title).strip(),
            address=str(association.requestor.address_info.address),
        )
        rejection = self._rejection(association, sender)
        if rejection is None:
            return
        _log.warning(
            "association rejected",
            reason=rejection.name.lower(),
            calling_ae_title=sender.ae_title,
            called_ae_title=str(request.called_ae_title).strip(),
            address=sender.address,
        )
        association.acse.send_reject(*rejection.value)
        evt.trigger(association, evt.EVT_REJECTED, {})
        association.kill()

    def _rejection(self, association: Any, sender: Sender) -> Rejection | None:
        source = self._admission.source_of(sender.ae_title, sender.address)
        if source is None:
            return Rejection.CALLING_AE_NOT_RECOGNISED
        called = str(association.requestor.primitive.called_ae_title).strip()
        if called != self._settings.ae_title:
            return Rejection.CALLED_AE_NOT_RECOGNISED
        association.record = self._book.admit(sender, source)
        return None if association.record else Rejection.LOCAL_LIMIT_EXCEEDED


class _Server(ThreadedAssociationServer):  # type: ignore[misc]
    """pynetdicom's server, with a handshake and an association class of our own."""

    daemon_threads = True
    request_queue_size = 128  # connections that may wait to be accepted: many senders start at once

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int],
        handlers: list[Any],
        *,
        association_class: type[PlainAssociation | StreamingAssociation],
        storage: Storage,
        tls: ssl.SSLContext | None,
        network_seconds: float,
    ) -> None:
        self.handlers = handlers
        self.association_class = association_class
        self.storage = storage
        self.tls = tls
        self.network_seconds = network_seconds
        super().__init__(
            ae,
            address,
            ae.ae_title,
            ae.supported_contexts,
            request_handler=_RequestHandler,
        )

    def shutdown(self) -> None:
        """Stop accepting; the inherited method expects that the AE has made this server."""
        BaseServer.shutdown(self)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log what went wrong before there was an association."""
        _log.exception("connection not served", address=client_address[0])


class _RequestHandler(RequestHandler):  # type: ignore[misc]
    """Makes an association of a connection."""

    server: _Server
    request: Any  # a socket, plain or TLS

    def handle(self) -> None:
        """Shake hands and start the association's thread; runs in a thread of its own."""
        # Without Nagle's algorithm an answer leaves at once; without a timeout a peer that falls
        # silent within a PDU would hold its thread for ever.
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.server.tls is not None and not self._shake_hands(self.server.tls):
            return
        self.request.settimeout(self.server.network_seconds)
        super().handle()

    def _shake_hands(self, tls: ssl.SSLContext) -> bool:
        self.request.settimeout(REQUEST_SECONDS)
        try:
            self.request = tls.wrap_socket(self.request, server_side=True)
        except OSError as error:  # an SSLError is one
            _log.warning("TLS handshake failed", address=self.client_address[0], error=str(error))
            self.server.shutdown_request(self.request)
            return False
        return True

    def _create_association(self) -> PlainAssociation | StreamingAssociation:
        """As the inherited method does it, but of our class."""
        server = self.server
        association = server.association_class(server.ae, MODE_ACCEPTOR)
        association._server = server  # noqa: SLF001
        association.storage = server.storage
        association.name = f"AcceptorThread {self.client_address[0]}:{self.client_address[1]}"
        association.set_socket(AssociationSocket(association, client_socket=self.request))
        association.acceptor.maximum_length = server.ae.maximum_pdu_size
        association.acceptor.ae_title = server.ae_title
        association.acceptor.address_info = self.local
        association.acceptor.implementation_class_uid = server.ae.implementation_class_uid
        association.acceptor.implementation_version_name = server.ae.implementation_version_name
        association.acceptor.supported_contexts = supported_contexts()
        association.requestor.address_info = AddressInformation.from_tuple(self.client_address)
        for event, handler, *arguments in server.handlers:
            association.bind(event, handler, *arguments)
        return association


def _application_entity(settings: Settings) -> AE:
    ae = AE(ae_title=settings.ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.maximum_pdu_size = settings.max_pdu
    ae.acse_timeout = REQUEST_SECONDS
    ae.network_timeout = settings.network_seconds
    # Ours is counted by the associations that are let in, not by the threads that run.
    ae.maximum_associations = 1 << 16
    ae.supported_contexts = supported_contexts()
    return ae


def run_listener(settings: Settings, stop: threading.Event) -> None:
    """Receive until `stop` is set. A database that is away at the start is waited for.

    Raises
    ------
    ConfigurationError
        If the TLS files cannot be used.
    OSError
        If the address cannot be bound.
    """
    database = Database(settings.resolved_database_url)
    files = Files(settings.data_dir, reserve_bytes=settings.reserve_bytes)
    files.clear_spool(older_than=time.time() - ABANDONED_SECONDS)
    presence = _present(database, settings, stop)
    if presence is None:
        database.close()
        return
    try:
        with Listener(settings, files, Journal(database), presence.id) as listener:
            presence.state(listening=True, port=listener.port)
            _log.info("listening", host=settings.dicom_host, port=listener.port)
            while not stop.wait(HOUSEKEEPING_SECONDS):
                listener.keep_house()
    finally:
        presence.__exit__(None, None, None)
        database.close()


def _present(database: Database, settings: Settings, stop: threading.Event) -> Presence | None:
    """The presence of this process; None if we are to stop before the database is there."""
    facts = {
        "ae_title": settings.ae_title,
        "host": settings.dicom_host,
        "port": settings.dicom_port,
        "tls": settings.listener_tls is not None,
        "open_node": settings.open_node,
    }
    return announce(database, "listener", facts, stop)
