"""Drawing primitives: planar float pictures, anti-aliased shapes, and strips that scroll.

Pictures are float32 `[3, h, w]` in [0, 1]. A shape is a signed distance in pixels (negative
inside), so its edge is anti-aliased at any size. A :class:`Strip` is a layer painted once that
scrolls by quarter pixels at the cost of one blend. Nothing here knows what a scene is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.floating]
Colour = tuple[float, float, float]

_PHASES = 4


@dataclass(frozen=True)
class Frame:
    """Sizes of a picture. Lengths of the world are in `unit`s, heights in fractions of `height`.

    The unit is the height, or less where the picture is narrow, so that objects always fit.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 16 or self.width < 16:
            raise ValueError(f"a picture must be at least 16x16, got {self.height}x{self.width}")

    @property
    def unit(self) -> float:
        return min(float(self.height), self.width / 1.25)


def rgb(red: int, green: int, blue: int) -> Colour:
    """A colour from 8-bit values."""
    return red / 255, green / 255, blue / 255


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` where share is 0, `second` where it is 1."""
    a, b, c = (p + (q - p) * share for p, q in zip(first, second, strict=True))
    return a, b, c


def lit(colour: Colour, light: Colour) -> Colour:
    """A colour under coloured light."""
    a, b, c = (p * q for p, q in zip(colour, light, strict=True))
    return a, b, c


def column(colour: Colour | Plane) -> Plane:
    """A colour as `[3, 1, 1]`, ready to broadcast over a picture."""
    return np.asarray(colour, np.float32).reshape(3, 1, 1)


def ramp(stops: list[tuple[float, Colour]], at: Plane) -> Plane:
    """Colours `[3, n]` of a gradient through (position, colour) stops, at positions `[n]`."""
    places = [place for place, _ in stops]
    return np.stack(
        [np.interp(at, places, [colour[i] for _, colour in stops]) for i in range(3)]
    ).astype(np.float32)


def turned(u: Plane, v: Plane, angle: float) -> tuple[Plane, Plane]:
    """The same places in coordinates that are turned clockwise, radians."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return u * cos + v * sin, v * cos - u * sin


def cover(distance: Plane) -> Plane:
    """Coverage in [0, 1] of a shape given by its signed distance in pixels."""
    return np.clip(0.5 - distance, 0, 1)


def smooth(low: float, high: float, at: Plane) -> Plane:
    """0 below `low`, 1 above `high` and a smooth cubic between them."""
    t = np.clip((at - low) * (1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def blend(picture: Plane, coverage: Plane, colour: Colour | Plane) -> None:
    """Paint `colour` (one colour, or a picture) over `picture` in place where covered."""
    paint = column(colour) if isinstance(colour, tuple) else colour
    picture += coverage * (paint - picture)


Painter = Callable[[Plane, Plane], tuple[Plane, Plane]]
"""From x `[1, n]` and y `[m, 1]` in pixels to colour `[3, m, n]` and coverage `[m, n]`."""


class Strip:
    """A layer that repeats every `period` pixels and scrolls sideways by quarter pixels.

    It is painted once at four times the width, then averaged over each pixel, so that every
    quarter-pixel offset is an exact anti-aliased picture and drawing is a single blend.
    """

    def __init__(
        self, painter: Painter, period: int, top: float, bottom: float, frame: Frame
    ) -> None:
        self.first = max(0, int(np.floor(top)))
        self.last = min(frame.height, int(np.ceil(bottom)))
        self.period = period
        self.width = frame.width
        fine = (np.arange(period * _PHASES, dtype=np.float32) + 0.5)[None] / _PHASES
        rows = (np.arange(self.first, self.last, dtype=np.float32) + 0.5)[:, None]
        colour, alpha = painter(fine, rows)
        layer = np.concatenate([colour * alpha, 1 - alpha[None]]).astype(np.float32)
        length = period * _PHASES
        wrapped = np.concatenate([layer, layer[..., :_PHASES]], axis=-1) / np.float32(_PHASES)
        boxes = sum(wrapped[..., phase : phase + length] for phase in range(_PHASES))
        repeats = -(-(period + frame.width) // period)
        phases = np.stack([boxes[..., phase::_PHASES] for phase in range(_PHASES)])
        self._phases = np.tile(phases, repeats)[..., : period + frame.width]

    def draw(self, picture: Plane, offset: float) -> None:
        """Paint onto `picture [3, h, w]`; the layer has moved `offset` pixels to the left."""
        quarters = round(offset * _PHASES) % (self.period * _PHASES)
        shift, phase = divmod(quarters, _PHASES)
        layer = self._phases[phase, :, :, shift : shift + self.width]
        band = picture[:, self.first : self.last]
        band *= layer[3]
        band += layer[:3]


@lru_cache(maxsize=64)
def grid(height: int, width: int) -> tuple[Plane, Plane]:
    """Pixel centres: x `[1, width]` and y `[height, 1]`. Shared, so not to be written to."""
    x = np.arange(width, dtype=np.float32)[None] + 0.5
    y = np.arange(height, dtype=np.float32)[:, None] + 0.5
    return x, y
