"""The listener against DCMTK: real files, every syntax, many senders, TLS, a full disk."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
import trustme
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from sqlalchemy import select

from dicom_node.contexts import STORAGE_SOP_CLASSES
from studies import tables
from studies.database import Database
from tests.support.dicom_making import make, picture, write
from tests.support.listening import Node, digest, running_node, without_meta
from tests.support.peers import (
    Peer,
    accepts,
    free_port,
    peer_environment,
    require_program,
    run_program,
)
from tests.support.raw_association import RawAssociation
from tests.support.shared import PROJECT_ROOT, SHARED, has_shared, require_shared
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peer

# Option of storescu → syntax that it then proposes alone (-R leaves the others out).
PROPOSED = {
    "-xe": ExplicitVRLittleEndian,
    "-xb": ExplicitVRLittleEndian,  # proposes big endian first, and we choose
    "-xi": ImplicitVRLittleEndian,
    "-xd": DeflatedExplicitVRLittleEndian,
    "-xs": JPEGLosslessSV1,
    "-xy": JPEGBaseline8Bit,
    "-xv": JPEG2000Lossless,
    "-xt": JPEGLSLossless,
    "-xr": RLELossless,
}
SHARED_FILES = (
    sorted(p.name for p in (SHARED / "dicom").glob("*.dcm")) if has_shared("dicom") else []
)


@pytest.fixture(params=[True, False], ids=["fast", "plain"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    """A node that receives either way."""
    with running_node(tmp_path, fast_receive=request.param) as node:
        yield node


def dcmsend(port: int, *arguments: str | Path, called: str = "OSTEON") -> tuple[int, str]:
    """Exit status and output; nothing is decompressed on the way."""
    result = run_program(
        [
            require_program("dcmsend"),
            "-v",
            "-dn",
            "-aec",
            called,
            "127.0.0.1",
            str(port),
            *arguments,
        ]
    )
    return result.returncode, result.stdout


def test_echoscu_is_answered(node):
    """The first thing that an administrator tries."""
    result = run_program(
        [require_program("echoscu"), "-v", "-aec", "OSTEON", "127.0.0.1", str(node.port)]
    )

    assert result.returncode == 0, result.stdout
    assert "Success" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-aec", "SOMEBODY"], "Called AE Title Not Recognized"),
        (["-aec", "OSTEON", "-aet", "STRANGER"], "Calling AE Title Not Recognized"),
    ],
)
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
def test_whoever_does_not_belong_here_is_told_why(tmp_path, fast, arguments, reason):
    """The reason stands in the sender's log, where its administrator looks."""
    sources = [{"ae_title": "ECHOSCU", "host": "127.0.0.1"}]
    with running_node(tmp_path, fast_receive=fast, sources=sources) as node:
        result = run_program(
            [require_program("echoscu"), "-v", *arguments, "127.0.0.1", str(node.port)]
        )

    assert result.returncode != 0
    assert reason in result.stdout


def test_an_association_over_the_limit_is_told_so(tmp_path):
    """Rejected for now, not for good."""
    ds = make()
    with (
        running_node(tmp_path, max_associations=1) as node,
        RawAssociation(node.port, [(ds.SOPClassUID, ExplicitVRLittleEndian)]),
    ):
        result = run_program(
            [require_program("echoscu"), "-v", "-aec", "OSTEON", "127.0.0.1", str(node.port)]
        )

    assert result.returncode != 0
    assert "Rejected Transient" in result.stdout
    assert "Local Limit Exceeded" in result.stdout


# One of these files has a UID that pydicom warns of; it is kept all the same.
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
@pytest.mark.shared
@pytest.mark.parametrize("name", SHARED_FILES or ["RG3_UNC.dcm"])
def test_a_real_file_is_kept_with_its_syntax_or_refused_by_its_class(node, name):
    """Every file of the reference set, never decompressed: kept whole, or never accepted."""
    path = require_shared(f"dicom/{name}")
    source = pydicom.dcmread(path)

    # Some of these files have UIDs that DCMTK itself finds fault with.
    status, output = dcmsend(node.port, "-nuc", path)

    if source.SOPClassUID not in STORAGE_SOP_CLASSES:
        assert node.instances() == []
        assert node.spool_files() == set()
        return
    assert status == 0, output
    (row,) = node.instances()
    assert row.sop_instance_uid == source.SOPInstanceUID
    assert row.transfer_syntax_uid == source.file_meta.TransferSyntaxUID
    kept = pydicom.dcmread(node.files.absolute(row.path))
    # DCMTK pads an odd number of bytes, as it should (PS3.5 7.1.1).
    assert kept.PixelData.removesuffix(b"\0") == source.PixelData.removesuffix(b"\0")
    assert str(kept.get("PatientName", "")) == str(source.get("PatientName", ""))


@pytest.mark.parametrize("option", PROPOSED)
def test_storescu_sends_in_every_syntax_that_it_knows(node, tmp_path, option):
    """DCMTK as the encoder, its proposals as real modalities make them."""
    syntax = UID(PROPOSED[option])
    compressed = syntax.is_encapsulated
    pixels = picture(bits=8).astype("uint8") if option == "-xy" else picture()
    ds = make(pixels, syntax=syntax if compressed else ExplicitVRLittleEndian)
    path = write(ds, tmp_path / "one.dcm")

    result = run_program(
        [
            *(require_program("storescu"), "-v", "-R", option, "-aec", "OSTEON"),
            *("127.0.0.1", str(node.port), path),
        ]
    )

    assert result.returncode == 0, result.stdout
    (row,) = node.instances()
    assert row.transfer_syntax_uid == syntax


