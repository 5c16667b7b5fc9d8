"""A real Orthanc in a private network: as the PACS that sends to us, and that gets our reports."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.support.peers import Peer, PrivateNetwork, require_program
from tests.support.waiting import wait_until

AE_TITLE = "ORTHANC"
DICOM_PORT = 4242
HTTP_PORT = 8042
_PLUGINS = Path("/usr/share/orthanc/plugins")

# Runs inside the network, where the test itself is not: method, address, body file or "-".
_REQUEST = """
import sys, urllib.request
method, url, body, accept = sys.argv[1:5]
data = None if body == "-" else open(body, "rb").read()
request = urllib.request.Request(url, data=data, method=method, headers={"Accept": accept})
sys.stdout.buffer.write(urllib.request.urlopen(request, timeout=60).read())
"""


class Orthanc:
    """One server on the usual ports of a private network, with an empty store.

    Orthanc listens on all addresses whatever its configuration says, so it never runs in the
    machine's own network.
    """

    def __init__(self, network: PrivateNetwork, folder: Path, modalities: dict[str, Any]) -> None:
        self._network = network
        self._folder = folder
        folder.mkdir(parents=True)
        plugins = [str(path) for path in _PLUGINS.glob("libOrthancDicomWeb*.so*")]
        configuration = {
            "Name": "PACS",
            "StorageDirectory": str(folder / "store"),
            "IndexDirectory": str(folder / "index"),
            "Plugins": plugins,
            "DicomAet": AE_TITLE,
            "DicomPort": DICOM_PORT,
            "HttpPort": HTTP_PORT,
            "AuthenticationEnabled": False,
            "DicomModalities": modalities,
            "DicomWeb": {"Enable": True},
            "OverwriteInstances": False,
        }
        self._file = folder / "orthanc.json"
        self._file.write_text(json.dumps(configuration))
        self._peer: Peer | None = None

    def start(self) -> Orthanc:
        """Start the server; return once it answers."""
        command: list[str | Path] = [require_program("Orthanc"), self._file]
        self._peer = Peer(command=self._network.command(command), name="orthanc").start()
        wait_until(
            lambda: self._network.listens(HTTP_PORT) and self._network.listens(DICOM_PORT),
            60,
            "Orthanc",
        )
        return self

    def stop(self) -> None:
        """Switch it off; what it holds stays."""
        if self._peer is not None:
            self._peer.__exit__(None, None, None)
            self._peer = None

    def __enter__(self) -> Orthanc:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def request(
        self, method: str, path: str, body: bytes | None = None, accept: str = "application/json"
    ) -> bytes:
        """An HTTP request to the server, made inside its network."""
        file: Path | str = "-"
        if body is not None:
            file = self._folder / "request-body"
            file.write_bytes(body)
        output = self._folder / "answer"
        script = f'exec "$@" > "{output}"'
        result = self._network.run(
            [
                *("sh", "-c", script, "request", sys.executable, "-c", _REQUEST),
                *(method, f"http://127.0.0.1:{HTTP_PORT}{path}", file, accept),
            ]
        )
        assert result.returncode == 0, f"{method} {path}: {result.stdout[-2000:]}"
        return output.read_bytes()

    def get(self, path: str) -> Any:
        """The JSON answer of a GET."""
        return json.loads(self.request("GET", path))

    def import_file(self, file: bytes) -> str:
        """Put a file into the store; Orthanc's own identifier of the instance."""
        return str(json.loads(self.request("POST", "/instances", file))["ID"])

    def send(self, modality: str, instance: str) -> None:
        """C-STORE one of its instances to a modality that it knows."""
        self.request("POST", f"/modalities/{modality}/store", instance.encode())

    def find(self, modality_tag: str) -> list[str]:
        """Identifiers of the instances of a Modality that it holds."""
        query = {"Level": "Instance", "Query": {"Modality": modality_tag}}
        return list(json.loads(self.request("POST", "/tools/find", json.dumps(query).encode())))

    def file(self, instance: str) -> bytes:
        """An instance as a DICOM file."""
        return self.request("GET", f"/instances/{instance}/file", accept="*/*")
