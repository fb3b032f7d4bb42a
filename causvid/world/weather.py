"""Rain and snow: few, large drops and flakes that fall for ever.

They lie on an evenly spread lattice and move with the clock alone: where one of them is tells where
all are, and every clip begins alike. Each is a small sprite kept at quarter-pixel positions.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from causvid.world.canvas import Colour, Frame, Plane, blend, cover, lit, mix
from causvid.world.sky import Air

_WHITE: Colour = (1.0, 1.0, 1.0)
_GOLDEN = 0.6180339887
_MARGIN = 0.06
"""How far outside the picture, in units, things enter and leave."""

_DROPS, _DROP_FALL, _SLANT, _DROP_LENGTH = 16, 1.0, 0.25, 0.09
_FLAKES, _FLAKE_SIZES = 12, (0.032, 0.046)
_FLAKE_SECONDS = 8.0
"""How long a small flake takes from top to bottom. A larger one comes twice in that time."""


def draw_weather(picture: Plane, air: Air, frame: Frame, clock: float) -> None:
    """Draw what falls, if anything does, `clock` seconds after the beginning.

    Drops slant; flakes sway, the larger falling faster.
    """
    if air.weather == "rain":
        colour = mix(lit(_WHITE, air.light), _WHITE, 0.35)
        fallen = clock * _DROP_FALL * frame.height
        for drop in range(_DROPS):
            x, y = _place(drop, _DROPS, frame, -_SLANT * fallen, fallen)
            _stamp(picture, _drop, frame.unit, x, y, colour, 0.6)
    elif air.weather == "snowfall":
        colour = mix(lit(_WHITE, air.light), _WHITE, 0.6)
        phase = clock / _FLAKE_SECONDS % 1
        span = _span(frame.height, frame)
        for flake in range(_FLAKES):
            size = flake % len(_FLAKE_SIZES)
            sway = 0.03 * frame.unit * float(np.sin(2 * np.pi * (2 * phase + 0.38 * flake)))
            x, y = _place(flake, _FLAKES, frame, sway, (1 + size) * phase * span)
            _stamp(picture, _flake, max(0.9, _FLAKE_SIZES[size] * frame.unit), x, y, colour, 0.92)


def _span(length: int, frame: Frame) -> float:
    """Pixels after which a particle comes round, where the picture measures `length`."""
    return length + 2 * _MARGIN * frame.unit


def _place(index: int, count: int, frame: Frame, right: float, down: float) -> tuple[float, float]:
    """Where a particle is, in pixels, when it has moved right and down from its lattice point."""
    margin = _MARGIN * frame.unit
    span_x, span_y = _span(frame.width, frame), _span(frame.height, frame)
    x = (index + 0.5 * (index * 0.7548777 % 1)) / count * span_x + right
    y = index * _GOLDEN * span_y + down
    return x % span_x - margin, y % span_y - margin


def _stamp(
    picture: Plane,
    sprite_of: Callable[[float, int, int], Plane],
    size: float,
    x: float,
    y: float,
    colour: Colour,
    strength: float,
) -> None:
    column, row = int(np.floor(x)), int(np.floor(y))
    sprite = sprite_of(size, int((x - column) * 4), int((y - row) * 4))
    height, width = sprite.shape
    top, left = row - height // 2, column - width // 2
    y0, y1 = max(0, top), min(picture.shape[1], top + height)
    x0, x1 = max(0, left), min(picture.shape[2], left + width)
    if y0 < y1 and x0 < x1:
        coverage = sprite[y0 - top : y1 - top, x0 - left : x1 - left] * strength
        blend(picture[:, y0:y1, x0:x1], coverage, colour)


def _offsets(half_width: int, half_height: int, qx: int, qy: int) -> tuple[Plane, Plane]:
    """Pixel centres around a point that lies `q` quarters into the middle pixel."""
    x = np.arange(-half_width, half_width + 1, dtype=np.float32)[None] + (0.375 - qx / 4)
    y = np.arange(-half_height, half_height + 1, dtype=np.float32)[:, None] + (0.375 - qy / 4)
    return x, y


@lru_cache(maxsize=256)
def _flake(radius: float, qx: int, qy: int) -> Plane:
    half = int(np.ceil(1.2 * radius)) + 1
    x, y = _offsets(half, half, qx, qy)
    return np.clip(1.15 - np.hypot(x, y) / radius, 0, 1) ** 0.8


@lru_cache(maxsize=64)
def _drop(unit: float, qx: int, qy: int) -> Plane:
    """A streak that thins out upwards."""
    reach, radius = np.float32(_DROP_LENGTH / 2 * unit), max(0.8, 0.0075 * unit)
    half_width = int(np.ceil(_SLANT * reach + radius)) + 1
    x, y = _offsets(half_width, int(np.ceil(reach + radius)) + 1, qx, qy)
    along = np.clip(y, -reach, reach)
    fade = np.clip(0.65 + 0.35 * along / reach, 0, 1)
    return cover(np.hypot(x + along * _SLANT, y - along) - radius) * fade
