"""From compressed and uncompressed pixel data to stored values, and when that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import (
    JPEG2000,
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from studies.errors import UnreadablePixels
from tests.support.dicom_making import ABSENT, LOSSLESS_SYNTAXES, make, picture, write
from tests.support.shared import require_shared
from worker import decoding
from worker.decoding import decode_grey, transfer_syntax
from worker.pixels import open_dicom, read_dicom

COMPRESSED = (RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLossless, JPEGLosslessSV1)


def syntax_name(syntax: object) -> str:
    return syntax.keyword if isinstance(syntax, UID) else repr(syntax)


@pytest.mark.parametrize("syntax", LOSSLESS_SYNTAXES, ids=syntax_name)
@pytest.mark.parametrize("depth", ["8", "12", "16", "signed"])
def test_every_lossless_syntax_gives_the_same_values(
    syntax: UID, depth: str, tmp_path: Path
) -> None:
    """Bit for bit, in every depth that radiographs come in."""
    depths: dict[str, npt.NDArray[Any]] = {
        "8": picture(bits=8).astype(np.uint8),
        "12": picture(),
        "16": picture(bits=16),
        "signed": picture().astype(np.int16) - 2048,
    }
    pixels = depths[depth]
    bits = {"8": 8, "12": 12, "16": 16, "signed": 12}[depth]
    path = write(make(pixels, bits_stored=bits, syntax=syntax), tmp_path / "image.dcm")

    stored = decode_grey(open_dicom(path))

    mask = (1 << bits) - 1
    assert np.array_equal(stored.cells.astype(int) & mask, pixels.astype(int) & mask)
    assert stored.bits_stored == bits
    assert stored.signed is (depth == "signed")
    assert stored.notes == ()


@pytest.mark.parametrize("shape", [(97, 64), (100, 101), (97, 63)])
@pytest.mark.parametrize("syntax", [*COMPRESSED, ExplicitVRBigEndian], ids=syntax_name)
def test_odd_sizes_keep_their_last_row_and_column(
    syntax: UID, shape: tuple[int, int], tmp_path: Path
) -> None:
    """The padding to an even length is no pixel."""
    pixels = picture(*shape, bits=8).astype(np.uint8)
    path = write(make(pixels, syntax=syntax), tmp_path / "image.dcm")

    assert np.array_equal(decode_grey(open_dicom(path)).cells, pixels)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["RG3_RLE", "RG3_J2KR", "RG3_JLSL", "RG3_JPLL"])
def test_a_real_radiograph_is_the_same_in_every_lossless_syntax(name: str) -> None:
    """The archive's choice of codec changes nothing of what the models see."""
    plain = read_dicom(require_shared("dicom/RG3_UNC.dcm"))

    image = read_dicom(require_shared(f"dicom/{name}.dcm"))

    assert np.array_equal(image.pixels, plain.pixels)


@pytest.mark.shared
@pytest.mark.parametrize(("name", "levels"), [("RG3_JLSN", 3), ("RG3_J2KI", 12)])
def test_a_real_radiograph_in_a_lossy_syntax_is_close(name: str, levels: int) -> None:
    """Near-lossless differs by what its encoder was allowed, of 255 grey levels."""
    plain = read_dicom(require_shared("dicom/RG3_UNC.dcm"))

    image = read_dicom(require_shared(f"dicom/{name}.dcm"))

    assert np.abs(image.pixels - plain.pixels).max() * 255 <= levels


@pytest.mark.shared
def test_twelve_bit_jpeg_extended_says_that_there_is_no_decoder() -> None:
    """The only free decoder's licence does not fit ours."""
    with pytest.raises(UnreadablePixels, match="no decoder for 12-bit JPEG Extended"):
        read_dicom(require_shared("dicom/RG3_JPLY.dcm"))


def test_jpeg_extended_of_twelve_bits_is_refused_before_any_codec_sees_it(tmp_path: Path) -> None:
    """The header is enough to know."""
    ds = make(syntax=JPEGLossless)
    ds.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    path = write(ds, tmp_path / "image.dcm")

    with pytest.raises(UnreadablePixels, match=r"no decoder for \d\d-bit JPEG Extended"):
        read_dicom(path)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000], ids=syntax_name)
def test_a_lossy_syntax_is_read_closely(syntax: UID, tmp_path: Path) -> None:
    """What was lost is the sender's doing; the rest is there."""
    smooth = np.add.outer(np.arange(96), np.arange(64)).astype(np.uint8)
    path = write(make(smooth, syntax=syntax), tmp_path / "image.dcm")

    assert np.abs(decode_grey(open_dicom(path)).cells.astype(int) - smooth).max() <= 6


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.97])
@pytest.mark.parametrize("syntax", COMPRESSED, ids=syntax_name)
def test_a_compressed_stream_that_ends_early_is_unreadable(
    syntax: UID, share: float, tmp_path: Path
) -> None:
    """Some codecs return what they have and grey below; a fracture may have been there."""
    ds = make(picture(200, 150), syntax=syntax)
    frame = next(generate_frames(ds.PixelData, number_of_frames=1))
    ds.PixelData = encapsulate([frame[: int(len(frame) * share)]])
    path = write(ds, tmp_path / "image.dcm")

    with pytest.raises(UnreadablePixels):
        read_dicom(path)


@pytest.mark.parametrize("syntax", COMPRESSED, ids=syntax_name)
def test_a_compressed_file_that_is_cut_is_unreadable(syntax: UID, tmp_path: Path) -> None:
    """The last bytes of the file were lost, the sequence delimiter with them."""
    path = write(make(picture(200, 150), syntax=syntax), tmp_path / "image.dcm")
    path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(UnreadablePixels):
        read_dicom(path)


