"""Pictures as people have them: odd metadata, wide colours, formats of phones, missing ends."""

import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms

from causvid.media import read_image

WIDE = (200, 60, 60)
"""A colour of a wide-gamut profile, which is (219, 37, 49) in sRGB."""


def file(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def photo() -> Image.Image:
    y, x = np.mgrid[:96, :128]
    smooth = np.stack([x * 1.5, y * 2, 90 + (x + y) % 80], -1)
    return Image.fromarray(
        (smooth + np.random.default_rng(0).uniform(0, 40, smooth.shape)).astype(np.uint8)
    )


def tiff_header(*entries: bytes) -> bytes:
    """EXIF with these 12-byte entries; offsets lead to eight bytes behind them."""
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries)


def entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")


TURNED = entry(0x0112, 3, 1, struct.pack("<H", 6))
SIGNED_RATIO = struct.pack("<ii", -1, 0)
BAD_EXIF = {
    "a signed ratio": (TURNED, entry(0x011A, 10, 1, struct.pack("<I", 38))),
    "text as a ratio": (TURNED, entry(0x011A, 2, 4, b"abc\0")),
    "an offset to nowhere": (TURNED, entry(0x011A, 5, 1, struct.pack("<I", 10**9))),
    "a type that is none": (TURNED, entry(0x011A, 99, 1, b"abcd")),
    "a count of billions": (TURNED, entry(0x010E, 2, 2**32 - 1, b"\x10\0\0\0")),
}


@pytest.mark.parametrize("kind", BAD_EXIF)
def test_bad_metadata_never_makes_a_picture_damaged(kind):
    picture = Image.new("RGB", (60, 40), "blue")
    picture.paste("red", (0, 0, 20, 40))  # the left, which is the top once it is upright
    exif = tiff_header(*BAD_EXIF[kind]) + b"\0\0\0\0" + SIGNED_RATIO
    read = read_image(file(picture, "JPEG", exif=exif))
    assert read.shape == (60, 40, 3)
    assert read[5, 20, 0] > 200 and read[50, 20, 2] > 200


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone(photo, orientation):
    upright = np.array(photo)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(read_image(data), upright)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(read_image(file(photo, exif=exif)), np.array(photo))


