"""`osteon scan`: one answer for each file, in order, whatever the file is."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import Comprehensive3DSRStorage

from osteon.samples import packaged_radiograph
from osteon.scan import default_processes, scan
from studies.errors import ConfigurationError
from studies.settings import Settings
from tests.support.dicom_making import make, picture, write
from tests.support.reader import KNEE, ROUTER, TRUNK, open_brightness
from worker.app import usable_cores

SETTINGS = Settings(device="cpu")


@pytest.fixture
def xray(tmp_path):
    """A DICOM file of a size that may be read."""
    return write(make(picture(200, 160)), tmp_path / "xray.dcm")


def grey_png(path: Path, grey: int, rows: int = 120, columns: int = 100) -> Path:
    """A picture of one grey with a dark corner."""
    pixels = np.full((rows, columns), grey, np.uint8)
    pixels[:4, :4] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def run(*paths: Path, processes: int = 1, as_lines: bool = True, save: Path | None = None):
    """The exit status, what was written to stdout, and what to stderr."""
    out, err = io.StringIO(), io.StringIO()
    status = scan(
        paths,
        SETTINGS,
        as_lines=as_lines,
        save=save,
        processes=processes,
        open_reader=open_brightness,
        out=out,
        err=err,
    )
    return status, out.getvalue(), err.getvalue()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_has_exactly_the_keys_that_are_promised(tmp_path):
    """What scripts read does not change under them; what is unknown is null."""
    path = grey_png(tmp_path / "bright.png", 230)

    status, out, _ = run(path)

    (line,) = lines(out)
    milliseconds = line.pop("milliseconds")
    (reading,) = line["readings"]
    (finding,) = reading["findings"]
    probability = reading["probability"]
    assert status == 0
    assert milliseconds > 0
    assert 0.5 < probability < 1
    assert finding == {
        "box": [1.0, 2.0, 50.0, 60.0],
        "probability": probability,
        "site": None,
        "type": None,
    }
    assert line == {
        "file": str(path),
        "status": "read",
        "reason": None,
        "regions": [
            {"region": "knee", "probability": 0.9},
            {"region": "elbow", "probability": 0.1},
        ],
        "readings": [
            {
                "region": "knee",
                "probability": probability,
                "band": "positive",
                "findings": [finding],
            }
        ],
        "models": [
            {"name": model.name, "version": model.version, "sha256": model.sha256}
            for model in (TRUNK, ROUTER, KNEE)
        ],
    }


def test_a_refused_image_is_not_analysed_for_a_reason(tmp_path):
    """It has neither regions nor readings nor models: nothing was asked about it."""
    path = write(make(kind="CT"), tmp_path / "ct.dcm")

    status, out, _ = run(path)

    (line,) = lines(out)
    assert status == 0
    assert line["status"] == "not_analysed"
    assert "CT Image Storage is not a radiograph" in line["reason"]
    assert (line["regions"], line["readings"], line["models"]) == ([], [], [])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.dcm", b"", "not a"),
        ("text.txt", b"hello, I am no image", "not a"),
        ("broken.png", b"\x89PNG\r\n\x1a\n" + b"x" * 40, "broken.png"),
        ("cut.jpg", b"\xff\xd8\xff\xe0", "cut.jpg"),
    ],
)
def test_a_bad_file_is_a_line_and_not_the_end(tmp_path, xray, name, content, reason):
    """The file after it is read as if nothing had been."""
    bad = tmp_path / name
    bad.write_bytes(content)

    status, out, _ = run(bad, xray)

    first, second = lines(out)
    assert status == 0
    assert (first["status"], second["status"]) == ("failed", "read")
    assert reason in first["reason"]
    assert first["regions"] == first["readings"] == first["models"] == []


def test_what_is_no_file_at_all_is_a_line_too(tmp_path):
    """A path that does not exist, and a pipe that would never end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    status, out, _ = run(tmp_path / "nowhere.dcm", pipe)

    missing, odd = lines(out)
    assert status == 1
    assert missing["reason"] == "it does not exist"
    assert odd["reason"] == "it is not a regular file"


