"""Reading pictures and fitting them to a frame, over Pillow.

Whatever comes in (a path, bytes, a Pillow image, an array), what goes out is upright 8-bit sRGB,
uint8 `[h, w, 3]`. Files may come from strangers: the content decides and not the name, the size is
known before a pixel is decoded, and every failure is a `ValueError`. It knows no video.
"""

import io
import threading
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageCms

# Formats whose decoders are ours to run on strangers' files; EPS, for one, would start Ghostscript.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}

_ORIENTATION = 0x0112  # of EXIF
# By its value: whether rows are mirrored, whether columns are, and whether both are exchanged.
_UPRIGHT = (False, False, False)
_TURNS = {
    2: (False, True, False),
    3: (True, True, False),
    4: (True, False, False),
    5: (False, False, True),
    6: (True, False, True),
    7: (True, True, True),
    8: (False, True, True),
}
_ROWS_OF_STRIP, _ROWS_OF_TILE = 278, 323  # TIFF tags
_END_OF_JPEG = b"\xff\xd9"
_START_OF_SCAN = b"\xff\xda"
_MOST_MISSING = 0.25  # of the rows of a picture that breaks off

MAX_IMAGE_PIXELS = 50_000_000  # the photographs of 48-megapixel phones pass
MAX_SIDE = 16_384  # pixels: beyond it, rows cost more than what is in them

# Bytes that reading a picture may take, at its peak.
_MEMORY = 390_000_000
# Bytes a pixel that libraries take while they decode, besides the picture: theirs, measured.
_OVERHEAD = {"WEBP": 12, "AVIF": 10, "HEIF": 3, "GIF": 4}
_READ_WHOLE = ("WEBP", "AVIF", "HEIF", "TIFF")  # formats whose file is in memory meanwhile
# From here on, a picture that is to become small is made smaller while it is read.
_LARGE = 12_000_000  # pixels
_STRIP = 1_000_000  # pixels that are converted at once

_one_at_a_time = threading.Lock()  # over all viewers: what is taken is taken once

ImageSource = str | Path | bytes | Image.Image | np.ndarray


def read_image(
    source: ImageSource,
    *,
    max_pixels: int = MAX_IMAGE_PIXELS,
    to_fit: tuple[int, int] | None = None,
) -> np.ndarray:
    """Read one picture as uint8 `[h, w, 3]`.

    The EXIF orientation is applied, transparency is laid on white, an embedded colour profile is
    converted to sRGB, and of an animation the first frame is taken.

    Args:
        source: a path, the bytes of a file, a Pillow image, or an array `[h, w]`,
            `[h, w, 3]` or `[h, w, 4]` of uint8, or of floats from 0 to 1.
        max_pixels: larger pictures are refused before they are decoded.
        to_fit: height and width that it is to `fit`: a very large picture comes at a half, a
            third, … of its size, at least twice what is wanted.

    Raises:
        ValueError: if it is no picture, damaged, or too large.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        try:
            with path.open("rb") as file:
                return _decode(file, path.name, max_pixels, to_fit)
        except OSError as error:
            raise ValueError(f"cannot read {path.name}: {error.strerror or error}") from None
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), "the file", max_pixels, to_fit)
    if isinstance(source, np.ndarray):
        if source.dtype.kind == "f" and source.size and 0 <= source.min() <= source.max() <= 1:
            source = (255 * source + 0.5).astype(np.uint8)
        if source.dtype != np.uint8 or source.ndim not in (2, 3) or 0 in source.shape:
            raise ValueError(
                f"got an array of {source.dtype} {list(source.shape)}; expected uint8 [h, w, 3], "
                "or floats from 0 to 1"
            )
        channels = source.shape[-1]
        try:
            source = Image.fromarray(source)
        except TypeError:
            raise ValueError(f"got {channels} channels; expected 3, or 4 with alpha") from None
    if not isinstance(source, Image.Image):
        raise ValueError(f"got {type(source).__name__}; expected a path, bytes, image or array")
    _check_size(source, "the picture", max_pixels)
    return _upright_rgb(source, to_fit)


def fit(picture: np.ndarray, height: int, width: int, *, pixel_aspect: float = 1.0) -> np.ndarray:
    """Scale uint8 `[h, w, 3]` to fill `[height, width, 3]`, and cut what protrudes evenly on both
    sides. Never stretches; a fitting size is identity.

    Args:
        pixel_aspect: width of one source pixel over its height; anamorphic video is not 1.

    Raises:
        ValueError: if the picture is not uint8 `[h, w, 3]`.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(
            f"got a picture of {picture.dtype} {list(picture.shape)}; expected uint8 [h, w, 3]"
        )
    source_height, source_width = picture.shape[:2]
    # Compared as displayed: `ratio` > 1 means that the source is wider than the frame.
    ratio = (source_width * pixel_aspect / source_height) / (width / height)
    box_width = source_width / max(1.0, ratio)
    box_height = source_height * min(1.0, ratio)
    left, top = (source_width - box_width) / 2, (source_height - box_height) / 2
    box = (left, top, left + box_width, top + box_height)
    # Pillow widens its kernel when it shrinks, so this is antialiased; the gap spends a box filter
    # on the first part of a large reduction, which nobody sees and which is many times faster.
    image = Image.fromarray(picture)
    image = image.resize((width, height), Image.Resampling.LANCZOS, box, reducing_gap=3.0)
    return np.array(image)


