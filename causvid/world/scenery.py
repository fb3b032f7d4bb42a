"""Painters of everything that stands still or drifts in the world: clouds, hills, trees and water.

Lengths are pixels derived from the frame's unit, so the same world appears at every size.
"""

from collections.abc import Callable

import numpy as np

from causvid.world.canvas import Colour, Frame, Plane, Strip, column, cover, lit, mix, rgb, smooth
from causvid.world.sky import HORIZON, Air

GROUND: dict[str, tuple[Colour, Colour]] = {
    "meadow": (rgb(150, 204, 92), rgb(62, 146, 52)),
    "sea": (rgb(86, 178, 222), rgb(16, 84, 164)),
    "desert": (rgb(246, 216, 150), rgb(222, 158, 84)),
    "snow": (rgb(246, 250, 255), rgb(206, 222, 242)),
}
"""Colours of each ground at the horizon and at the viewer's feet, in daylight."""

_HILL: dict[str, Colour] = {
    "meadow": rgb(92, 152, 106),
    "sea": rgb(92, 132, 160),
    "desert": rgb(206, 116, 70),
    "snow": rgb(132, 152, 188),
}
# Centre (in units and heights) and size of each cloud; and of the puffs that make one up.
_CLOUDS = ((0.74, 0.12, 0.085), (1.6, 0.3, 0.07), (2.2, 0.15, 0.095))
_PUFFS = ((0.0, 0.0, 1.0), (-0.75, 0.16, 0.66), (0.8, 0.14, 0.72), (0.28, -0.24, 0.74))


def _between(first: Colour, second: Colour, share: Plane) -> Plane:
    """A picture that goes from one colour to another by a share `[h, w]`."""
    start = column(first)
    return start + (column(second) - start) * share


def clouds(air: Air, frame: Frame) -> Strip:
    """Three soft clouds, lit from above."""
    unit, period = frame.unit, round(2.4 * frame.unit)
    strength = np.float32(0.75 if air.time == "night" else 0.9)

    def painter(x: Plane, y: Plane) -> tuple[Plane, Plane]:
        density = np.zeros((y.shape[0], x.shape[1]), np.float32)
        lift = np.zeros_like(density)
        for cx, cy, size in _CLOUDS:
            for px, py, scale in _PUFFS:
                radius = size * scale * unit
                dx = (x - ((cx + px * size * 1.5) * unit) + period / 2) % period
                dx -= period / 2
                dy = y - (cy * frame.height + py * size * unit)
                puff = np.exp(-2.2 * ((dx / (1.7 * radius)) ** 2 + (dy / radius) ** 2))
                density += puff
                lift += puff * dy / radius
        shade = smooth(-0.1, 0.75, lift / (density + 0.05))
        return (
            _between(air.cloud, air.cloud_shade, shade),
            smooth(0.25, 0.95, density) * strength,
        )

    return Strip(painter, period, 0, 0.46 * frame.height, frame)


def hills(ground: str, air: Air, frame: Frame) -> Strip:
    """The far ridge: round hills, an island, mesas or snow-capped mountains."""
    unit, horizon, period = frame.unit, HORIZON * frame.height, round(3.0 * frame.unit)
    turn = np.float32(2 * np.pi / period)
    top_colour = air.far(_HILL[ground], 0.5)
    low_colour = mix(top_colour, air.haze, 0.4)
    cap_colour = air.far(rgb(250, 252, 255), 0.25)

    def ridge(x: Plane) -> Plane:
        place = x / period
        if ground == "meadow":
            height = 0.085 + 0.035 * np.sin(2 * turn * x) + 0.025 * np.sin(5 * turn * x + 1)
        elif ground == "snow":
            broad = 0.17 * 2 * np.abs((place * 3 + 0.1) % 1 - 0.5)
            sharp = 0.04 + 0.1 * 2 * np.abs((place * 8 + 0.4) % 1 - 0.5)
            height = np.maximum(broad, sharp)
        elif ground == "desert":
            phase = (place * 3 + 0.2) % 1
            mesa = smooth(0.16, 0.24, phase) * (1 - smooth(0.6, 0.68, phase))
            step = smooth(0.3, 0.34, phase) * (1 - smooth(0.46, 0.5, phase))
            height = 0.018 + 0.085 * mesa + 0.05 * step
        else:
            height = 0.05 * np.sin(turn * x) + 0.02 * np.sin(3 * turn * x + 2) - 0.02
        return (height * unit).astype(np.float32)

    def painter(x: Plane, y: Plane) -> tuple[Plane, Plane]:
        top = horizon - ridge(x)
        below, above_ground = y - top, y - horizon
        colour = _between(top_colour, low_colour, np.clip(below / (0.13 * unit), 0, 1))
        if ground == "snow":
            edge = (0.012 * unit) * np.sin(24 * turn * x) + (0.05 * unit)
            cap = cover(below - edge) * cover(above_ground + (0.09 * unit))
            colour = colour + (column(cap_colour) - colour) * cap
        elif ground == "desert":
            layers = smooth(-0.2, 0.5, np.sin(above_ground * (110 / unit)))
            colour = colour * (1 - 0.12 * layers * cover(above_ground + (0.035 * unit)))
        return colour.astype(np.float32), cover(-below) * cover(above_ground - 0.5)

    return Strip(painter, period, horizon - 0.2 * unit, horizon + 2, frame)