def test_a_refusal_is_told_with_its_comment(node, tmp_path):
    """storescu prints the status, and dcmsend's report counts the failure."""
    held = write(make(), tmp_path / "held.dcm")
    other = write(make(picture(seed=3)), tmp_path / "other.dcm")
    dcmsend(node.port, held)

    result = run_program(
        [require_program("storescu"), "-d", "-aec", "OSTEON", "127.0.0.1", str(node.port), other]
    )

    assert "0xc111" in result.stdout.lower()
    assert "held with other content" in result.stdout


def test_sixteen_senders_at_once_lose_nothing(node, tmp_path):
    """Sixteen processes with ten images each; every file is there once, whole."""
    program = require_program("dcmsend")
    sent: dict[str, str] = {}
    shares: list[list[Path]] = []
    for sender in range(16):
        share = []
        for number in range(10):
            ds = make(picture(200, 200, seed=number), seed=f"study{sender}/{number}")
            path = write(ds, tmp_path / f"{sender}-{number}.dcm")
            sent[ds.SOPInstanceUID] = digest(without_meta(path.read_bytes()))
            share.append(path)
        shares.append(share)

    senders = [
        subprocess.Popen(
            [program, "-aec", "OSTEON", "127.0.0.1", str(node.port), *map(str, share)],
            env=peer_environment(),
        )
        for share in shares
    ]
    statuses = [sender.wait(120) for sender in senders]

    assert statuses == [0] * 16
    assert {row.sop_instance_uid: row.sha256 for row in node.instances()} == sent
    for row in node.instances():
        data = without_meta(node.files.absolute(row.path).read_bytes())
        assert digest(data) == row.sha256
    assert {row.outcome for row in node.closed_associations(16)} == {"released"}
    assert node.spool_files() == set()


def test_an_association_that_dcmtk_aborts_keeps_what_was_answered(node, tmp_path):
    """A-ABORT instead of a release: the image before it was promised."""
    path = write(make(), tmp_path / "one.dcm")

    run_program(
        [
            require_program("storescu"),
            "--abort",
            "-aec",
            "OSTEON",
            "127.0.0.1",
            str(node.port),
            path,
        ]
    )

    (row,) = node.closed_associations(1)
    assert row.outcome == "aborted"
    assert len(node.instances()) == 1


def test_dcmtk_sends_through_tls(tmp_path):
    """Both sides show a certificate of the same authority."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    for name in ("node", "sender"):
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(tmp_path / f"{name}.pem", append=True)
    path = write(make(picture(500, 500)), tmp_path / "one.dcm")
    tls = {
        "certificate": tmp_path / "node.pem",
        "key": tmp_path / "node.key",
        "authorities": tmp_path / "authority.pem",
    }

    with running_node(tmp_path, listener_tls=tls) as node:
        result = run_program(
            [
                *(require_program("storescu"), "-v", "-aec", "OSTEON"),
                *("+tls", tmp_path / "sender.key", tmp_path / "sender.pem"),
                *("+cf", tmp_path / "authority.pem", "127.0.0.1", str(node.port), path),
            ]
        )
        rows = node.instances()

    assert result.returncode == 0, result.stdout
    assert len(rows) == 1


FULL_DISK = """
import signal, threading
from dicom_node.listener import run_listener
from studies.settings import load_settings
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
run_listener(load_settings(), stop)
"""


def test_a_disk_that_fills_up_is_refused_before_it_is_full(tmp_path):
    """On a disk of 12 MiB: some images are promised, the others refused, none lost or broken."""
    data, port = tmp_path / "data", free_port()
    data.mkdir()
    url = f"sqlite:///{tmp_path / 'osteon.sqlite'}"
    database = Database(url)
    tables.metadata.create_all(database.engine)
    paths = [
        write(make(picture(1000, 1000, seed=n), seed=f"s{n}/1"), tmp_path / f"{n}.dcm")
        for n in range(8)
    ]
    mount = f'mount -t tmpfs -o size=12m tmpfs {data} && exec "$@"'
    command = [require_program("unshare"), "-m", "sh", "-c", mount, "full"]
    environment = {
        "OSTEON_DATA_DIR": str(data),
        "OSTEON_DATABASE_URL": url,
        "OSTEON_DICOM_PORT": str(port),
        "OSTEON_RESERVE_BYTES": str(2 * 1024**2),
    }
    with Peer(
        command=[*command, sys.executable, "-c", FULL_DISK],
        name="listener",
        env=environment,
        cwd=PROJECT_ROOT,
    ) as process:
        wait_until(lambda: accepts(port) or not process.is_running(), 30, "the listener")
        if not process.is_running():
            pytest.skip(f"needs a mount namespace (root): {process.output()[-200:]}")
        _, output = dcmsend(port, "-nh", *paths)
        again = run_program(
            [require_program("echoscu"), "-aec", "OSTEON", "127.0.0.1", str(port)]
        ).returncode
        with database.reading() as connection:
            rows = connection.execute(select(tables.instances)).all()
        seen = Path(f"/proc/{process.pid}/root{data}")
        for row in rows:
            assert digest(without_meta((seen / row.path).read_bytes())) == row.sha256
        leftovers = list((seen / "spool").iterdir())
        free = shutil.disk_usage(seen).free
    database.close()

    assert 2 <= len(rows) < len(paths)
    refused = re.search(r"with status REFUSED\s*: (\d+)", output)
    assert refused is not None, output
    assert int(refused[1]) == len(paths) - len(rows)
    assert leftovers == []
    assert again == 0
    # One data set is looked at again after each mebibyte; the reserve is otherwise untouched.
    assert free >= 1024**2
