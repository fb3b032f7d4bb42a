"""The world behind the object: sky, sun or moon, clouds, hills, trees, ground and waves.

A :class:`Backdrop` belongs to one (ground, time, weather) at one size. Everything in it has one
fixed place; only the scroll moves it. It knows nothing about the object.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .canvas import (
    Colour,
    Frame,
    Plane,
    Strip,
    blend,
    column,
    cover,
    grid,
    lit,
    mix,
    ramp,
    rgb,
    smooth,
)

HORIZON = 0.62
"""Height of the horizon as a fraction of the picture, from the top."""

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
_GROUND: dict[str, tuple[Colour, Colour]] = {
    "meadow": (rgb(150, 204, 92), rgb(62, 146, 52)),
    "sea": (rgb(86, 178, 222), rgb(16, 84, 164)),
    "desert": (rgb(246, 216, 150), rgb(222, 158, 84)),
    "snow": (rgb(246, 250, 255), rgb(206, 222, 242)),
}
_HILL: dict[str, Colour] = {
    "meadow": rgb(92, 152, 106),
    "sea": rgb(92, 132, 160),
    "desert": rgb(206, 116, 70),
    "snow": rgb(132, 152, 188),
}
_GREY = {"day": rgb(152, 162, 174), "sunset": rgb(142, 112, 118), "night": rgb(34, 38, 54)}
_CLOUDS = {"day": rgb(255, 255, 255), "sunset": rgb(255, 186, 158), "night": rgb(66, 74, 120)}
_SUN_PLACE = {"day": (0.2, 0.2), "sunset": (0.79, 0.5), "night": (0.79, 0.21)}


def light_of(time: str, weather: str) -> Colour:
    """The colour of the light that falls on everything."""
    light = _LIGHT[time]
    grey = sum(light) / 3
    if weather == "rain":
        return mix(lit(light, (0.82, 0.84, 0.88)), (grey, grey, grey), 0.25)
    return mix(light, (grey, grey, grey), 0.15) if weather == "snowfall" else light


class Backdrop:
    """All layers of one place, time and weather at one size, painted once.

    `paint` draws everything behind the object and `paint_front` what is nearer than it; both take
    the scroll in pixels at the object's distance and the clock in seconds.
    """

    def __init__(self, ground: str, time: str, weather: str, frame: Frame) -> None:
        self.frame = frame
        self._ground, self._time, self._weather = ground, time, weather
        self._light = light_of(time, weather)
        self._unit = frame.unit
        self._horizon = HORIZON * frame.height
        haze = ramp(_SKY[time], np.ones(1))[:, 0]
        self._haze: Colour = self._weathered((float(haze[0]), float(haze[1]), float(haze[2])))
        self._base = self._sky()
        self._paint_ground(self._base)
        self._back: list[tuple[Strip, float, float]] = []
        self._front: list[tuple[Strip, float, float]] = []
        self._add_clouds()
        self._add_hills()
        {"meadow": self._add_trees, "snow": self._add_pines, "desert": self._add_cacti}.get(
            ground, lambda: None
        )()
        if ground == "sea":
            self._add_waves()
        else:
            self._add_texture()

    @property
    def is_animated(self) -> bool:
        """Whether the backdrop changes while the camera stands still."""
        return True

    def paint(self, picture: Plane, scroll: float, clock: float) -> None:
        """Draw everything behind the object into `picture [3, h, w]`."""
        picture[:] = self._base
        for strip, parallax, drift in self._back:
            strip.draw(picture, scroll * parallax + clock * drift)

    def paint_front(self, picture: Plane, scroll: float, clock: float) -> None:
        """Draw what is in front of the object."""
        for strip, parallax, drift in self._front:
            strip.draw(picture, scroll * parallax + clock * drift)

    def _weathered(self, colour: Colour) -> Colour:
        share = {"clear": 0.0, "rain": 0.72, "snowfall": 0.45}[self._weather]
        grey = _GREY[self._time]
        if self._weather == "snowfall":
            grey = mix(grey, (1.0, 1.0, 1.0), 0.18 if self._time != "night" else 0.04)
        return mix(colour, grey, share)

    def _sky(self) -> Plane:
        height, width = self.frame.height, self.frame.width
        x, y = grid(height, width)
        stops = [(place, self._weathered(colour)) for place, colour in _SKY[self._time]]
        sky = ramp(stops, y[:, 0] / np.float32(self._horizon))[:, :, None]
        sky = np.repeat(sky, width, axis=2)
        unit = self._unit
        place = _SUN_PLACE[self._time]
        away = np.hypot(x - place[0] * width, y - place[1] * height)
        strength = {"clear": 1.0, "rain": 0.22, "snowfall": 0.55}[self._weather]
        if self._time == "night":
            self._stars(sky, strength)
            radius = 0.085 * unit
            blend(sky, strength * 0.35 * np.exp(-away / (0.12 * unit)), rgb(150, 160, 220))
            bite = np.hypot(x - place[0] * width + 0.05 * unit, y - place[1] * height + 0.02 * unit)
            moon = cover(np.maximum(away - radius, radius * 0.92 - bite))
            blend(sky, moon * strength, rgb(252, 244, 208))
        else:
            radius = (0.1 if self._time == "day" else 0.13) * unit
            glow = rgb(255, 246, 196) if self._time == "day" else rgb(255, 206, 120)
            core = rgb(255, 240, 130) if self._time == "day" else rgb(255, 222, 128)
            blend(
                sky, strength * 0.75 * np.exp(-np.maximum(away - radius, 0) / (0.11 * unit)), glow
            )
            blend(sky, cover(away - radius) * strength, core)
        return np.ascontiguousarray(sky)

    def _stars(self, sky: Plane, strength: float) -> None:
        # A golden-ratio sequence: evenly spread and the same at every size.
        for star in range(26):
            sx = (0.37 + star * 0.61803) % 1 * self.frame.width
            sy = (0.03 + star * 0.7548777 % 1 * 0.86) * self._horizon
            radius = (0.006 + 0.005 * (star % 3 == 0)) * self._unit
            top, left = max(0, int(sy) - 6), max(0, int(sx) - 6)
            part = sky[:, top : top + 13, left : left + 13]
            x, y = grid(*part.shape[1:])
            away = np.hypot(x + (left - sx), y + (top - sy)) / np.float32(max(radius, 0.7))
            blend(part, strength * np.exp(-away * away) * 0.9, rgb(255, 250, 226))

    def _paint_ground(self, picture: Plane) -> None:
        height = self.frame.height
        first = int(self._horizon)
        _, y = grid(height, self.frame.width)
        rows = y[first:, 0]
        depth = np.clip((rows - self._horizon) / np.float32(height - self._horizon), 0, 1)
        far, near = (lit(colour, self._light) for colour in _GROUND[self._ground])
        share = 0.45 if self._ground == "sea" else 0.25
        colours = ramp(
            [(0, mix(far, self._haze, share)), (0.25, mix(far, near, 0.35)), (1, near)], depth
        )
        blend(
            picture[:, first:],
            np.clip(rows - np.float32(self._horizon) + 0.5, 0, 1)[:, None],
            colours[:, :, None],
        )
        if self._ground == "sea" and self._weather != "rain":
            self._glitter(picture, first, depth)

    def _glitter(self, picture: Plane, first: int, depth: Plane) -> None:
        x, _ = grid(self.frame.height, self.frame.width)
        place = _SUN_PLACE[self._time][0] * self.frame.width
        spread = (0.05 + 0.16 * depth[:, None]) * self._unit
        path = np.exp(-(((x - place) / spread) ** 2)) * (0.55 - 0.4 * depth[:, None])
        colour = {
            "day": rgb(255, 255, 240),
            "sunset": rgb(255, 208, 130),
            "night": rgb(200, 206, 236),
        }
        strength = 1.0 if self._weather == "clear" else 0.4
        blend(picture[:, first:], path.astype(np.float32) * strength, colour[self._time])

    def _add(self, strip: Strip, parallax: float, drift: float = 0.0, front: bool = False) -> None:
        (self._front if front else self._back).append((strip, parallax, drift * self._unit))

    def _add_clouds(self) -> None:
        unit = self._unit
        period = round(2.4 * unit)
        white = self._weathered(_CLOUDS[self._time])
        if self._weather == "rain":
            white = mix(white, _GREY[self._time], 0.4)
        shade = mix(white, self._weathered(_SKY[self._time][1][1]), 0.45)
        strength = 0.9 if self._time != "night" else 0.75
        puffs = ((0.0, 0.0, 1.0), (-0.75, 0.16, 0.66), (0.8, 0.14, 0.72), (0.28, -0.24, 0.74))

        def painter(x: Plane, y: Plane) -> tuple[Plane, Plane]:
            density = np.zeros((y.shape[0], x.shape[1]), np.float32)
            lift = np.zeros_like(density)
            for cx, cy, size in ((0.3, 0.13, 0.085), (1.15, 0.27, 0.07), (1.95, 0.16, 0.095)):
                for px, py, scale in puffs:
                    radius = size * scale * unit
                    dx = (x - (cx + px * size * 1.5) * unit + period / 2) % period - period / 2
                    dy = y - (cy * self.frame.height + py * size * unit)
                    puff = np.exp(-2.2 * ((dx / (1.7 * radius)) ** 2 + (dy / radius) ** 2))
                    density += puff
                    lift += puff * dy / radius
            alpha = smooth(0.25, 0.95, density) * np.float32(strength)
            share = smooth(-0.1, 0.75, lift / (density + 0.05))
            return column(white) + (column(shade) - column(white)) * share, alpha

        self._add(Strip(painter, period, 0, 0.46 * self.frame.height, self.frame), 0.04, 0.012)

    def _add_hills(self) -> None:
        unit, horizon = self._unit, self._horizon
        period = round(3.0 * unit)
        turn = np.float32(2 * np.pi / period)
        ground = self._ground
        far = mix(lit(_HILL[ground], self._light), self._haze, 0.55)
        low = mix(far, self._haze, 0.35)
        cap = mix(lit(rgb(250, 252, 255), self._light), self._haze, 0.25)

        def ridge(x: Plane) -> Plane:
            if ground == "meadow":
                wave = 0.085 + 0.035 * np.sin(2 * turn * x) + 0.025 * np.sin(5 * turn * x + 1)
            elif ground == "snow":
                teeth = [
                    amp * (2 * np.abs((x / period * n + ph) % 1 - 0.5))
                    for amp, n, ph in ((0.17, 3, 0.1), (0.1, 8, 0.4))
                ]
                wave = np.maximum(teeth[0], teeth[1] + 0.04)
            elif ground == "desert":
                phase = (x / period * 3 + 0.2) % 1
                mesa = smooth(0.16, 0.24, phase) * (1 - smooth(0.6, 0.68, phase))
                step = smooth(0.30, 0.34, phase) * (1 - smooth(0.46, 0.5, phase))
                wave = 0.018 + 0.085 * mesa + 0.05 * step
            else:
                wave = 0.05 * np.sin(turn * x) + 0.02 * np.sin(3 * turn * x + 2) - 0.02
            return (wave * unit).astype(np.float32)

        def painter(x: Plane, y: Plane) -> tuple[Plane, Plane]:
            top = horizon - ridge(x)
            alpha = cover(top - y) * cover(y - horizon - 0.5)
            share = np.clip((y - top) / np.float32(0.13 * unit), 0, 1)
            colour = column(far) + (column(low) - column(far)) * share
            if ground == "snow":
                zigzag = 0.012 * unit * np.sin(24 * turn * x)
                white = cover(y - top - 0.05 * unit - zigzag)
                white = white * cover(y - horizon + 0.09 * unit)
                colour = colour + (column(cap) - colour) * white
            if ground == "desert":
                band = 0.12 * (np.sin((y - horizon) * np.float32(110 / unit)) > 0.2)
                colour = colour * (1 - band * cover(y - horizon + 0.035 * unit))
            return colour.astype(np.float32), alpha

        self._add(Strip(painter, period, horizon - 0.3 * unit, horizon + 1, self.frame), 0.12)

    def _add_trees(self) -> None:
        unit, horizon = self._unit, self._horizon
        period = round(0.5 * unit)
        leaf, dark = (
            mix(lit(colour, self._light), self._haze, 0.12)
            for colour in (rgb(74, 146, 62), rgb(30, 88, 48))
        )
        trunk = lit(rgb(104, 72, 46), self._light)

        def painter(x: Plane, y: Plane) -> tuple[Plane, Plane]:
            u, v = (x - period / 2) / np.float32(unit), (y - horizon) / np.float32(unit)
            pixel = np.float32(1 / unit)
            stem = cover(np.maximum(np.abs(u) - 0.012, np.abs(v + 0.02) - 0.055) / pixel)
            puffs = ((0, -0.125, 0.06), (-0.042, -0.085, 0.045), (0.045, -0.088, 0.045))
            crown = np.min([np.hypot(u - cx, v - cy) - r for cx, cy, r in puffs], axis=0)
            leaves = cover(crown / pixel)
            shade = np.clip((u + v + 0.16) * np.float32(6), 0, 1)
            colour = column(leaf) + (column(dark) - column(leaf)) * shade
            colour = column(trunk) + (colour - column(trunk)) * leaves
            return colour, np.maximum(stem, leaves)

        self._add(
            Strip(painter, period, horizon - 0.2 * unit, horizon + 0.05 * unit, self.frame), 0.4
        )

    def _add_pines(self) -> None:
        unit, horizon = self._unit, self._horizon
        period = round(0.5 * unit)
        leaf, dark = (
            mix(lit(colour, self._light), self._haze, 0.15)
            for colour in (rgb(60, 122, 104), rgb(28, 74, 74))
        )
        cap = lit(rgb(244, 248, 255), self._light)

        def painter(x: Plane, y: Plane) -> tuple[Plane, Plane]:
            u, v = (x - period / 2) / np.float32(unit), (y - horizon) / np.float32(unit)
            pixel = np.float32(1 / unit)
            alpha = np.zeros((y.shape[0], x.shape[1]), np.float32)
            white = np.zeros_like(alpha)
            for top, bottom, half in (
                (-0.11, 0.025, 0.075),
                (-0.16, -0.035, 0.058),
                (-0.2, -0.09, 0.042),
            ):
                slope = half / (bottom - top)
                side = (np.abs(u) - (v - top) * slope) * np.float32(0.9)
                tier = cover(np.maximum(side, v - bottom) / pixel)
                edge = cover((v - bottom + 0.022 + np.abs(u) * 0.4) / -pixel) * tier
                alpha = np.maximum(alpha, tier)
                white = white * (1 - tier) + edge
            shade = np.clip(0.5 + u * np.float32(14), 0, 1)
            colour = column(leaf) + (column(dark) - column(leaf)) * shade
            return colour + (column(cap) - colour) * white * np.float32(0.85), alpha

        self._add(
            Strip(painter, period, horizon - 0.22 * unit, horizon + 0.05 * unit, self.frame), 0.4
        )

    def _add_cacti(self) -> None:
        unit, horizon = self._unit, self._horizon
        period = round(0.5 * unit)
        leaf, dark = (
            mix(lit(colour, self._light), self._haze, 0.12)
            for colour in (rgb(96, 146, 78), rgb(44, 94, 62))
        )
        bars = (
            (0, -0.12, 0, 0.03, 0.019),
            (-0.045, -0.075, -0.045, -0.04, 0.012),
            (-0.045, -0.04, 0, -0.04, 0.012),
            (0.045, -0.1, 0.045, -0.055, 0.012),
            (0.045, -0.055, 0, -0.055, 0.012),
        )

        def painter(x: Plane, y: Plane) -> tuple[Plane, Plane]:
            u, v = (x - period / 2) / np.float32(unit), (y - horizon) / np.float32(unit)
            distance = np.min(
                [
                    np.hypot(
                        np.maximum(np.maximum(min(x0, x1) - u, u - max(x0, x1)), 0),
                        np.maximum(np.maximum(y0 - v, v - y1), 0),
                    )
                    - r
                    for x0, y0, x1, y1, r in bars
                ],
                axis=0,
            )
            shade = np.clip(0.45 + u * np.float32(12), 0, 1) + 0 * v
            colour = column(leaf) + (column(dark) - column(leaf)) * shade
            return colour, cover(distance * np.float32(unit))

        self._add(
            Strip(painter, period, horizon - 0.15 * unit, horizon + 0.06 * unit, self.frame), 0.4
        )

    def _add_texture(self) -> None:
        """Tufts, ripples or drifts in three rows, faster the nearer they are."""
        unit, height, horizon = self._unit, self.frame.height, self._horizon
        far, near = (lit(colour, self._light) for colour in _GROUND[self._ground])
        dark = lit(near, (0.78, 0.8, 0.84))
        bright = mix(near, lit((1.0, 1.0, 1.0), self._light), 0.3)
        for depth, parallax in ((0.2, 0.62), (0.5, 1.0), (0.86, 1.5)):
            period = round((0.34 + 0.5 * depth) * unit)
            row = horizon + depth * (height - horizon)
            half_w, half_h = (0.05 + 0.1 * depth) * unit, (0.006 + 0.012 * depth) * unit

            def painter(
                x: Plane,
                y: Plane,
                row: float = row,
                period: int = period,
                half_w: float = half_w,
                half_h: float = half_h,
            ) -> tuple[Plane, Plane]:
                u = (x - period / 2) / np.float32(half_w)
                v = (y - row) / np.float32(half_h)
                arc = v + 0.9 * u * u - 0.4
                body = np.exp(-(arc * arc) * 1.2) * smooth(-1.0, -0.2, -np.abs(u))
                colour = column(bright) + (column(dark) - column(bright)) * smooth(-0.4, 0.4, arc)
                return colour.astype(np.float32), body.astype(np.float32) * np.float32(0.75)

            strip = Strip(painter, period, row - 3 * half_h, row + 3 * half_h, self.frame)
            self._add(strip, parallax)

    def _add_waves(self) -> None:
        unit, height, horizon = self._unit, self.frame.height, self._horizon
        far, near = (lit(colour, self._light) for colour in _GROUND["sea"])
        foam = mix(far, lit((1.0, 1.0, 1.0), self._light), 0.45)
        rows = ((0.1, 0.25, 0.02), (0.3, 0.5, -0.03), (0.55, 0.8, 0.05), (0.84, 1.2, -0.07))
        for depth, parallax, drift in rows:
            period = round((0.14 + 0.34 * depth) * unit)
            row = horizon + depth * (height - horizon)
            swell = (0.004 + 0.016 * depth) * unit
            reach = (0.05 + 0.12 * depth) * unit
            body_colour = lit(mix(far, near, 0.25 + 0.75 * depth), (0.92, 0.95, 0.98))

            def painter(
                x: Plane,
                y: Plane,
                row: float = row,
                period: int = period,
                swell: float = swell,
                reach: float = reach,
                body_colour: Colour = body_colour,
            ) -> tuple[Plane, Plane]:
                # Sharper crests than troughs, as water has them.
                lift = np.abs(np.sin(np.float32(np.pi / period) * x))
                below = y - (row - swell * (1 - 2 * lift))
                body = cover(-below) * np.clip(1 - below / np.float32(reach), 0, 1) * 0.55
                crest = np.exp(-((below / np.float32(max(0.8, 0.35 * swell))) ** 2)) * 0.6
                colour = column(body_colour) + (column(foam) - column(body_colour)) * crest
                return colour.astype(np.float32), np.maximum(body, crest * 0.8).astype(np.float32)

            strip = Strip(painter, period, row - 2 * swell - 2, row + reach, self.frame)
            self._add(strip, parallax, drift, front=depth > 0.8)


@lru_cache(maxsize=36)
def backdrop(ground: str, time: str, weather: str, height: int, width: int) -> Backdrop:
    """The backdrop of a place, time and weather at a size; the last few dozen are kept."""
    return Backdrop(ground, time, weather, Frame(height, width))