def test_a_fault_of_ours_is_told_without_the_values_of_the_file(tmp_path, xray):
    """An unexpected error becomes a line that says where, and names no patient."""
    bug = tmp_path / "bug.dcm"
    bug.write_bytes(xray.read_bytes())

    status, out, _ = run(bug)

    (line,) = lines(out)
    assert status == 1
    assert "LookupError at reader.py" in line["reason"]
    assert "PATIENT" not in out


def test_a_folder_is_read_whole_and_in_order(tmp_path):
    """Below folders too, by name, however many processes share the work; hidden files are left."""
    folder = tmp_path / "study"
    names = ["1.png", "2/a.png", "2/b.png", "10.png"]
    for number, name in enumerate(names):
        grey_png(folder / name, 40 + 50 * number)
    grey_png(folder / ".hidden.png", 50)
    grey_png(folder / ".cache" / "x.png", 50)

    _, alone, _ = run(folder)
    status, together, _ = run(folder, processes=2)

    files = [line["file"] for line in lines(alone)]
    assert status == 0
    assert files == [str(folder / n) for n in ("1.png", "10.png", "2/a.png", "2/b.png")]
    assert files == [line["file"] for line in lines(together)]
    for one, other in zip(lines(alone), lines(together), strict=True):
        assert one["readings"] == other["readings"]


def test_a_file_that_kills_its_process_costs_only_itself(tmp_path):
    """A decoder that crashes is a failed line; each of the other files is still read, in order."""
    paths = [grey_png(tmp_path / f"{number}.png", 60 + 20 * number) for number in range(4)]
    paths.insert(1, grey_png(tmp_path / "kills.png", 50))

    status, out, _ = run(*paths, processes=2)

    told = lines(out)
    assert status == 0
    assert [line["file"] for line in told] == [str(path) for path in paths]
    assert [line["status"] for line in told] == ["read", "failed", "read", "read", "read"]
    assert "died" in told[1]["reason"]


def test_nothing_to_read_is_no_success(tmp_path):
    """An empty folder is a mistake that a script should notice."""
    status, out, err = run(tmp_path)

    assert status == 1
    assert out == ""
    assert "no file" in err


