"""Reading pictures and fitting them to a frame, over Pillow.

Whatever comes in (a path, bytes, a Pillow image, an array), what goes out is upright 8-bit sRGB,
uint8 `[h, w, 3]`. Files may come from strangers: the content decides and not the name, the size is
known before a pixel is decoded, and every failure is a `ValueError`. It knows no video.
"""

import io
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageCms, ImageOps

# Formats whose decoders are ours to run on strangers' files; EPS, for one, would start Ghostscript.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
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
    try:
        image = Image.open(file, formats=IMAGE_FORMATS)
    except Image.DecompressionBombError:
        raise ValueError(f"{name} is too large; allowed are {max_pixels:,} pixels") from None
    except Exception:  # on hostile bytes, decoders raise whatever they stumble over
        raise ValueError(
            f"{name} is not a picture that can be read; expected PNG, JPEG, WebP, AVIF, GIF, "
            "BMP or TIFF"
        ) from None
    with image:
        _check_size(image, name, max_pixels)
        try:
            return _upright_rgb(image)
        except Exception as error:
            raise ValueError(f"{name} is damaged: {error}") from None


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise ValueError(
            f"{name} is {image.width}x{image.height}, {image.width * image.height:,} pixels; "
            f"allowed are {max_pixels:,}"
        )


def _upright_rgb(image: Image.Image) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it at 255
        image = Image.fromarray(
            (np.asarray(image, np.int64).clip(0, 65535) // 257).astype(np.uint8)
        )
    elif image.mode == "F":
        raise ValueError("floating-point pictures have no known range; expected 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif profile := image.info.get("icc_profile"):
        image = _to_srgb(image, profile)
    return np.array(image.convert("RGB"))


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, srgb, outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a broken profile, or one for another mode: the colours are a guess then
