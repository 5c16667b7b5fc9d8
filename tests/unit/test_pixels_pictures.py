"""PNG and JPEG files, for readings without DICOM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studies.errors import NotAnalysable, UnreadablePixels
from tests.support.dicom_making import picture
from worker import pictures
from worker.pixels import read_picture

GREY8 = picture(bits=8).astype(np.uint8)


def test_a_grey_png_is_read_as_it_is(tmp_path: Path) -> None:
    """0 is black, 255 white; there is no spacing in a picture."""
    Image.fromarray(GREY8).save(tmp_path / "a.png")

    image = read_picture(tmp_path / "a.png")

    assert np.allclose(image.pixels, GREY8 / 255)
    assert image.spacing is None
    assert image.valid is None
    assert image.notes == ()


def test_a_png_of_sixteen_bits_keeps_its_depth(tmp_path: Path) -> None:
    """65535 is white, and neighbours among 65536 values stay apart."""
    deep = picture(bits=16)
    Image.fromarray(deep).save(tmp_path / "a.png")

    image = read_picture(tmp_path / "a.png")

    assert np.allclose(image.pixels, deep / 65535, atol=1e-6)


def test_a_jpeg_is_turned_upright(tmp_path: Path) -> None:
    """EXIF orientation 6: a photograph of a light box, with the camera on its side."""
    turned = Image.fromarray(GREY8).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "a.jpg", quality=100, exif=exif)

    image = read_picture(tmp_path / "a.jpg")

    assert image.pixels.shape == GREY8.shape
    assert np.abs(image.pixels - GREY8 / 255).max() < 0.1


def test_colour_becomes_brightness_and_is_noted(tmp_path: Path) -> None:
    """Luma as JPEG has it; grey in three channels is no colour."""
    rgb = np.stack([GREY8, np.zeros_like(GREY8), np.zeros_like(GREY8)], axis=2)
    Image.fromarray(rgb).save(tmp_path / "red.png")
    Image.fromarray(GREY8).convert("RGB").save(tmp_path / "grey.png")

    red, grey = read_picture(tmp_path / "red.png"), read_picture(tmp_path / "grey.png")

    assert np.allclose(red.pixels, 0.299 * GREY8 / 255, atol=1e-5)
    assert any("coloured" in note for note in red.notes)
    assert np.allclose(grey.pixels, GREY8 / 255, atol=1e-5)
    assert grey.notes == ()


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    """A radiograph's background is black, whatever colour hides under the transparency."""
    layered = np.dstack([GREY8, GREY8, GREY8, np.full_like(GREY8, 255)])
    layered[:10, :, :3] = 255
    layered[:10, :, 3] = 0
    Image.fromarray(layered).save(tmp_path / "a.png")

    image = read_picture(tmp_path / "a.png")

    assert (image.pixels[:10] == 0).all()
    assert np.allclose(image.pixels[10:], GREY8[10:] / 255, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.95])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_that_is_cut_is_unreadable(suffix: str, share: float, tmp_path: Path) -> None:
    """Never half a picture."""
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture(300, 200, bits=8).astype(np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(UnreadablePixels, match=path.name):
        read_picture(path)


def test_a_file_of_another_kind_is_unreadable(tmp_path: Path) -> None:
    """A GIF is not read only because Pillow could."""
    Image.fromarray(GREY8).save(tmp_path / "a.gif")

    with pytest.raises(UnreadablePixels, match="neither PNG nor JPEG"):
        read_picture(tmp_path / "a.gif")


def test_a_decompression_bomb_is_refused_before_it_unfolds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header states the size; the pixels are not touched."""
    monkeypatch.setattr(pictures, "LARGEST_IMAGE_PIXELS", 1000)
    Image.fromarray(GREY8).save(tmp_path / "a.png")

    with pytest.raises(UnreadablePixels, match="more than 1000"):
        read_picture(tmp_path / "a.png")


def test_a_blank_picture_is_not_analysed(tmp_path: Path) -> None:
    """Nothing can be seen on it, which is not the same as nothing being broken."""
    Image.new("L", (200, 200), 128).save(tmp_path / "a.png")

    with pytest.raises(NotAnalysable, match="blank"):
        read_picture(tmp_path / "a.png")