def landmark(ground: str, air: Air, frame: Frame) -> Strip:
    """What stands on the horizon: a tree, rocks in the water, a cactus or a fir."""
    unit, horizon, period = frame.unit, HORIZON * frame.height, round(0.5 * frame.unit)
    kinds = {"meadow": _trees, "sea": _skerries, "desert": _cacti, "snow": _pines}
    paint = kinds[ground](air)

    def painter(x: Plane, y: Plane) -> tuple[Plane, Plane]:
        return paint((x - period / 2) / unit, (y - horizon) / unit, np.float32(unit))

    return Strip(painter, period, horizon - 0.22 * unit, horizon + 0.06 * unit, frame)


_Landmark = Callable[[Plane, Plane, np.float32], tuple[Plane, Plane]]
"""From coordinates in units around the middle of the period at the horizon, and pixels per unit, to
colour and coverage."""


def _trees(air: Air) -> _Landmark:
    """A broad-leaved tree."""
    leaf, shaded = air.far(rgb(74, 146, 62), 0.12), air.far(rgb(30, 88, 48), 0.12)
    trunk = lit(rgb(104, 72, 46), air.light)
    puffs = ((0, -0.125, 0.06), (-0.042, -0.085, 0.045), (0.045, -0.088, 0.045))

    def paint(u: Plane, v: Plane, scale: np.float32) -> tuple[Plane, Plane]:
        stem = cover(np.maximum(np.abs(u) - 0.012, np.abs(v + 0.02) - 0.055) * scale)
        crown = np.min([np.hypot(u - cx, v - cy) - r for cx, cy, r in puffs], axis=0)
        leaves = cover(crown * scale)
        colour = _between(leaf, shaded, np.clip((u + v + 0.16) * 6, 0, 1))
        colour = column(trunk) + (colour - column(trunk)) * leaves
        return colour, np.maximum(stem, leaves)

    return paint


def _pines(air: Air) -> _Landmark:
    """A fir with snow on its branches."""
    leaf, shaded = air.far(rgb(60, 122, 104), 0.15), air.far(rgb(28, 74, 74), 0.15)
    snow = lit(rgb(244, 248, 255), air.light)
    tiers = ((-0.11, 0.025, 0.075), (-0.16, -0.035, 0.058), (-0.2, -0.09, 0.042))

    def paint(u: Plane, v: Plane, scale: np.float32) -> tuple[Plane, Plane]:
        alpha: Plane = np.zeros((v.shape[0], u.shape[1]), np.float32)
        white: Plane = np.zeros_like(alpha)
        for top, bottom, half in tiers:
            side = (np.abs(u) - (v - top) * (half / (bottom - top))) * 0.9
            tier = cover(np.maximum(side, v - bottom) * scale)
            rim = cover((bottom - 0.022 - np.abs(u) * 0.4 - v) * scale) * tier
            alpha = np.maximum(alpha, tier)
            white = white * (1 - tier) + rim
        colour = _between(leaf, shaded, np.clip(0.5 + u * 14, 0, 1))
        return colour + (column(snow) - colour) * (white * 0.85), alpha

    return paint


def _cacti(air: Air) -> _Landmark:
    """A cactus with two arms."""
    leaf, shaded = air.far(rgb(96, 146, 78), 0.12), air.far(rgb(44, 94, 62), 0.12)
    # Left, top, right and bottom of each limb's axis, and its radius.
    limbs = (
        (0.0, -0.12, 0.0, 0.03, 0.019),
        (-0.045, -0.075, -0.045, -0.04, 0.012),
        (-0.045, -0.04, 0.0, -0.04, 0.012),
        (0.045, -0.1, 0.045, -0.055, 0.012),
        (0.0, -0.055, 0.045, -0.055, 0.012),
    )

    def paint(u: Plane, v: Plane, scale: np.float32) -> tuple[Plane, Plane]:
        distances = [
            np.hypot(u - np.clip(u, left, right), v - np.clip(v, top, bottom)) - radius
            for left, top, right, bottom, radius in limbs
        ]
        shade = np.broadcast_to(np.clip(0.45 + u * 12, 0, 1), (v.shape[0], u.shape[1]))
        return _between(leaf, shaded, shade), cover(np.min(distances, axis=0) * scale)

    return paint