@pytest.fixture(scope="module")
def profile() -> bytes:
    """sRGB with red and blue changed places, so that a conversion cannot be missed."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    table = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * 20, 12)}
    red, blue = table[b"rXYZ"], table[b"bXYZ"]
    data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(data)


def in_every_mode(colour: tuple[int, int, int]) -> dict[str, tuple[Image.Image, dict]]:
    plain = Image.new("RGB", (20, 20), colour)
    flat = plain.convert("P", palette=Image.Palette.ADAPTIVE)
    flat.putpalette([*colour, 0, 0, 0])
    return {
        "RGB": (plain, {}),
        "RGBA": (Image.new("RGBA", (20, 20), (*colour, 255)), {}),
        "palette": (flat, {}),
        "palette with transparency": (flat, {"transparency": 1}),
        "one colour transparent": (plain, {"transparency": (1, 2, 3)}),
    }


@pytest.mark.parametrize("mode", in_every_mode(WIDE))
def test_a_profile_is_converted_in_every_mode(profile, mode):
    picture, options = in_every_mode(WIDE)[mode]
    read = read_image(file(picture, icc_profile=profile, **options))
    assert np.abs(read[10, 10].astype(int) - (60, 60, 200)).max() <= 2, "red and blue exchanged"


def test_half_transparent_pixels_are_laid_on_white_after_their_conversion(profile):
    read = read_image(file(Image.new("RGBA", (8, 8), (*WIDE, 128)), icc_profile=profile))
    expected = [255 - (255 - value) * 128 / 255 for value in (60, 60, 200)]
    assert np.abs(read[4, 4].astype(int) - expected).max() <= 2


def test_a_profile_that_is_damaged_leaves_colours_as_they_are():
    read = read_image(file(Image.new("RGBA", (8, 8), (*WIDE, 255)), icc_profile=b"not a profile"))
    assert read[4, 4].tolist() == list(WIDE)


BREAKING_OFF = ("JPEG", "PNG", "TIFF", "BMP", "PPM")


@pytest.mark.parametrize("lost", [1, 2, 40])
@pytest.mark.parametrize("kind", BREAKING_OFF)
def test_a_picture_whose_last_bytes_are_missing_is_read(photo, kind, lost):
    whole = file(photo, kind)
    read = read_image(whole[:-lost])
    assert read.shape == (96, 128, 3)
    differs = (read != read_image(whole)).any(axis=(1, 2)).mean()
    assert differs < 0.2, "most rows are those of the whole picture"


@pytest.mark.parametrize("kind", BREAKING_OFF)
def test_a_picture_that_is_mostly_missing_is_refused_in_words(photo, kind):
    whole = file(photo, kind)
    with pytest.raises(ValueError, match=r"is damaged: (\d+% of it is missing|it breaks off)") as e:
        read_image(whole[: len(whole) // 3])
    assert "bytes" not in str(e.value)


def test_a_progressive_photograph_is_read_as_far_as_it_goes(photo):
    whole = file(photo, "JPEG", progressive=True)
    assert np.abs(read_image(whole[: len(whole) * 2 // 3]).astype(int) - photo).mean() < 20
    first_scan = whole.index(b"\xff\xda")
    with pytest.raises(ValueError, match="missing"):
        read_image(whole[: first_scan + 60])


def grey(values: np.ndarray, kind: str = "TIFF") -> bytes:
    return file(Image.fromarray(values), kind)


RAMP = np.linspace(0, 1, 64)[None].repeat(16, axis=0)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((RAMP * 255).astype(np.int32), "TIFF"),
        ((RAMP * 65535).astype(np.int32), "TIFF"),
        ((RAMP * (2**31 - 1)).astype(np.int64).astype(np.int32), "TIFF"),
        ((RAMP * 65535).astype(np.uint16), "TIFF"),
        ((RAMP * 65535).astype(np.uint16), "PNG"),
        ((RAMP * 255).astype(np.uint8), "TIFF"),
    ],
)
def test_grey_of_any_depth_keeps_its_ramp(values, kind):
    read = read_image(grey(values, kind))[8, :, 0].astype(int)
    top = 127 if values.max() == 2**31 - 1 else 255  # of 32 bits, the highest is not used
    assert np.abs(read - np.linspace(0, top, 64)).max() <= 1


def test_a_dark_16_bit_picture_stays_dark():
    assert read_image(grey(np.full((4, 4), 200, np.uint16), "PNG")).max() <= 1


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_an_heic_photograph_is_named_where_it_cannot_be_read(tmp_path, monkeypatch, brand):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where it is not installed
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(8))
    with pytest.raises(ValueError, match=r"photo\.heic is an HEIC photograph.*export it as JPEG"):
        read_image(path)


def test_an_heic_photograph_is_read_where_it_can_be(photo):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    data = file(photo, "HEIF", quality=90)
    assert np.abs(read_image(data).astype(int) - np.array(photo)).mean() < 12
    with pytest.raises(ValueError, match="is damaged"):
        read_image(data[:400])


def test_avif_is_read_and_not_taken_for_heic(photo, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert np.abs(read_image(file(photo, "AVIF", quality=90)).astype(int) - photo).mean() < 12


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "GIF", "PNG"])
def test_of_an_animation_the_first_picture_is_taken(kind):
    pictures = [Image.new("RGB", (16, 16), (shade, shade, shade)) for shade in (240, 120, 10)]
    data = file(pictures[0], kind, save_all=True, append_images=pictures[1:], duration=100)
    assert read_image(data)[8, 8].mean() > 230
