"""The world around the object: a still base, and strips that scroll past it at their own pace.

A :class:`Backdrop` belongs to one ground, time and weather at one size. Everything in it has one
fixed place; only the camera's scroll, and the drift of clouds and waves, move it. It knows nothing
about the object.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from causvid.world.canvas import Frame, Plane, Strip, blend, grid, lit, mix, ramp
from causvid.world.scenery import GROUND
from causvid.world.sky import HORIZON, SUN_PLACE, Air, paint_sky

from . import scenery

# Depth (0 horizon, 1 viewer) and pace relative to the object's distance.
_WAVE_ROWS = ((0.1, 0.25), (0.3, 0.5), (0.55, 0.8), (0.84, 1.2))
_TUFT_ROWS = ((0.2, 0.62), (0.5, 1.0), (0.86, 1.5))
_WAVE_SECONDS = 6.0
"""How long a wave takes to where the next one was, in every row: all go on together."""

_LANDMARKS = {
    "meadow": scenery.trees,
    "sea": scenery.skerries,
    "desert": scenery.cacti,
    "snow": scenery.pines,
}


@dataclass(frozen=True)
class _Layer:
    strip: Strip
    pace: float
    drift: float = 0.0

    def draw(self, picture: Plane, scroll: float, clock: float) -> None:
        self.strip.draw(picture, scroll * self.pace + clock * self.drift)


class Backdrop:
    """All layers of one ground, time and weather at one size, painted once.

    `paint` draws what is behind the object, `paint_front` what is nearer. Both take the scroll in
    pixels at the object's distance (positive when the camera has moved right) and the clock in
    seconds.
    """

    def __init__(self, ground: str, air: Air, frame: Frame) -> None:
        self.air = air
        self._base = paint_sky(air, frame)
        _paint_ground(self._base, ground, air, frame)
        unit, horizon = frame.unit, HORIZON * frame.height
        self._back: list[_Layer] = []
        self._front: list[_Layer] = []

        period = round(2.4 * unit)
        painter = scenery.clouds(air, frame, period)
        strip = Strip(painter, period, 0, 0.46 * frame.height, frame)
        self._back.append(_Layer(strip, 0.04, 0.012 * unit))

        period = round(3.0 * unit)
        painter = scenery.hills(ground, air, frame, period)
        strip = Strip(painter, period, horizon - 0.2 * unit, horizon + 2, frame)
        self._back.append(_Layer(strip, 0.12))

        # On the sea only what stands out of the water, and what breaks on it, tells that one moves.
        if ground == "sea":
            self._add_waves(air, frame)
        period = round(0.5 * unit)
        painter = _LANDMARKS[ground](air, frame, period)
        strip = Strip(painter, period, horizon - 0.22 * unit, horizon + 0.06 * unit, frame)
        self._back.append(_Layer(strip, 0.4))
        for depth, pace in _TUFT_ROWS:
            period = round((0.34 + 0.5 * depth) * unit)
            painter = scenery.tufts(ground, air, frame, period, depth)
            row, _, half = scenery.tuft_size(frame, depth)
            strip = Strip(painter, period, row - 3 * half, row + 3 * half, frame)
            self._back.append(_Layer(strip, pace))

    def _add_waves(self, air: Air, frame: Frame) -> None:
        for index, (depth, pace) in enumerate(_WAVE_ROWS):
            period = round((0.14 + 0.34 * depth) * frame.unit)
            painter = scenery.waves(air, frame, period, depth)
            row, swell, reach = scenery.wave_size(frame, depth)
            strip = Strip(painter, period, row - 2 * swell - 2, row + reach, frame)
            side = self._front if depth > 0.8 else self._back
            side.append(_Layer(strip, pace, (-1) ** index * period / _WAVE_SECONDS))

    def paint(self, picture: Plane, scroll: float, clock: float) -> None:
        """Draw everything behind the object into `picture [3, h, w]`."""
        picture[:] = self._base
        for layer in self._back:
            layer.draw(picture, scroll, clock)

    def paint_front(self, picture: Plane, scroll: float, clock: float) -> None:
        """Draw what is in front of the object."""
        for layer in self._front:
            layer.draw(picture, scroll, clock)


def _paint_ground(picture: Plane, ground: str, air: Air, frame: Frame) -> None:
    first, horizon = int(HORIZON * frame.height), np.float32(HORIZON * frame.height)
    x, y = grid(frame.height, frame.width)
    rows = y[first:]
    depth = np.clip((rows - horizon) / (frame.height - horizon), 0, 1)
    far, near = (lit(colour, air.light) for colour in GROUND[ground])
    faded = mix(far, air.haze, 0.45 if ground == "sea" else 0.25)
    colours = ramp([(0, faded), (0.25, mix(far, near, 0.35)), (1, near)], depth[:, 0])
    land = picture[:, first:]
    blend(land, np.clip(rows - horizon + 0.5, 0, 1), colours[:, :, None])
    if ground == "sea" and air.weather != "rain":
        spread = (0.05 + 0.16 * depth) * frame.unit
        path = np.exp(-(((x - (SUN_PLACE[air.time][0] * frame.width)) / spread) ** 2))
        blend(land, path * (0.55 - 0.4 * depth) * air.sunshine, air.glint)


@lru_cache(maxsize=36)
def backdrop(ground: str, time: str, weather: str, frame: Frame) -> Backdrop:
    """The backdrop of a ground, time and weather at a size. All 36 of one size are kept."""
    return Backdrop(ground, Air(time, weather), frame)