def _skerries(air: Air) -> _Landmark:
    """Two rocks in the water, the higher one green on top, with surf around them."""
    bright, shaded = air.far(rgb(150, 132, 116), 0.12), air.far(rgb(70, 60, 66), 0.12)
    grass = air.far(rgb(96, 152, 72), 0.12)
    surf = mix(lit(rgb(240, 248, 252), air.light), air.haze, 0.15)
    # Centre, half width and height of each rock.
    rocks = ((-0.02, 0.075, 0.105), (0.07, 0.05, 0.055))

    def paint(u: Plane, v: Plane, scale: np.float32) -> tuple[Plane, Plane]:
        v = v - 0.02
        tops = [-height * (1 - ((u - cx) / half) ** 2) for cx, half, height in rocks]
        below = v - np.min(tops, axis=0)
        rock = cover(np.maximum(-below, v) * (0.6 * scale))
        colour = _between(bright, shaded, np.clip(0.45 + u * 7, 0, 1))
        cap = cover((below - 0.028) * scale) * cover((v + 0.05) * scale)
        colour = colour + (column(grass) - colour) * cap
        foam = np.exp(-((v / 0.011) ** 2)) * smooth(-0.13, -0.09, -np.abs(u - 0.012))
        colour = colour + (column(surf) - colour) * foam
        return colour, np.maximum(rock, foam * 0.8)

    return paint


def tufts(ground: str, air: Air, frame: Frame, depth: float) -> Strip:
    """A small curved mark on the ground, `depth` of the way from the horizon to the viewer.

    Grass, stones, ripples of sand, drifts; on the sea a crest that breaks.
    """
    near = lit(GROUND[ground][1], air.light)
    dark = lit(near, (0.78, 0.8, 0.84))
    bright = mix(near, air.light, 0.3)
    if ground == "sea":
        dark, bright = bright, mix(near, air.light, 0.8)
    row, period = _row(frame, depth), round((0.34 + 0.5 * depth) * frame.unit)
    half_w, half_h = (0.05 + 0.1 * depth) * frame.unit, (0.006 + 0.012 * depth) * frame.unit

    def painter(x: Plane, y: Plane) -> tuple[Plane, Plane]:
        u, v = (x - period / 2) / half_w, (y - row) / half_h
        arc = v + 0.9 * u * u - 0.4
        body = np.exp(-1.2 * arc * arc) * smooth(-1.0, -0.2, -np.abs(u))
        return _between(bright, dark, smooth(-0.4, 0.4, arc)), body * 0.75

    return Strip(painter, period, row - 3 * half_h, row + 3 * half_h, frame)


def waves(air: Air, frame: Frame, depth: float) -> Strip:
    """A row of waves with a light crest, `depth` of the way from the horizon to the viewer."""
    far, near = (lit(colour, air.light) for colour in GROUND["sea"])
    foam = mix(far, air.light, 0.45)
    water = lit(mix(far, near, 0.25 + 0.75 * depth), (0.92, 0.95, 0.98))
    row, period = _row(frame, depth), round((0.14 + 0.34 * depth) * frame.unit)
    swell, reach = (0.004 + 0.016 * depth) * frame.unit, (0.05 + 0.12 * depth) * frame.unit

    def painter(x: Plane, y: Plane) -> tuple[Plane, Plane]:
        # Crests are sharper than troughs, as on water.
        lift = np.abs(np.sin(np.float32(np.pi / period) * x))
        below = y - (row - swell * (1 - 2 * lift))
        body = cover(-below) * np.clip(1 - below / reach, 0, 1) * 0.55
        width = np.float32(max(0.8, 0.35 * swell))
        crest = np.exp(-((below / width) ** 2)) * 0.6
        return _between(water, foam, crest), np.maximum(body, crest * 0.8)

    return Strip(painter, period, row - 2 * swell - 2, row + reach, frame)


def _row(frame: Frame, depth: float) -> float:
    """The row at a depth, from 0 at the horizon to 1 at the viewer."""
    horizon = HORIZON * frame.height
    return horizon + depth * (frame.height - horizon)
