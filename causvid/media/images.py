"""Reading pictures and fitting them to a frame, over Pillow.

Whatever comes in (a path, bytes, a Pillow image, an array), what goes out is upright 8-bit sRGB,
uint8 `[h, w, 3]`. Files may come from strangers: the content decides and not the name, the size is
known before a pixel is decoded, and every failure is a `ValueError`. It knows no video.
"""

import io
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageCms

# Formats whose decoders are ours to run on strangers' files; EPS, for one, would start Ghostscript.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}

_ORIENTATION = 0x0112  # of EXIF, and what undoes it
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_END_OF_JPEG = b"\xff\xd9"
_START_OF_SCAN = b"\xff\xda"
_MOST_MISSING = 0.25  # of the rows of a picture that breaks off

MAX_IMAGE_PIXELS = 50_000_000  # the photographs of 48-megapixel phones pass

ImageSource = str | Path | bytes | Image.Image | np.ndarray


def read_image(source: ImageSource, *, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """Read one picture as uint8 `[h, w, 3]`.

    The EXIF orientation is applied, transparency is laid on white, an embedded colour profile is
    converted to sRGB, and of an animation the first frame is taken.

    Args:
        source: a path, the bytes of a file, a Pillow image, or a uint8 array `[h, w]`,
            `[h, w, 3]` or `[h, w, 4]`.
        max_pixels: larger pictures are refused before they are decoded.

    Raises:
        ValueError: if it is no picture, damaged, or too large.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        try:
            with path.open("rb") as file:
                return _decode(file, path.name, max_pixels)
        except OSError as error:
            raise ValueError(f"cannot read {path.name}: {error.strerror or error}") from None
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), "the file", max_pixels)
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim not in (2, 3) or 0 in source.shape:
            raise ValueError(
                f"got an array of {source.dtype} {list(source.shape)}; expected uint8 [h, w, 3]"
            )
        channels = source.shape[-1]
        try:
            source = Image.fromarray(source)
        except TypeError:
            raise ValueError(f"got {channels} channels; expected 3, or 4 with alpha") from None
    if not isinstance(source, Image.Image):
        raise ValueError(f"got {type(source).__name__}; expected a path, bytes, image or array")
    _check_size(source, "the picture", max_pixels)
    return _upright_rgb(source)


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


def _decode(file: IO[bytes], name: str, max_pixels: int) -> np.ndarray:
    formats = [*IMAGE_FORMATS, *_heic_format(file, name)]
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
    with image:
        _check_size(image, name, max_pixels)
        whole = _loaded(image, file, name)
        try:
            return _upright_rgb(whole)
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


def _loaded(image: Image.Image, file: IO[bytes], name: str) -> Image.Image:
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
    if partial is None or partial.mode == "1" or image.info.get("interlace"):
        raise ValueError(f"{name} is damaged: it breaks off; copy or export it again")
    rows = np.asarray(partial)
    if image.format in ("JPEG", "MPO"):
        file.seek(0)
        data = file.read()
        whole: Image.Image = Image.open(io.BytesIO(data + _END_OF_JPEG), formats=["JPEG"])
        whole.load()
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
    if image.width * image.height > max_pixels:
        raise ValueError(
            f"{name} is {image.width}x{image.height}, {image.width * image.height:,} pixels; "
            f"allowed are {max_pixels:,}"
        )


def _upright_rgb(image: Image.Image) -> np.ndarray:
    image.load()
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # metadata never make a good picture a bad one
        turn = None
    if turn is not None:
        image, info = image.transpose(turn), image.info
        image.info = info
    if image.mode.startswith("I"):
        image = _grey(image)
    elif image.mode == "F":
        raise ValueError("floating-point pictures have no known range; expected 8 or 16 bits")
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
    return np.array(image.convert("RGB"))


def _grey(image: Image.Image) -> Image.Image:
    """Integers of 16 or 32 bits as grey of 8, where Pillow's own conversion would clip.

    How many of 32 bits are used a file does not tell; as viewers do, what holds no more than 8 or
    16 bits is taken for that.
    """
    values = np.asarray(image)
    bits = 16
    if image.mode == "I" and image.format != "PPM":  # Pillow has made 16 bits of that already
        values = values.astype(np.int64) % 2**32
        bits = next(bits for bits in (8, 16, 32) if values.max() < 2**bits)
    step = (2**bits - 1) // 255
    return Image.fromarray((values.astype(np.int64).clip(0, 2**bits - 1) // step).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, srgb, outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a broken profile, or one for another mode: the colours are a guess then
