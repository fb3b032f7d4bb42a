"""Small files of large pictures: what reading them takes is bounded, whatever they are."""

import io
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from causvid.media import fit, images, read_image

SIDE = 7000
SIZE = (SIDE, SIDE)
TO_FIT = (480, 832)


def picture(mode: str, size: tuple[int, int] = SIZE) -> Image.Image:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (70, 70, 4), np.uint8))
    if mode == "I;16":
        grey = np.asarray(small.convert("L").resize(size), np.uint16)
        return Image.fromarray(grey * 257)
    return small.resize(size).convert(mode)


def long_jpeg(path: Path, **options) -> None:
    picture("RGB").save(path, "JPEG", progressive=True, **options)


# All of at most 50 million pixels.
PICTURES = {
    "line.png": lambda path: Image.new("L", (1, 49_999_999)).save(path, compress_level=1),
    "ribbon.png": lambda path: Image.new("RGB", (16_384, 3050)).save(path, compress_level=1),
    "alpha.png": lambda path: picture("RGBA").save(path, compress_level=1),
    "palette.png": lambda path: picture("P").save(path, compress_level=1, transparency=3),
    "grey16.png": lambda path: picture("I;16").save(path, compress_level=1),
    "cmyk.tif": lambda path: picture("CMYK", (4500, 4500)).save(path),
    "strip.tif": lambda path: picture("RGB").save(
        path, compression="tiff_adobe_deflate", strip_size=2 * 10**8
    ),
    "progressive.jpg": lambda path: long_jpeg(path, subsampling=0),
    "cmyk.jpg": lambda path: picture("CMYK").save(path, progressive=True),
    "photo.jpg": lambda path: picture("RGB").save(path),
    "photo.webp": lambda path: picture("RGB", (6000, 4000)).save(path, method=0),
    "alpha.webp": lambda path: picture("RGBA").save(path, method=0, quality=50),
    "photo.avif": lambda path: picture("RGB", (6000, 4000)).save(path, speed=10),
    "large.avif": lambda path: picture("RGB").save(path, speed=10),
    "large.gif": lambda path: picture("P").save(path),
    "large.bmp": lambda path: picture("RGB", (5700, 5700)).save(path),
}

READ = """
import sys
from pathlib import Path
from PIL import Image
from causvid.media import fit, read_image

def kilobytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name)))

Image.init()
before = kilobytes("VmRSS")
try:
    fit(read_image(Path(sys.argv[1]), to_fit=(480, 832)), 480, 832)
except ValueError as error:
    print(error, file=sys.stderr)
print(kilobytes("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_takes_no_more_than_400_megabytes(tmp_path, name):
    PICTURES[name](tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", READ, tmp_path / name], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 400_000, done.stderr
    if done.stderr:
        assert name in done.stderr and "allowed are" in done.stderr
        assert name not in ("photo.jpg", "alpha.png", "grey16.png", "photo.webp", "photo.avif")


@pytest.mark.parametrize(("size", "read"), [((16_384, 1), True), ((16_385, 1), False)])
def test_a_side_has_a_limit(size, read):
    file = io.BytesIO()
    Image.new("L", size).save(file, "PNG")
    if read:
        assert read_image(file.getvalue()).shape == (size[1], size[0], 3)
    else:
        with pytest.raises(ValueError, match=r"16385x1; allowed are sides of 16,384"):
            read_image(file.getvalue())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_large_picture_comes_smaller_and_looks_the_same(monkeypatch, kind):
    file = io.BytesIO()
    smooth = picture("RGB", (9, 7)).resize((1200, 900))
    smooth.save(file, kind, quality=95)
    whole = fit(read_image(file.getvalue(), to_fit=(60, 80)), 60, 80)
    monkeypatch.setattr(images, "_LARGE", 1_000_000)
    small = read_image(file.getvalue(), to_fit=(60, 80))
    assert 120 <= small.shape[0] <= 240
    assert np.abs(fit(small, 60, 80).astype(int) - whole).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_large_or_small_a_photo_is_upright(monkeypatch, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    photo = picture("RGB", (40, 24))
    photo.save(file, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    np.testing.assert_array_equal(read_image(file.getvalue()), expected)
    monkeypatch.setattr(images, "_LARGE", 100)
    small = read_image(file.getvalue(), to_fit=(5, 5))
    assert np.abs(fit(small, 8, 8).astype(int) - fit(expected, 8, 8)).mean() < 12


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (640, 33)])
def test_strips_change_nothing(monkeypatch, mode, size):
    whole = read_image(picture(mode, size))
    monkeypatch.setattr(images, "_STRIP", 700)
    np.testing.assert_array_equal(read_image(picture(mode, size)), whole)


def test_pictures_are_decoded_one_at_a_time(monkeypatch):
    file = io.BytesIO()
    picture("RGB", (16, 16)).save(file, "PNG")
    inside, most, convert = [], [], images._upright_rgb

    def counted(*arguments):
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.02)
        result = convert(*arguments)
        inside.pop()
        return result

    monkeypatch.setattr(images, "_upright_rgb", counted)
    threads = [threading.Thread(target=read_image, args=[file.getvalue()]) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5
