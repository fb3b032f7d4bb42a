"""Light and air: the colours of each time of day and weather, and the sky with its sun or moon.

Sun and moon have one place for each time of day. Nothing here moves.
"""

import numpy as np

from causvid.world.canvas import Colour, Frame, Plane, blend, cover, grid, lit, mix, ramp, rgb

HORIZON = 0.62
"""Height of the horizon as a fraction of the picture, from the top."""

SUN_PLACE = {"day": (0.2, 0.2), "sunset": (0.79, 0.5), "night": (0.79, 0.21)}
"""Where the sun or the moon stands, as fractions of width and height."""

_SKY: dict[str, list[tuple[float, Colour]]] = {
    "day": [(0, rgb(64, 142, 236)), (0.6, rgb(150, 206, 250)), (1, rgb(214, 238, 252))],
    "sunset": [
        (0, rgb(78, 52, 130)),
        (0.45, rgb(196, 84, 118)),
        (0.78, rgb(248, 140, 84)),
        (1, rgb(255, 204, 120)),
    ],
    "night": [(0, rgb(7, 10, 34)), (0.6, rgb(22, 28, 74)), (1, rgb(52, 62, 122))],
}
_LIGHT: dict[str, Colour] = {
    "day": (1.0, 1.0, 1.0),
    "sunset": (0.96, 0.74, 0.66),
    "night": (0.30, 0.36, 0.58),
}
_GREY = {"day": rgb(152, 162, 174), "sunset": rgb(142, 112, 118), "night": rgb(34, 38, 54)}
_CLOUD = {"day": rgb(255, 255, 255), "sunset": rgb(255, 186, 158), "night": rgb(66, 74, 120)}
_GLINT = {"day": rgb(255, 255, 240), "sunset": rgb(255, 208, 130), "night": rgb(200, 206, 236)}
_SUNSHINE = {"clear": 1.0, "rain": 0.22, "snowfall": 0.55}
_OVERCAST = {"clear": 0.0, "rain": 0.72, "snowfall": 0.45}


class Air:
    """The colours of one time of day in one weather."""

    def __init__(self, time: str, weather: str) -> None:
        self.time, self.weather = time, weather
        light = _LIGHT[time]
        grey = sum(light) / 3
        if weather == "rain":
            light = lit(light, (0.82, 0.84, 0.88))
        share = {"clear": 0.0, "rain": 0.25, "snowfall": 0.15}[weather]
        self.light: Colour = mix(light, (grey, grey, grey), share)
        """The light that falls on everything."""
        self.sunshine: float = _SUNSHINE[weather]
        """How clearly sun, moon and stars are seen, in [0, 1]."""
        self.sky = [(place, self._veiled(colour)) for place, colour in _SKY[time]]
        """Gradient stops of the sky, from the top to the horizon."""
        self.haze: Colour = self.sky[-1][1]
        """What distance fades to."""
        cloud = self._veiled(_CLOUD[time])
        self.cloud: Colour = mix(cloud, _GREY[time], 0.4) if weather == "rain" else cloud
        self.cloud_shade: Colour = mix(self.cloud, self.sky[1][1], 0.45)
        self.glint: Colour = _GLINT[time]
        """The colour of sun or moon on water."""

    def far(self, colour: Colour, distance: float) -> Colour:
        """A colour in this light, faded by a distance in [0, 1]."""
        return mix(lit(colour, self.light), self.haze, distance)

    def _veiled(self, colour: Colour) -> Colour:
        grey = _GREY[self.time]
        if self.weather == "snowfall":
            grey = mix(grey, (1.0, 1.0, 1.0), 0.04 if self.time == "night" else 0.18)
        return mix(colour, grey, _OVERCAST[self.weather])


def paint_sky(air: Air, frame: Frame) -> Plane:
    """The sky of the whole picture `[3, h, w]`, as if there were no ground."""
    x, y = grid(frame.height, frame.width)
    rows = ramp(air.sky, y[:, 0] / (HORIZON * frame.height))
    sky = np.repeat(rows[:, :, None], frame.width, axis=2)
    unit = frame.unit
    sun_x, sun_y = SUN_PLACE[air.time][0] * frame.width, SUN_PLACE[air.time][1] * frame.height
    away = np.hypot(x - sun_x, y - sun_y)
    if air.time == "night":
        _paint_stars(sky, air, frame)
        radius = 0.085 * unit
        halo = np.exp(away * (-1 / (0.12 * unit)))
        blend(sky, halo * (0.35 * air.sunshine), rgb(150, 160, 220))
        bite = np.hypot(x - (sun_x - 0.05 * unit), y - (sun_y - 0.02 * unit))
        moon = cover(np.maximum(away - radius, (radius * 0.92) - bite))
        blend(sky, moon * air.sunshine, rgb(252, 244, 208))
        return sky
    size, glow, core = {
        "day": (0.1, rgb(255, 246, 196), rgb(255, 240, 130)),
        "sunset": (0.13, rgb(255, 206, 120), rgb(255, 222, 128)),
    }[air.time]
    edge = away - (size * unit)
    halo = np.exp(np.maximum(edge, 0) * (-1 / (0.11 * unit)))
    blend(sky, halo * (0.75 * air.sunshine), glow)
    blend(sky, cover(edge) * air.sunshine, core)
    return sky


def _paint_stars(sky: Plane, air: Air, frame: Frame) -> None:
    # Golden-ratio sequences: evenly spread without a pattern, and the same at every size.
    for star in range(26):
        x = (0.37 + star * 0.61803) % 1 * frame.width
        y = (0.03 + star * 0.7548777 % 1 * 0.86) * HORIZON * frame.height
        radius = max(0.7, (0.011 if star % 3 == 0 else 0.007) * frame.unit)
        reach = int(3 * radius) + 1
        top, left = max(0, int(y) - reach), max(0, int(x) - reach)
        part = sky[:, top : int(y) + reach + 1, left : int(x) + reach + 1]
        px, py = grid(*part.shape[1:])
        away = np.hypot(px + (left - x), py + (top - y)) / radius
        blend(part, np.exp(-away * away) * (0.9 * air.sunshine), rgb(255, 250, 226))
