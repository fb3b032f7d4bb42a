"""The six objects, drawn around the origin in units of their radius, anti-aliased at any size.

Each painter gets a :class:`Pen`, its colours and the clock; it faces right. Where the object is,
and how it moves, is the business of `motion.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from causvid.world.canvas import Colour, Plane, blend, column, cover, lit, mix, rgb, smooth, turned

PAINT: dict[str, Colour] = {
    "red": rgb(232, 36, 44),
    "orange": rgb(255, 132, 14),
    "yellow": rgb(255, 220, 36),
    "green": rgb(36, 178, 66),
    "blue": rgb(32, 92, 240),
    "purple": rgb(150, 52, 206),
}

_INK = rgb(34, 36, 48)
_CREAM = rgb(255, 248, 232)
_GLASS = rgb(176, 222, 246)
_WOOD = rgb(150, 96, 56)
_STEEL = rgb(226, 230, 238)


@dataclass(frozen=True)
class Act:
    """What an object is doing: what turns its wheels, beats its wings and lights its engine."""

    clock: float
    """Seconds since the beginning."""
    travel: float
    """Distance gone forwards, in radii."""
    flying: bool


class Pen:
    """A patch of a picture seen in the object's own coordinates.

    `u` grows to the right (the object's front), `v` downwards; both `[h, w]` or broadcastable, in
    object radii. `pixel` is the size of a pixel in the same measure.
    """

    def __init__(
        self, patch: Plane, u: Plane, v: Plane, pixel: float, tilt: float, light: Colour
    ) -> None:
        if tilt:
            u, v = turned(u, v, tilt)
        self.patch, self.u, self.v, self.light = patch, u, v, light
        self._sharpness = np.float32(1 / pixel)

    def fill(self, distance: Plane, colour: Colour | Plane) -> None:
        """Paint a shape (signed distance in radii) in a colour that the light falls on."""
        paint = column(colour) if isinstance(colour, tuple) else colour
        blend(self.patch, self.cover(distance), paint * column(self.light))

    def glow(self, strength: Plane, colour: Colour) -> None:
        """Paint something that shines by itself, as strongly as given in [0, 1]."""
        blend(self.patch, strength, colour)

    def cover(self, distance: Plane) -> Plane:
        """Coverage of a signed distance in radii."""
        return cover(distance * self._sharpness)

    def disc(self, x: float, y: float, radius: float) -> Plane:
        """Signed distance to a disc."""
        return np.hypot(self.u - x, self.v - y) - radius

    def oval(self, x: float, y: float, a: float, b: float, turn: float = 0.0) -> Plane:
        """Near signed distance to an ellipse with half axes a and b, turned clockwise."""
        u, v = self.u - x, self.v - y
        if turn:
            u, v = turned(u, v, turn)
        p, q = u * (1 / a), v * (1 / b)
        level = np.sqrt(p * p + q * q + 1e-6)
        steep = np.hypot(p * (1 / a), q * (1 / b)) + 1e-3
        return level * (level - 1) / steep

    def box(self, x: float, y: float, a: float, b: float, round_: float = 0.0) -> Plane:
        """Signed distance to a box with half sides a and b and rounded corners."""
        p = np.abs(self.u - x) - (a - round_)
        q = np.abs(self.v - y) - (b - round_)
        outside = np.hypot(np.maximum(p, 0), np.maximum(q, 0))
        return outside + np.minimum(np.maximum(p, q), 0) - round_

    def polygon(self, *points: tuple[float, float]) -> Plane:
        """Signed distance to the lines of a convex polygon, its corners clockwise on screen."""
        sides = []
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            length = float(np.hypot(x1 - x0, y1 - y0))
            nx, ny = (y1 - y0) / length, (x0 - x1) / length
            sides.append(self.u * nx + self.v * ny - (nx * x0 + ny * y0))
        return np.maximum.reduce(sides)


def _shaded(colour: Colour, shade: Plane, dark: float = 0.52, bright: float = 0.3) -> Plane:
    """A colour lit from the upper left: shade 0 is the highlight, 1 the far side."""
    high, low = column(mix(colour, (1.0, 1.0, 1.0), bright)), column(lit(colour, (dark,) * 3))
    middle = column(colour)
    up = np.clip(1 - shade * 2.2, 0, 1)
    down = smooth(0.42, 1.05, shade)
    return middle + (high - middle) * up + (low - middle) * down


def _ball(pen: Pen, colour: Colour, act: Act) -> None:
    u, v = pen.u, pen.v
    p, q = turned(u, v, 0.5 + act.travel / 0.95)
    shade = np.hypot(u + 0.34, v + 0.38) * 0.72
    shape = pen.disc(0, 0, 0.95)
    pen.fill(shape, _shaded(colour, shade))
    depth = np.sqrt(np.maximum(0.92 - p * p - q * q, 0))
    band = np.abs(q * 0.9 + depth * 0.25) - 0.17
    pen.fill(np.maximum(shape, band), _shaded(_CREAM, shade, 0.62, 0.6))
    pen.glow(np.exp(-(pen.disc(-0.36, -0.42, 0) ** 2) * 26) * 0.75, (1.0, 1.0, 1.0))


def _balloon(pen: Pen, colour: Colour, act: Act) -> None:
    u, v = pen.u, pen.v
    for x in (-0.2, 0.2):
        rope = np.abs(u - x * (2.2 - v * 1.5)) - 0.018
        pen.fill(np.maximum(rope, np.abs(v - 0.6) - 0.24), _INK)
    # A circle that runs into a cone: the half width of the envelope at every height.
    round_part = np.sqrt(np.maximum((0.74**2) - (v + 0.3) ** 2, 1e-6))
    cone = 0.63 - (v - 0.09) * 1.02
    half = np.where(v < np.float32(0.09), round_part, cone)
    top = pen.disc(0, -0.3, 0.74)
    lower = np.maximum((np.abs(u) - half) * 0.7, v - 0.47)
    shape = np.where(v < np.float32(0.09), top, lower)
    across = np.clip(u / np.maximum(half, 0.05), -1, 1)
    gore = np.sin(np.arcsin(across * 0.98) * 6 + 0.9)
    gore *= 1 - smooth(0.82, 1.0, np.abs(across))  # too fine to see near the outline
    shade = np.hypot(u + 0.26, v + 0.6) * 0.8
    paint = _shaded(colour, shade)
    light = _shaded(mix(colour, _CREAM, 0.72), shade, 0.66)
    pen.fill(shape, paint + (light - paint) * smooth(-0.35, 0.35, gore))
    pen.fill(pen.box(0, 0.47, 0.17, 0.035), lit(colour, (0.5, 0.5, 0.5)))
    pen.fill(pen.box(0, 0.86, 0.19, 0.13, 0.04), _WOOD)
    pen.fill(pen.box(0, 0.75, 0.21, 0.035, 0.02), lit(_WOOD, (1.3, 1.25, 1.2)))


def _car(pen: Pen, colour: Colour, act: Act) -> None:
    u, v = pen.u, pen.v
    shade = np.clip((v + 0.5) * 0.95, 0, 1.1)
    cabin = pen.polygon((-0.55, -0.52), (0.3, -0.52), (0.62, 0.0), (-0.78, 0.0)) - 0.05
    pen.fill(cabin, _shaded(colour, shade))
    for pane in (
        ((-0.5, -0.44), (-0.17, -0.44), (-0.17, -0.06), (-0.66, -0.06)),
        ((-0.05, -0.44), (0.26, -0.44), (0.5, -0.06), (-0.05, -0.06)),
    ):
        pen.fill(pen.polygon(*pane), mix(_GLASS, (1.0, 1.0, 1.0), 0.15))
    body = pen.box(0, 0.2, 1.22, 0.27, 0.17)
    pen.fill(body, _shaded(colour, shade))
    pen.fill(pen.box(0.0, 0.41, 1.16, 0.055, 0.04), lit(colour, (0.42, 0.42, 0.42)))
    pen.fill(pen.box(-0.12, 0.1, 0.09, 0.022, 0.02), lit(colour, (0.5, 0.5, 0.5)))
    pen.glow(pen.cover(pen.oval(1.12, 0.12, 0.09, 0.1)), rgb(255, 246, 190))
    pen.fill(pen.box(-1.17, 0.12, 0.05, 0.09, 0.04), rgb(200, 30, 36))
    turn = 0.3 + act.travel / 0.29
    for x in (-0.66, 0.68):
        pen.fill(pen.disc(x, 0.45, 0.29), _INK)
        pen.fill(pen.disc(x, 0.45, 0.16), _STEEL)
        p, _ = turned(u - x, v - 0.45, turn)
        pen.fill(np.maximum(np.abs(p) - 0.035, pen.disc(x, 0.45, 0.15)), _INK)


def _boat(pen: Pen, colour: Colour, act: Act) -> None:
    u, v = pen.u, pen.v
    pen.fill(pen.box(-0.04, -0.25, 0.03, 0.78), _WOOD)
    shade = np.clip(0.62 - u * 0.55 + v * 0.22, 0, 1)
    main = pen.polygon((-0.1, -0.95), (-0.1, 0.36), (-0.92, 0.36))
    belly = pen.disc(0.55, -1.0, 1.62)
    pen.fill(np.maximum(main, belly - 0.3), _shaded(colour, shade))
    pen.fill(
        pen.polygon((0.04, -0.82), (0.8, 0.36), (0.04, 0.36)),
        _shaded(mix(colour, _CREAM, 0.25), np.clip(shade + 0.12, 0, 1)),
    )
    hull = pen.polygon((-1.12, 0.46), (1.2, 0.46), (0.82, 0.9), (-0.84, 0.9))
    pen.fill(hull, _shaded(_CREAM, np.clip(v * 0.75, 0, 1), 0.6))
    pen.fill(np.maximum(hull, np.abs(v - 0.56) - 0.055), colour)
    pen.fill(np.maximum(hull, 0.76 - v), _WOOD)


def _bird(pen: Pen, colour: Colour, act: Act) -> None:
    u, v = pen.u, pen.v
    flap = float(np.sin(act.clock * 2 * np.pi * 1.3))
    dark = lit(colour, (0.6, 0.6, 0.6))
    tail = pen.polygon((-0.55, -0.1), (-0.5, 0.2), (-1.2, 0.3), (-1.25, -0.12))
    pen.fill(np.maximum(tail, -pen.polygon((-1.3, 0.0), (-1.3, 0.2), (-1.05, 0.1))), dark)
    _wing(pen, dark, flap, -0.12)
    pen.fill(pen.polygon((0.85, -0.3), (1.27, -0.14), (0.85, -0.06)), rgb(255, 170, 30))
    shade = np.hypot(u - 0.1, v + 0.42) * 0.8
    body = np.minimum(pen.oval(0.0, 0.08, 0.74, 0.36, -0.12), pen.disc(0.6, -0.2, 0.33))
    pen.fill(body, _shaded(colour, shade, 0.55, 0.2))
    belly = pen.oval(0.1, 0.25, 0.5, 0.19, -0.12)
    pen.fill(belly, mix(colour, _CREAM, 0.6))
    _wing(pen, mix(colour, (0.0, 0.0, 0.0), 0.16), flap, 0.06)
    pen.fill(pen.disc(0.7, -0.28, 0.1), (1.0, 1.0, 1.0))
    pen.fill(pen.disc(0.73, -0.27, 0.06), _INK)


def _wing(pen: Pen, colour: Colour, flap: float, shift: float) -> None:
    """A wing that beats up and down around the shoulder, its tip swept back."""
    lift = 0.22 + 0.74 * flap
    front, back = (0.3 + shift, 0.0), (-0.42 + shift, 0.04)
    tip, corner = (-0.34 + shift, -lift), (0.0 + shift, -0.86 * lift)
    points = (corner, front, back, tip) if lift > 0 else (front, corner, tip, back)
    pen.fill(pen.polygon(*points) - 0.06, colour)


def _rocket(pen: Pen, colour: Colour, act: Act) -> None:
    u, v = pen.u, pen.v
    if act.flying:
        flicker = 1 + 0.14 * float(np.sin(act.clock * 2 * np.pi * 2.7))
        for length, width, flame in (
            (0.5, 0.21, rgb(255, 140, 24)),
            (0.3, 0.12, rgb(255, 236, 130)),
        ):
            reach = np.float32(length * flicker)
            along = (v - 0.66) / reach
            half = width * np.sqrt(np.clip(1 - along, 0, 1))
            side = np.maximum((np.abs(u) - half) * 0.8, -(v - 0.62))
            pen.glow(pen.cover(np.maximum(side, (along - 1) * reach)), flame)
    dark = lit(colour, (0.72, 0.72, 0.72))
    pen.fill(pen.polygon((-0.3, 0.2), (-0.3, 0.66), (-0.68, 0.84), (-0.62, 0.5)), colour)
    pen.fill(pen.polygon((0.3, 0.2), (0.62, 0.5), (0.68, 0.84), (0.3, 0.66)), dark)
    # Two arcs that meet in the nose.
    arcs = np.maximum(pen.disc(-1.46, 0.1, 1.86), pen.disc(1.46, 0.1, 1.86))
    shape = np.maximum(arcs, v - 0.68)
    shade = np.clip(0.5 + u * 1.25, 0, 1.05)
    pen.fill(shape, _shaded(_STEEL, shade, 0.58, 0.9))
    pen.fill(np.maximum(shape, v + 0.36), _shaded(colour, shade))
    pen.fill(np.maximum(shape, 0.5 - v), _shaded(colour, shade))
    pen.fill(pen.disc(0, -0.08, 0.19), lit(colour, (0.6, 0.6, 0.6)))
    pen.fill(pen.disc(0, -0.08, 0.13), _GLASS)


@dataclass(frozen=True)
class Actor:
    """An object's painter and its extent around the origin, in radii."""

    paint: Callable[[Pen, Colour, Act], None]
    half_width: float
    top: float
    bottom: float
    foot: float
    """Where it touches the ground, below the origin."""


ACTORS: dict[str, Actor] = {
    "ball": Actor(_ball, half_width=1.0, top=1.0, bottom=1.0, foot=0.95),
    "balloon": Actor(_balloon, half_width=0.85, top=1.1, bottom=1.05, foot=1.0),
    "car": Actor(_car, half_width=1.3, top=0.65, bottom=0.8, foot=0.74),
    "boat": Actor(_boat, half_width=1.28, top=1.1, bottom=1.0, foot=0.8),
    "bird": Actor(_bird, half_width=1.35, top=1.1, bottom=0.7, foot=0.5),
    "rocket": Actor(_rocket, half_width=0.78, top=0.95, bottom=1.3, foot=0.8),
}
