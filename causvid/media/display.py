"""A decoded frame as it is meant to be seen: upright, in sRGB, on white.

Video comes in more ways than pictures do: high dynamic range (HLG and PQ, BT.2100) is brought down
to what a screen shows, wide gamuts are converted, transparency is laid on white.
"""

from functools import cache
from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, Interpolation

_UNTAGGED = 2  # AVCOL_SPC_UNSPECIFIED
# libswscale's way that rounds, where its fast one always rounds down: a result that is fed back in
# again and again would lose its colours. It takes 5 ns a pixel, ten times as long.
_ROUNDED = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_ROUNDED_PIXELS = 1_000_000  # larger than that is nothing that was made here

# Linear light of these primaries to that of sRGB's (BT.709), both with a white of D65.
WIDE = {
    ColorPrimaries.BT2020: (
        (1.6605, -0.5876, -0.0728),
        (-0.1246, 1.1329, -0.0083),
        (-0.0182, -0.1006, 1.1187),
    ),
    ColorPrimaries.SMPTE432: (  # Display P3
        (1.2249, -0.2247, 0.0),
        (-0.0420, 1.0419, 0.0),
        (-0.0197, -0.0786, 1.0979),
    ),
}
_WHITE = 203.0  # nits of a white page in HDR (BT.2408)
_PEAK = 1000.0  # nits of the screen that HLG is made for
_KNEE = 0.8  # of white; what is brighter is compressed


def is_hdr(frame: av.VideoFrame) -> bool:
    return frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)


def has_alpha(frame: av.VideoFrame) -> bool:
    """Whether parts of a frame can be transparent."""
    return frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)


def displayed(
    frame: av.VideoFrame, pixel_aspect: float, height: int, width: int
) -> tuple[np.ndarray, float]:
    """The frame as it is meant to be seen, uint8 `[h, w, 3]`, and its pixel aspect.

    A frame far larger than `height` x `width` is halved, thirded, … on the way, at least twice the
    size that is wanted: that is ten times cheaper in YUV than a good filter is in RGB.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    # Row-major 3x3 that takes (x, y, 1) to the display: x' = a x + c y, y' = b x + d y.
    a, b, _, c, d, *_ = np.frombuffer(cast(Any, matrix), np.int32) if matrix else (1, 0, 0, 0, 1)
    turned = abs(b) > abs(a)
    if turned:
        height, width = width, height
    wide = frame.color_primaries in WIDE
    spare = 1 if is_hdr(frame) or wide else 2  # those are converted pixel by pixel, which is slow
    shrink = max(1, min(frame.height // (spare * height), frame.width // (spare * width)))
    if has_alpha(frame):
        shrink = 1  # what is transparent has a colour, which must not bleed
    small_height, small_width = frame.height // shrink, frame.width // shrink
    # Untagged high-definition video is BT.709 by convention, which libswscale does not follow.
    untagged_hd = frame.colorspace == _UNTAGGED and frame.height >= 720
    small = small_height * small_width <= _ROUNDED_PIXELS
    kind = "rgba" if has_alpha(frame) else "gbrp16le" if is_hdr(frame) or wide else "rgb24"
    picture = frame.reformat(
        width=small_width,
        height=small_height,
        format=kind,
        src_colorspace=Colorspace.ITU709 if untagged_hd else None,
        interpolation=Interpolation.AREA | (_ROUNDED if small else Interpolation.AREA),
        threads=1,
    ).to_ndarray()
    if kind == "rgba":
        picture = _on_white(picture)
    elif kind == "gbrp16le":
        picture = _in_srgb(picture, frame.color_trc, frame.color_primaries)
    # Rounding the smaller size down changed the shape of the pixels a little.
    pixel_aspect *= (frame.width / small_width) / (frame.height / small_height)
    if turned:
        picture, pixel_aspect = picture.swapaxes(0, 1), 1 / pixel_aspect
    across, down = (c, b) if turned else (a, d)
    picture = picture[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
    return np.ascontiguousarray(picture), pixel_aspect


def _on_white(picture: np.ndarray) -> np.ndarray:
    """uint8 `[h, w, 4]` → `[h, w, 3]`."""
    alpha = picture[..., 3:].astype(np.uint16)
    return ((picture[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _in_srgb(picture: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """uint16 `[h, w, 3]` of another transfer and gamut → uint8."""
    light = _light(transfer)[picture]
    if transfer == ColorTrc.ARIB_STD_B67:  # the light of the scene; a screen makes it steeper
        luma = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light *= (_PEAK / _WHITE * luma**0.2)[..., None]
    if primaries in WIDE:
        light = light @ np.array(WIDE[ColorPrimaries(primaries)], np.float32).T
    light = light.clip(0)
    if transfer in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67):
        brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
        # Reinhard's curve above the knee, which brings the peak to 1.
        over, peak = (
            np.maximum(it - _KNEE, 0) / (1 - _KNEE)
            for it in (brightest, np.float32(_PEAK / _WHITE))
        )
        squeezed = over * (1 + over / peak**2) / (1 + over)
        light *= (np.minimum(brightest, _KNEE) + (1 - _KNEE) * squeezed) / brightest
    light = light.clip(0, 1)
    low, high = 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055
    return (255 * np.where(light <= 0.0031308, low, high) + 0.5).astype(np.uint8)


@cache
def _light(transfer: int) -> np.ndarray:
    """Linear light of each of 65,536 values, float32; 1 is white, for HLG the most there is."""
    signal = np.linspace(0, 1, 2**16)
    if transfer == ColorTrc.ARIB_STD_B67:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    elif transfer == ColorTrc.SMPTE2084:
        root = signal ** (1 / 78.84375)
        light = np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
        light = 10_000 / _WHITE * light ** (1 / 0.1593017578125)
    else:  # as screens show what cameras write, and what comes out is written
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)
