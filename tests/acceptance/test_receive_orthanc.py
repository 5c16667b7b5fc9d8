"""Orthanc as the sender: what a PACS forwards is kept, whatever its syntax."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless
from sqlalchemy import select

from studies import tables
from studies.database import Database
from tests.support.dicom_making import make, write
from tests.support.identities import IDENTITIES, with_identity
from tests.support.peers import Peer, PrivateNetwork, require_program
from tests.support.shared import PROJECT_ROOT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peer

LISTENER = """
import signal, threading
from dicom_node.listener import run_listener
from studies.settings import load_settings
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
run_listener(load_settings(), stop)
"""
# Uploads the files that its arguments name, then lets Orthanc forward all of them.
FORWARD = """
import json, sys, urllib.request
def post(path, body):
    request = urllib.request.Request("http://127.0.0.1:8042" + path, data=body, method="POST")
    return json.load(urllib.request.urlopen(request, timeout=60))
ids = [post("/instances", open(path, "rb").read())["ID"] for path in sys.argv[1:]]
print(json.dumps(post("/modalities/osteon/store", json.dumps(ids).encode())))
"""
SYNTAXES = (ExplicitVRLittleEndian, JPEGLSLossless, JPEG2000Lossless, RLELossless)


def test_what_orthanc_forwards_is_kept_whole(tmp_path: Path):
    """Several syntaxes and character sets in one forward; nothing is lost or re-encoded."""
    require_program("Orthanc")
    names = ["latin-1", "japanese-87", "utf-8", "cyrillic"]
    datasets = [
        with_identity(make(seed=f"study{n}/1", syntax=syntax), IDENTITIES[name])
        for n, (syntax, name) in enumerate(zip(SYNTAXES, names, strict=True))
    ]
    paths = [write(ds, tmp_path / f"{n}.dcm") for n, ds in enumerate(datasets)]
    orthanc = tmp_path / "orthanc"
    orthanc.mkdir()
    configuration = {
        "StorageDirectory": str(orthanc),
        "IndexDirectory": str(orthanc),
        "DicomPort": 4242,
        "HttpPort": 8042,
        "AuthenticationEnabled": False,
        "DicomModalities": {"osteon": ["OSTEON", "127.0.0.1", 11112]},
        "Plugins": [],
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(configuration))
    url = f"sqlite:///{tmp_path / 'osteon.sqlite'}"
    environment = {
        "OSTEON_DATA_DIR": str(tmp_path / "data"),
        "OSTEON_DATABASE_URL": url,
        "OSTEON_RESERVE_BYTES": "0",
    }
    with Database(url) as database:
        tables.metadata.create_all(database.engine)
        with (
            PrivateNetwork() as network,
            Peer(
                command=network.command([sys.executable, "-c", LISTENER]),
                name="listener",
                env=environment,
                cwd=PROJECT_ROOT,
            ),
            Peer(
                command=network.command(["/usr/sbin/Orthanc", tmp_path / "orthanc.json"]),
                name="orthanc",
            ),
        ):
            for port in (11112, 4242, 8042):
                wait_until(partial(network.listens, port), 60, f"port {port}")
            result = network.run([sys.executable, "-c", FORWARD, *paths])
        with database.reading() as connection:
            rows = connection.execute(select(tables.instances)).all()

    answer = json.loads(result.stdout)
    assert answer["InstancesCount"] == len(datasets)
    assert answer["FailedInstancesCount"] == 0
    kept = {row.sop_instance_uid: row for row in rows}
    for ds in datasets:
        row = kept[ds.SOPInstanceUID]
        assert row.transfer_syntax_uid == ds.file_meta.TransferSyntaxUID
        received = pydicom.dcmread(tmp_path / "data" / row.path)
        assert received.PixelData == ds.PixelData
        assert str(received.PatientName) == str(ds.PatientName)
