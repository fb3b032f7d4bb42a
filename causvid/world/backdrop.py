"""The world around the object: a still base, and strips that scroll past it at their own pace.

A :class:`Backdrop` belongs to one ground, time and weather at one size. Everything in it has one
fixed place; only the camera's scroll, and the drift of clouds and waves, move it. It knows nothing
about the object.
"""

from functools import lru_cache

import numpy as np

from causvid.world import scenery
from causvid.world.canvas import Frame, Plane, Strip, blend, grid, lit, mix, ramp
from causvid.world.scenery import GROUND
from causvid.world.sky import HORIZON, SUN_PLACE, Air, paint_sky

# Depth (0 horizon, 1 viewer) and pace relative to the object's distance.
_WAVE_ROWS = ((0.1, 0.25), (0.3, 0.5), (0.55, 0.8), (0.84, 1.2))
_TUFT_ROWS = ((0.2, 0.62), (0.5, 1.0), (0.86, 1.5))
_WAVE_SECONDS = 6.0
"""How long a wave takes to where the next one was, in every row: all go on together."""

Layer = tuple[Strip, float, float]
"""A strip, its pace and its drift, pixels a second."""


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
        self._back: list[Layer] = [
            (scenery.clouds(air, frame), 0.04, 0.012 * frame.unit),
            (scenery.hills(ground, air, frame), 0.12, 0.0),
        ]
        self._front: list[Layer] = []
        # On the sea only what stands out of the water, and what breaks on it, tells that one moves.
        for index, (depth, pace) in enumerate(_WAVE_ROWS if ground == "sea" else ()):
            row = scenery.waves(air, frame, depth)
            side = self._front if depth > 0.8 else self._back
            side.append((row, pace, (-1) ** index * row.period / _WAVE_SECONDS))
        self._back.append((scenery.landmark(ground, air, frame), 0.4, 0.0))
        for depth, pace in _TUFT_ROWS:
            self._back.append((scenery.tufts(ground, air, frame, depth), pace, 0.0))

    def paint(self, picture: Plane, scroll: float, clock: float) -> None:
        """Draw everything behind the object into `picture [3, h, w]`."""
        picture[:] = self._base
        for strip, pace, drift in self._back:
            strip.draw(picture, scroll * pace + clock * drift)

    def paint_front(self, picture: Plane, scroll: float, clock: float) -> None:
        """Draw what is in front of the object."""
        for strip, pace, drift in self._front:
            strip.draw(picture, scroll * pace + clock * drift)


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
