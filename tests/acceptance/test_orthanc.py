"""Orthanc as the sender and as the PACS: a real radiograph there, its report back."""

import os
import sys
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import HTTP
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from osteon.samples import packaged_radiograph
from studies.catalogue import Catalogue
from studies.database import Database
from studies.model import DeliveryState, Status
from studies.outbox import Outbox
from tests.support.orthanc import AE_TITLE, DICOM_PORT, Orthanc
from tests.support.peers import Peer, PrivateNetwork, require_program
from tests.support.waiting import wait_until

PORT = 11112


@pytest.fixture
def network() -> Iterator[PrivateNetwork]:
    """A network that only this test's node and its PACS share."""
    with PrivateNetwork() as network:
        yield network


@pytest.fixture
def orthanc(network: PrivateNetwork, tmp_path: Path) -> Iterator[Orthanc]:
    """A running Orthanc that knows our node."""
    modalities = {"osteon": ["OSTEON", "127.0.0.1", PORT]}
    with Orthanc(network, tmp_path / "orthanc", modalities) as orthanc:
        yield orthanc


@pytest.fixture
def node(network: PrivateNetwork, tmp_path: Path) -> Iterator[Path]:
    """`osteon up` in that network, with the PACS as its destination; its data directory."""
    data = tmp_path / "data"
    destination = f'[{{ae_title = "{AE_TITLE}", host = "127.0.0.1", port = {DICOM_PORT}}}]'
    environment = {
        "OSTEON_DATA_DIR": str(data),
        "OSTEON_QUIET_SECONDS": "1",
        "OSTEON_DESTINATIONS": destination,
        "OSTEON_RESERVE_BYTES": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = network.command([sys.executable, "-m", "osteon", "up"])
    with Peer(command=command, name="osteon", env=environment) as up:
        up.wait_for_output("Osteon is up", 180)
        yield data
        assert up.is_running(), up.output()


def test_a_study_goes_from_orthanc_and_comes_back_as_a_report(node: Path, orthanc: Orthanc):
    """C-STORE there and back; WADO-RS gives the report that we keep, element by element."""
    radiograph = packaged_radiograph("RG3_UNCR.dcm").read_bytes()
    uid = str(dcmread(BytesIO(radiograph), stop_before_pixels=True).StudyInstanceUID)
    orthanc.send("osteon", orthanc.import_file(radiograph))
    reports = wait_until(lambda: orthanc.find("SR"), 120, "the report in Orthanc")

    assert len(reports) == 1
    with Database(f"sqlite:///{node / 'osteon.sqlite'}") as database:
        catalogue = Catalogue(database)
        study = wait_until(
            lambda: s if (s := catalogue.study(uid)).status is Status.REPORTED else None,
            60,
            "a reported study",
        )
        assert study is not None
        (delivery,) = Outbox(database).of_study(uid)
        (kept,) = catalogue.objects(study, 1)
    assert delivery.state is DeliveryState.SENT
    ours = dcmread(node / kept.path)
    path = f"/dicom-web/studies/{uid}/series/{kept.SeriesInstanceUID}"
    theirs = _wado(orthanc, f"{path}/instances/{kept.SOPInstanceUID}")
    assert theirs == ours
    assert theirs.PatientID == dcmread(BytesIO(radiograph)).PatientID


def test_a_pacs_that_was_switched_off_gets_the_report_when_it_is_back(
    node: Path, orthanc: Orthanc, network: PrivateNetwork
):
    """Down when the report is due: it waits, then arrives once."""
    orthanc.stop()
    radiograph = packaged_radiograph("RG3_UNCR.dcm")
    uid = str(dcmread(radiograph, stop_before_pixels=True).StudyInstanceUID)
    program = require_program("dcmsend")
    network.run([program, "-aec", "OSTEON", "127.0.0.1", str(PORT), radiograph])
    with Database(f"sqlite:///{node / 'osteon.sqlite'}") as database:
        outbox = Outbox(database)

        def failed_once() -> bool:
            return any(d.last_error for d in outbox.of_study(uid))

        wait_until(failed_once, 120, "a try that failed")
        orthanc.start()
        catalogue = Catalogue(database)
        wait_until(lambda: catalogue.study(uid).status is Status.REPORTED, 120, "a reported study")
    assert len(orthanc.find("SR")) == 1


def _wado(orthanc: Orthanc, path: str):
    """The one instance of a WADO-RS answer (PS3.18 10.4), a multipart message."""
    accept = 'multipart/related; type="application/dicom"'
    body = orthanc.request("GET", path, accept=accept)
    boundary = body.split(b"\r\n", 1)[0].removeprefix(b"--").decode()
    head = f'Content-Type: multipart/related; boundary="{boundary}"\r\n\r\n'.encode()
    (part,) = message_from_bytes(head + body, policy=HTTP).iter_parts()
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return dcmread(BytesIO(content))
