"""A small Storage SCP that plays the PACS: takes every object that it is sent and keeps the file."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

from studies.errors import ConfigurationError
from studies.settings import Destination

# It only keeps what it is sent, so that it need not decode any of them.
_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
    RLELossless,
)
_SUCCESS = 0x0000  # PS3.4 B.2.3
_OUT_OF_RESOURCES = 0xA700
_CANNOT_UNDERSTAND = 0xC000

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """One object that has come, once for each time that it came."""

    SOPInstanceUID: str
    StudyInstanceUID: str
    path: Path


class Simulator:
    """A PACS for demonstrations and trials; anybody may send to it. Use as a context manager.

    Parameters
    ----------
    folder
        Where files are kept, ``<Study Instance UID>/<SOP Instance UID>.dcm``; made if missing.
    port
        0 takes a free one.
    """

    def __init__(
        self, folder: Path, *, ae_title: str = "PACS", host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.folder = folder
        self._address = (host, port)
        self._ae = AE(ae_title=ae_title)
        self._ae.maximum_associations = 64
        for context in AllStoragePresentationContexts:
            self._ae.add_supported_context(context.abstract_syntax, list(_SYNTAXES))
        self._ae.add_supported_context(Verification, list(_SYNTAXES[:2]))
        self._lock = threading.Lock()
        self._kept: list[Kept] = []
        self._server: Any = None

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""
        if self._server is None:
            raise RuntimeError("the simulator has not been started")
        return int(self._server.server_address[1])

    def destination(self, name: str = "") -> Destination:
        """How a node is told of it."""
        return Destination.model_validate(
            {
                "ae_title": str(self._ae.ae_title),
                "host": self._address[0],
                "port": self.port,
                "name": name,
            }
        )

    def kept(self) -> tuple[Kept, ...]:
        """Everything that has come, in order, with every repetition."""
        with self._lock:
            return tuple(self._kept)

    def start(self) -> None:
        """Listen from now on, in threads of our own.

        Raises
        ------
        ConfigurationError
            If the address cannot be listened on.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._server = self._ae.start_server(
                self._address, block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
            )
        except OSError as error:
            host, port = self._address
            raise ConfigurationError(
                f"{host}:{port} cannot be listened on: {error.strerror}"
            ) from error

    def stop(self) -> None:
        """End every association, as a PACS that is switched off does."""
        if self._server is not None:
            self._ae.shutdown()
            self._server = None

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

    def _store(self, event: evt.Event) -> int:
        """Keep one object before success is said."""
        SOPInstanceUID = UID(str(event.request.AffectedSOPInstanceUID))
        data = event.encoded_dataset()
        StudyInstanceUID = _study_of(data)
        if not (SOPInstanceUID.is_valid and StudyInstanceUID.is_valid):
            return _CANNOT_UNDERSTAND
        path = self.folder / StudyInstanceUID / f"{SOPInstanceUID}.dcm"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{threading.get_ident()}.part")
            part.write_bytes(data)
            os.replace(part, path)  # noqa: PTH105  # at once: a reader never sees half a file
        except OSError as error:
            _log.warning("object not kept", SOPInstanceUID=SOPInstanceUID, error=error.strerror)
            return _OUT_OF_RESOURCES
        kept = Kept(SOPInstanceUID=SOPInstanceUID, StudyInstanceUID=StudyInstanceUID, path=path)
        with self._lock:
            self._kept.append(kept)
        _log.info("object kept", SOPInstanceUID=SOPInstanceUID, StudyInstanceUID=StudyInstanceUID)
        return _SUCCESS


def _study_of(file: bytes) -> UID:
    """The Study Instance UID of a file; an invalid one if it has none."""
    try:
        found = dcmread(BytesIO(file), specific_tags=["StudyInstanceUID"], stop_before_pixels=True)
    except (InvalidDicomError, ValueError, EOFError):
        return UID("", validation_mode=0)
    return UID(str(found.get("StudyInstanceUID", "")), validation_mode=0)