def _decode(
    file: IO[bytes], name: str, max_pixels: int, to_fit: tuple[int, int] | None
) -> np.ndarray:
    formats = [*IMAGE_FORMATS, *_heic_format(file, name)]
    stored = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        image = Image.open(file, formats=formats)
    except Image.DecompressionBombError:
        raise ValueError(f"{name} is too large; allowed are {max_pixels:,} pixels") from None
    except Exception:  # on hostile bytes, decoders raise whatever they stumble over
        raise ValueError(
            f"{name} is an HEIC photograph that is damaged; export it again, or as JPEG"
            if len(formats) > len(IMAGE_FORMATS)
            else f"{name} is not a picture that can be read; expected PNG, JPEG, WebP, AVIF, GIF, "
            "BMP or TIFF"
        ) from None
    with image, _one_at_a_time:
        _check_size(image, name, max_pixels)
        _check_memory(image, name, stored, to_fit)
        whole = _loaded(image, file, name, to_fit)
        try:
            return _upright_rgb(whole, to_fit)
        except Exception as error:
            raise ValueError(f"{name} is damaged: {error}") from None


def _heic_format(file: IO[bytes], name: str) -> list[str]:
    """The format of an HEIC file for Pillow, whose decoder is a package by itself.

    Raises:
        ValueError: if it is one, and that is not installed.
    """
    head = file.read(64)
    file.seek(0)
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, len(head), 4))}
    if head[4:8] != b"ftyp" or brands & _AVIF_BRANDS or not brands & _HEIC_BRANDS:
        return []
    try:
        import pillow_heif
    except ImportError:
        raise ValueError(
            f"{name} is an HEIC photograph, which needs the package pillow-heif here: export it "
            "as JPEG, or install that"
        ) from None
    pillow_heif.register_heif_opener(thumbnails=False)
    return ["HEIF"]


def _loaded(
    image: Image.Image, file: IO[bytes], name: str, to_fit: tuple[int, int] | None
) -> Image.Image:
    """The decoded picture; of one that lacks a little at its end, what a browser shows.

    Raises:
        ValueError: if much is missing.
    """
    try:
        image.load()
        return image
    except OSError:
        partial = image._new(image.im) if image._im is not None else None
    except Exception as error:  # as decoders of other packages raise
        raise ValueError(f"{name} is damaged: {str(error).strip():.200}") from None
    large = image.width * image.height > _LARGE  # then there is no memory to compare
    if partial is None or partial.mode == "1" or image.info.get("interlace") or large:
        raise ValueError(f"{name} is damaged: it breaks off; copy or export it again")
    rows = np.asarray(partial)
    if image.format in ("JPEG", "MPO"):
        file.seek(0)
        data = file.read()
        whole: Image.Image = Image.open(io.BytesIO(data + _END_OF_JPEG), formats=["JPEG"])
        _draft(whole, to_fit)
        try:
            whole.load()
        except Exception:
            raise ValueError(f"{name} is damaged; copy or export it again") from None
        missing = float((rows != np.asarray(whole)).reshape(len(rows), -1).any(axis=1).mean())
        if image.info.get("progressive"):  # coarse at once, then finer and finer
            missing = 0.0 if data.count(_START_OF_SCAN) > 1 else 1.0
    else:
        there = np.flatnonzero(rows.reshape(len(rows), -1).any(axis=1))
        if not len(there):
            raise ValueError(f"{name} is damaged: all of it is missing; copy or export it again")
        missing = 1 - len(there) / len(rows)
        nearest = np.arange(len(rows)).clip(there[0], there[-1])  # BMP begins at the bottom
        whole = Image.frombytes(partial.mode, partial.size, rows[nearest].tobytes())
        if palette := partial.getpalette():
            whole.putpalette(palette)
        whole.info, whole.format = image.info, image.format
    if missing > _MOST_MISSING:
        raise ValueError(
            f"{name} is damaged: {missing:.0%} of it is missing; copy or export it again"
        )
    return whole


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ValueError(
            f"{name} is {image.width}x{image.height}, {pixels:,} pixels; allowed are {max_pixels:,}"
        )
    if max(image.size) > MAX_SIDE:
        raise ValueError(
            f"{name} is {image.width}x{image.height}; allowed are sides of {MAX_SIDE:,} pixels"
        )