def test_a_name_that_is_no_text_is_shown_all_the_same(tmp_path):
    """File systems hold names that are no UTF-8, or that would move a terminal's cursor."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[2J.png"))
    grey_png(path, 90)

    status, out, _ = run(path)
    _, table, _ = run(path, as_lines=False)

    (line,) = lines(out)
    assert status == 0
    assert os.fsencode(line["file"]) == os.fsencode(path)
    assert "\x1b[2J" not in table
    table.encode("utf-8")


def test_the_table_has_a_row_for_each_file(tmp_path, xray):
    """Bands in words, and a reason where there is none."""
    bright = grey_png(tmp_path / "bright.png", 230)
    dark = grey_png(tmp_path / "dark.png", 30)
    refused = write(make(kind="CT"), tmp_path / "ct.dcm")
    gone = tmp_path / "gone.dcm"

    _, table, _ = run(bright, dark, refused, gone, as_lines=False)

    rows = {
        name: row
        for row in table.splitlines()
        for name in ("bright", "dark", "ct", "gone")
        if f"{name}." in row
    }
    assert "fracture likely" in rows["bright"]
    assert "no fracture seen" in rows["dark"]
    assert "not analysed" in rows["ct"]
    assert "is not a radiograph" in rows["ct"]
    assert "failed" in rows["gone"]
    assert "Not verified by a physician" in table


def test_save_writes_a_picture_and_for_dicom_a_report(tmp_path, xray):
    """The picture keeps the image's pixels in place; the report is of the image's study."""
    bright = grey_png(tmp_path / "bright.png", 230)
    folder = tmp_path / "out"

    status, _, err = run(bright, xray, save=folder)

    with Image.open(folder / "bright.png.png") as opened:
        drawn = np.asarray(opened)
    report = pydicom.dcmread(folder / "xray.dcm.sr.dcm")
    source = pydicom.dcmread(xray)
    assert (status, err) == (0, "")
    assert drawn.shape[0] > 120
    assert drawn.shape[1] == 100
    assert drawn[100, 90].tolist() == [230, 230, 230]
    assert len({tuple(pixel) for pixel in drawn[:62].reshape(-1, 3)}) > 2  # the coloured frame
    assert report.SOPClassUID == Comprehensive3DSRStorage
    assert report.StudyInstanceUID == source.StudyInstanceUID
    assert report.PatientID == source.PatientID
    assert (folder / "xray.dcm.png").is_file()
    assert not (folder / "bright.png.sr.dcm").exists()


def test_saved_files_never_replace_each_other(tmp_path):
    """The same name from two folders, and the same file twice, are kept apart."""
    one = grey_png(tmp_path / "a" / "x.png", 200)
    grey_png(tmp_path / "b" / "x.png", 30)
    folder = tmp_path / "out"

    run(tmp_path / "a", tmp_path / "b", one, one, save=folder)

    saved = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    assert saved == ["a/x.png.png", "b/x.png.png", "x.png.2.png", "x.png.png"]


def test_what_was_saved_is_not_scanned(tmp_path):
    """Pictures of an earlier scan below the scanned folder are no radiographs."""
    grey_png(tmp_path / "x.png", 200)
    folder = tmp_path / "out"

    run(tmp_path, save=folder)
    _, out, _ = run(tmp_path, save=folder)

    assert [line["file"] for line in lines(out)] == [str(tmp_path / "x.png")]


def test_what_cannot_be_saved_is_said_and_is_no_success(tmp_path):
    """The result is given all the same."""
    path = grey_png(tmp_path / "x.png", 200)
    folder = tmp_path / "out"
    (folder / "x.png.png").mkdir(parents=True)

    status, out, err = run(path, save=folder)

    assert status == 1
    assert lines(out)[0]["status"] == "read"
    assert "not saved" in err


def test_a_file_that_no_report_can_name_has_none(tmp_path):
    """Without its UIDs there is no study to report on; the result is given all the same."""
    ds = make(picture(200, 160))
    del ds.SeriesInstanceUID
    path = write(ds, tmp_path / "nameless.dcm")

    status, out, err = run(path, save=tmp_path / "out")

    (line,) = lines(out)
    assert (status, line["status"]) == (1, "read")
    assert "SeriesInstanceUID" in err
    assert "fault of Osteon" not in err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["nameless.dcm.png"]


def test_a_folder_that_cannot_be_made_stops_the_scan(tmp_path):
    """Before an hour of reading, not after it."""
    path = grey_png(tmp_path / "x.png", 200)

    with pytest.raises(ConfigurationError, match="cannot be made"):
        run(path, save=path / "out")


def test_cores_are_used_where_there_is_work_for_them():
    """Opening the models once more must pay; a GPU is shared badly by many processes."""
    assert default_processes(Settings(worker_processes=3), files=1000) == 3
    assert default_processes(Settings(worker_processes=3), files=20) == 2
    assert default_processes(Settings(worker_processes=3), files=5) == 1
    assert default_processes(Settings(device="cuda"), files=1000) == 1
    assert default_processes(Settings(), files=10**6) == usable_cores()


def test_the_models_that_come_with_osteon_read_a_real_radiograph(tmp_path):
    """Nothing between the command and the models is a stand-in here."""
    path = packaged_radiograph("RG3_UNCR.dcm")
    out = io.StringIO()

    status = scan([path], SETTINGS, as_lines=True, out=out)

    (line,) = lines(out.getvalue())
    assert status == 0
    assert line["status"] == "read"
    assert line["regions"] == sorted(line["regions"], key=lambda r: -r["probability"])
    assert {model["name"] for model in line["models"]} >= {"router"}
    assert all(0 <= seen["probability"] <= 1 for seen in line["readings"])
