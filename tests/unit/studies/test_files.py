"""Durable files: nothing half-written, nothing overwritten, nothing outside."""

import hashlib
from collections import namedtuple
from pathlib import Path

import pytest

from studies.errors import NoRoom, TemporaryError
from studies.files import Files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """An empty data directory."""
    return Files(tmp_path / "data")


def test_a_spooled_file_takes_its_place_with_its_digest(files: Files):
    """Our own preamble does not count in the digest of what the sender sent."""
    spooled = files.spool()
    spooled.write_preamble(b"ours")
    spooled.write(b"theirs, ")
    spooled.write(memoryview(b"in two parts"))
    spooled.finish()

    assert files.keep(spooled, "received/1.2/3.dcm")
    assert files.read("received/1.2/3.dcm") == b"ourstheirs, in two parts"
    assert spooled.sha256 == hashlib.sha256(b"theirs, in two parts").hexdigest()
    assert spooled.size == 20
    assert list((files.root / "spool").iterdir()) == []


def test_a_file_is_never_written_over(files: Files):
    """Two senders with one UID: the first stays, the second is left to the caller."""
    for content, first in ((b"one", True), (b"two", False)):
        spooled = files.spool()
        spooled.write(content)
        spooled.finish()

        assert files.keep(spooled, "received/x.dcm") is first
    assert files.read("received/x.dcm") == b"one"
    assert spooled.path.read_bytes() == b"two"


@pytest.mark.parametrize("path", ("../outside", "received/../../x", "/etc/passwd"))
def test_no_path_leads_out_of_the_data_directory(files: Files, path: str):
    """Hostile UIDs end here even if they pass everything else."""
    with pytest.raises(ValueError, match="out of the data directory"):
        files.absolute(path)


def test_the_reserve_is_left_to_work_in_flight(files: Files, monkeypatch: pytest.MonkeyPatch):
    """Receiving stops before the disk is full."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10_000, 4_000, 6_000))
    reserved = Files(files.root, reserve_bytes=5_000)

    reserved.check_room(1_000)
    with pytest.raises(NoRoom, match="6000 bytes are free"):
        reserved.check_room(1_001)


def test_a_full_disk_has_its_own_error(files: Files):
    """/dev/full answers every write as a full disk does."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full; run on Linux to see a full disk")
    spooled = files.spool()
    spooled._file.close()
    with full.open("wb", buffering=0) as spooled._file, pytest.raises(NoRoom):
        spooled.write(b"x")


def test_a_produced_file_is_replaced_whole(files: Files):
    """The same object built again gives the same file."""
    first = files.write("produced/a.dcm", b"report")
    again = files.write("produced/a.dcm", b"report")

    assert first == again == hashlib.sha256(b"report").hexdigest()
    assert files.read("produced/a.dcm") == b"report"


def test_a_file_that_is_gone_is_a_temporary_error(files: Files):
    """A share that is away comes back: worth another try."""
    with pytest.raises(TemporaryError, match="missing"):
        files.read("received/missing.dcm")


def test_old_spool_files_are_cleared_and_new_ones_stay(files: Files):
    """They were promised to nobody."""
    spooled = files.spool()
    spooled.write(b"half")
    spooled.finish()
    age = spooled.path.stat().st_mtime

    assert files.clear_spool(older_than=age) == 0
    assert files.clear_spool(older_than=age + 1) == 1
    assert not spooled.path.exists()


def test_a_discarded_file_leaves_nothing(files: Files):
    """An aborted association leaves no trace."""
    spooled = files.spool()
    spooled.write(b"half")
    spooled.discard()

    assert list((files.root / "spool").iterdir()) == []


def test_a_file_is_put_aside_by_name(files: Files):
    """Quarantine keeps the bytes."""
    files.write("received/x.dcm", b"strange")
    files.put_aside("received/x.dcm", "quarantine/x.dcm")

    assert files.read("quarantine/x.dcm") == b"strange"
    assert not files.absolute("received/x.dcm").exists()