def _check_memory(
    image: Image.Image, name: str, stored: int, to_fit: tuple[int, int] | None
) -> None:
    """Refuse what its library would need too much memory for, after asking for less of it.

    Args:
        stored: bytes of the file.
    """
    (width, height), kind = image.size, image.format or ""
    pixels, needed = width * height, 0
    if image.info.get("progressive"):  # JPEG's coefficients, all of them at once
        needed = 2 * len(image.getbands()) * pixels
        _draft(image, to_fit)
    elif kind == "JPEG":
        _draft(image, to_fit)
    elif kind == "TIFF":  # a strip, or a row of tiles
        tags = image.tag_v2  # type: ignore[attr-defined]
        needed = (
            4 * width * min(height, tags.get(_ROWS_OF_STRIP) or tags.get(_ROWS_OF_TILE, height))
        )
    needed += _OVERHEAD.get(kind, 0) * pixels
    if kind in _READ_WHOLE:
        needed += stored
    pixel = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    needed += image.width * image.height * pixel
    if needed > _MEMORY:
        raise ValueError(
            f"{name} is {width}x{height} as {kind}, which takes {needed / 1e6:,.0f} MB to read; "
            f"allowed are {_MEMORY / 1e6:,.0f}: make it smaller, or send a JPEG or a PNG"
        )


def _draft(image: Image.Image, to_fit: tuple[int, int] | None) -> None:
    """Let a JPEG be decoded at a half, a quarter, … of its size."""
    if to_fit is not None and image.width * image.height > _LARGE:
        height, width = _wanted(image, to_fit)
        image.draft(None, (2 * width, 2 * height))


def _wanted(image: Image.Image, to_fit: tuple[int, int]) -> tuple[int, int]:
    """Height and width that are to be filled, as the picture is stored."""
    down, across = to_fit
    swapped = _TURNS.get(_orientation(image), _UPRIGHT)[2]
    return (across, down) if swapped else (down, across)


def _upright_rgb(image: Image.Image, to_fit: tuple[int, int] | None) -> np.ndarray:
    """Strip by strip, so that no more than the picture and the result are there at once."""
    image.load()
    if image.mode == "F":
        raise ValueError("floating-point pictures have no known range; expected 8 or 16 bits")
    width, height = image.size
    shrink = 1
    if to_fit is not None and width * height > _LARGE:
        down, across = _wanted(image, to_fit)
        shrink = max(1, min(height // (2 * down), width // (2 * across)))
    # What is left over at the edges is cut evenly, so that nothing is stretched.
    left, first = width % shrink // 2, height % shrink // 2
    right, last = left + width // shrink * shrink, first + height // shrink * shrink
    rows = shrink * max(1, _STRIP // (width * shrink))
    boxes = [(left, top, right, min(top + rows, last)) for top in range(first, last, rows)]
    bits = 8
    if image.mode.startswith("I"):
        bits = max(_bits(image.crop(box), image.format) for box in boxes)
    result = np.empty((height // shrink, width // shrink, 3), np.uint8)
    for box in boxes:
        strip = _rgb(image.crop(box), bits)
        if shrink > 1:
            strip = strip.reduce(shrink)
        result[(box[1] - first) // shrink :][: strip.height] = np.asarray(strip)
    return _turned(result, _orientation(image))


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # of what else a camera writes there, nothing is wanted
        return 1


def _turned(picture: np.ndarray, orientation: int) -> np.ndarray:
    down, across, swapped = _TURNS.get(orientation, _UPRIGHT)
    picture = picture[:: -1 if down else 1, :: -1 if across else 1]
    return np.ascontiguousarray(picture.swapaxes(0, 1) if swapped else picture)


def _rgb(image: Image.Image, bits: int) -> Image.Image:
    """A part of a picture in 8-bit sRGB, on white.

    Args:
        bits: of integers, how many are used in the whole picture.
    """
    if image.mode.startswith("I"):
        image = _grey(image, bits)
    profile, alpha = image.info.get("icc_profile"), None
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        alpha = whole.getchannel("A")
        image = image.getchannel("L") if image.mode == "LA" else whole.convert("RGB")
    elif image.mode in ("P", "PA", "1"):
        image = image.convert("RGB")
    if profile:
        image = _to_srgb(image, profile)
    image = image.convert("RGB")
    if alpha is not None:
        image.putalpha(alpha)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _bits(image: Image.Image, kind: str | None) -> int:
    """How many bits integers have that are to become grey, 8, 16 or 32.

    How many of 32 bits are used a file does not tell; as viewers do, what holds no more than 8 or
    16 bits is taken for that.
    """
    if image.mode != "I" or kind == "PPM":  # Pillow has made 16 bits of that already
        return 16
    largest = (np.asarray(image).astype(np.int64) % 2**32).max()
    return next(bits for bits in (8, 16, 32) if largest < 2**bits)


def _grey(image: Image.Image, bits: int) -> Image.Image:
    """Integers as grey of 8 bits, where Pillow's own conversion would clip."""
    values = np.asarray(image).astype(np.int64)
    if bits == 32:
        values %= 2**32
    step = (2**bits - 1) // 255
    return Image.fromarray((values.clip(0, 2**bits - 1) // step).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, srgb, outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a broken profile, or one for another mode: the colours are a guess then