@pytest.mark.parametrize("syntax", COMPRESSED, ids=syntax_name)
def test_rubbish_instead_of_a_stream_is_unreadable(syntax: UID, tmp_path: Path) -> None:
    """The codecs' many errors become one of ours."""
    ds = make(syntax=syntax)
    rubbish = np.random.default_rng(3).integers(0, 256, 5000).astype(np.uint8).tobytes()
    ds.PixelData = encapsulate([rubbish + b"\xff\xd9"])
    path = write(ds, tmp_path / "image.dcm")

    with pytest.raises(UnreadablePixels):
        read_dicom(path)


@pytest.mark.parametrize("syntax", COMPRESSED, ids=syntax_name)
def test_a_stream_of_another_size_than_stated_is_unreadable(syntax: UID, tmp_path: Path) -> None:
    """Boxes would land in the wrong place."""
    ds = make(syntax=syntax, Rows=80)
    path = write(ds, tmp_path / "image.dcm")
    said = "cannot decode RLE" if syntax == RLELossless else "the attributes say 80 x 64"

    with pytest.raises(UnreadablePixels, match=said):
        read_dicom(path)


@pytest.mark.parametrize("syntax", COMPRESSED, ids=syntax_name)
def test_a_stream_in_many_fragments_is_one_picture(syntax: UID, tmp_path: Path) -> None:
    """A frame may be split over fragments (PS3.5 annex A.4); RLE may not."""
    fragments = 1 if syntax == RLELossless else 5
    ds = make(picture(200, 150), syntax=syntax)
    frame = next(generate_frames(ds.PixelData, number_of_frames=1))
    ds.PixelData = encapsulate([frame], fragments_per_frame=fragments)
    path = write(ds, tmp_path / "image.dcm")

    assert np.array_equal(decode_grey(open_dicom(path)).cells, picture(200, 150))


def test_an_end_marker_with_padding_behind_it_still_counts(tmp_path: Path) -> None:
    """Real encoders pad with FF, zeros or leftovers."""
    ds = make(syntax=JPEGLSLossless)
    frame = next(generate_frames(ds.PixelData, number_of_frames=1)).rstrip(b"\0")
    ds.PixelData = encapsulate([frame + b"\xff" * (len(frame) % 2) + b"\0\x01\x02\x03"])
    path = write(ds, tmp_path / "image.dcm")

    assert np.array_equal(decode_grey(open_dicom(path)).cells, picture())


def test_an_extended_offset_table_is_understood(tmp_path: Path) -> None:
    """As large archives write it (PS3.3 C.7.6.3.1.8)."""
    ds = make(syntax=RLELossless)
    frame = next(generate_frames(ds.PixelData, number_of_frames=1))
    data, offsets, lengths = encapsulate_extended([frame])
    ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = data, offsets, lengths
    path = write(ds, tmp_path / "image.dcm")

    assert np.array_equal(decode_grey(open_dicom(path)).cells, picture())


def test_a_syntax_that_we_have_no_decoder_for_is_named(tmp_path: Path) -> None:
    """Films are not radiographs."""
    ds = make(syntax=JPEGLSLossless)
    ds.file_meta.TransferSyntaxUID = MPEG2MPML
    path = write(ds, tmp_path / "image.dcm")

    with pytest.raises(UnreadablePixels, match=str(MPEG2MPML)):
        read_dicom(path)


def test_when_the_fastest_decoder_fails_the_next_one_reads_and_it_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codecs disagree on streams that bend the rules."""
    path = write(make(syntax=JPEGLSLossless), tmp_path / "image.dcm")
    monkeypatch.setitem(decoding._DECODERS, JPEGLSLossless, ("pillow", "pyjpegls"))

    stored = decode_grey(open_dicom(path))

    assert np.array_equal(stored.cells, picture())
    assert any("next one used" in note for note in stored.notes)


def test_big_endian_bytes_that_came_as_words_are_put_back_in_order(tmp_path: Path) -> None:
    """OW swaps pairs of 8-bit pixels, OB does not; both are sent."""
    pixels = picture(bits=8).astype(np.uint8)
    ds = make(pixels, syntax=ExplicitVRBigEndian)
    swapped = np.frombuffer(ds.PixelData, dtype="<u2").byteswap().tobytes()
    ds.PixelData = swapped
    ds["PixelData"].VR = "OW"
    path = write(ds, tmp_path / "image.dcm")

    assert np.array_equal(decode_grey(open_dicom(path)).cells, pixels)


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_a_stated_syntax_is_believed(syntax: UID, tmp_path: Path) -> None:
    """The file's meta header decides."""
    path = write(make(syntax=syntax), tmp_path / "image.dcm")

    assert transfer_syntax(open_dicom(path)) == syntax


def test_padding_in_big_endian_is_the_same_value(tmp_path: Path) -> None:
    """Attributes and pixels are swapped alike."""
    ds = make(np.minimum(picture(), 3000), PixelPaddingValue=0x0102, syntax=ExplicitVRBigEndian)
    image = read_dicom(write(ds, tmp_path / "big.dcm"))

    plain = np.minimum(picture(), 3000)
    expected = plain != 0x0102
    assert image.valid is None or np.array_equal(image.valid, expected)
    assert not expected.all() or image.valid is None


def test_an_image_without_samples_per_pixel_has_one(tmp_path: Path) -> None:
    """SamplesPerPixel is type 1, and missing in old files."""
    path = write(make(SamplesPerPixel=ABSENT), tmp_path / "image.dcm")

    assert np.array_equal(decode_grey(open_dicom(path)).cells, picture())
