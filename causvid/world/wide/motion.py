"""Where things and the camera are at any moment, in pixels of the picture.

Every motion is a function of the seconds since its shot began, and goes on by itself: where a
thing is and was a moment ago tells where it will be, so that a stream can be continued for ever.
"""

from dataclasses import dataclass

import numpy as np

from causvid.world.wide.scene import ROUND, Scene
from causvid.world.wide.sprites import foot, half_width

RADIUS = {"small": 0.115, "normal": 0.18, "big": 0.28}
"""Radius of a thing of each size, in units: the height, or less where the picture is narrow."""

ZOOM = 1.6
"""How far the camera goes in, or comes from when it goes out."""


@dataclass(frozen=True)
class View:
    """Where the camera is: pixels gone to the right and down, and how far it is zoomed in.

    Attributes:
        along: pixels gone along with the things that it follows, to the right.
    """

    x: float = 0.0
    y: float = 0.0
    zoom: float = 1.0
    along: float = 0.0


@dataclass(frozen=True)
class Pose:
    """A thing at one moment, in the pixels of a picture whose camera stands still.

    Attributes:
        x, y: where it touches the ground, or would, if it hung lower by nothing.
        scale: times its radius.
        squash: how much lower and wider than at rest, 0 at rest.
        angle: clockwise turn in radians.
        facing: 1 to the right, -1 to the left.
        lift: how far it is above its shadow's place, in pixels; negative without a shadow.
        way: distance rolled to its front, in radii.
        wraps: pixels to the right and left at which it is seen once more: what leaves comes back
            on the other side meanwhile; 0 if it does not.
    """

    x: float
    y: float
    scale: float = 1.0
    squash: float = 0.0
    angle: float = 0.0
    facing: float = 1.0
    lift: float = 0.0
    way: float = 0.0
    wraps: float = 0.0


class Body:
    """A thing of a scene at a size: what its seed chose, and its poses.

    Args:
        ground: the row, as a fraction of the height, from which things stand; `None` where all
            things hang or swim.
        index: which thing of the scene it is.
    """

    def __init__(
        self, scene: Scene, index: int, height: int, width: int, ground: float | None
    ) -> None:
        thing = self.thing = scene.things[index]
        rng = np.random.default_rng((scene.seed, 101, index))
        self._height, self._width = height, width
        unit = self.unit = min(float(height), width / 1.25)
        radius = RADIUS[thing.size] * unit * rng.uniform(0.9, 1.12)
        room = 0.23 if len(scene.things) > 1 else 0.42
        self.radius = min(radius, room * width / self.largest, 0.45 * height / self.largest)
        self.foot = foot(thing.kind) * self.radius
        self.half = half_width(thing.kind) * self.radius
        place = {"left": 0.25, "middle": 0.5, "right": 0.75}[thing.side]
        self.x = float(
            np.clip((place + rng.uniform(-0.05, 0.05)) * width, self.half, width - self.half)
        )
        self._speed = _stride(scene) * unit
        self._phase = rng.uniform()
        self._hop = rng.uniform(0.25, 0.42) * (1.0 if thing.mover == "item" else 0.5)
        self._pace = rng.uniform(0.85, 1.3)
        self._spin = rng.choice((-1, 1)) * rng.uniform(0.8, 2.0)
        self._side = 1.0 if rng.random() < 0.5 else -1.0
        self._shows = 1.0 if rng.random() < 0.5 else -1.0
        deep = rng.uniform()
        self.hangs = ground is None or thing.mover == "fly"
        low = max(0.62, (ground or 0.55) + 0.07)
        self.ground = min(0.95, low + deep * (0.94 - low)) * height
        if self.hangs:
            top, bottom = (
                self.radius * self.largest / height + 0.05,
                (0.5 if ground is not None else 0.8),
            )
            middle = (top + deep * max(0.0, bottom - top)) * height
            self.y = middle + self.foot
        else:
            self.y = max(self.ground, 2 * self.radius * self.largest)
        self._floats = thing.mover == "swim" or ground is None
        self._shaded = ground is not None
        if thing.motion in ("rise", "fall"):
            self.y = max(self.ground, 2 * self.radius)

    @property
    def largest(self) -> float:
        """The largest scale that a pose of its own has."""
        return 1.7 if self.thing.motion in ("grow", "shrink") else 1.0

    def pose(self, seconds: float, camera: str) -> Pose:
        """The pose `seconds` after its shot began."""
        thing, motion = self.thing, self.thing.motion
        x, y, lift, angle, scale, squash = self.x, self.y, 0.0, 0.0, 1.0, 0.0
        facing, way = self._shows, 0.0
        swing = float(np.sin(2 * np.pi * (0.45 * self._pace * seconds + self._phase)))
        walking, wraps = False, 0.0
        if motion in ("left", "right"):
            facing = 1.0 if motion == "right" else -1.0
            way = self._speed * seconds
            if camera != "follow":
                x += facing * way
                edge = 0.4 * self.half
                wraps = self._width + 2 * edge
                x = (x + edge) % wraps - edge
            walking = True
        elif motion == "in":
            gone = self._side * (self._width / 2 + self.half) + self._width / 2
            way = min(self._speed * 1.3 * seconds, abs(self.x - gone) - 0.6 * self.half)
            facing = -self._side
            x = gone + facing * (way + 0.6 * self.half)
            walking = way < abs(self.x - gone) - 0.6 * self.half
        elif motion == "out":
            facing = self._side
            way = max(0.0, seconds - 0.4) * self._speed * 1.3
            x += facing * min(way, 2.0 * self._width)
            walking = way > 0
        elif motion == "behind":
            reach = 0.8 * self.half + 0.16 * self._width
            run = (self._speed * seconds / (2 * reach) + self._phase) % 2
            facing = 1.0 if run < 1 else -1.0
            x += (2 * (run if run < 1 else 2 - run) - 1) * reach
            way = self._speed * seconds
            walking = True
        elif motion == "bounce":
            y, lift, squash = self._bounced(seconds)
        elif motion == "rise":
            top = 2 * self.radius + 0.03 * self._height
            y = max(self.y - 0.17 * self.unit * seconds, min(top, self.y))
            lift = self.y - y
        elif motion == "fall":
            drop = max(0.0, self.y - 2.05 * self.radius)
            fallen, squash = self._fallen(seconds, drop)
            lift = drop - fallen
            y = self.y - lift
        elif motion in ("grow", "shrink"):
            share = float(np.clip(seconds / (3.2 * self._pace), 0, 1))
            share = share * share * (3 - 2 * share)
            scale = 1 + 0.7 * (share if motion == "grow" else 1 - share)
        elif motion == "turn":
            angle = self._spin * seconds
        if self.hangs and motion not in ("fall", "rise"):
            lift = max(0.0, self.ground - y)
            if thing.mover == "fly" or self._floats:
                y += 0.012 * self.unit * swing
        elif self._floats and motion != "fall":
            y += 0.006 * self.unit * swing
            angle += 0.035 * swing
        if walking and thing.mover == "walk":
            step = np.sin(2 * np.pi * (1.7 * self._pace * seconds + self._phase))
            angle += 0.06 * float(step)
            y -= 0.02 * self.unit * abs(float(step))
        if thing.kind in ("rocket",) and walking:
            angle += 0.5 * facing
        if walking and thing.kind in ROUND and thing.kind != "ball":
            angle += facing * way / self.radius  # the painted ball rolls by itself
        shown = lift if self._shaded else -1.0
        return Pose(x, y, scale, squash, angle, facing, shown, way / self.radius, wraps)

    def _bounced(self, seconds: float) -> tuple[float, float, float]:
        """Row of the foot, height above the ground and squash of something that bounces."""
        if self.thing.mover == "swim":
            swing = float(np.sin(2 * np.pi * (0.7 * self._pace * seconds + self._phase)))
            return self.y + 0.03 * self.unit * swing, 0.0, 0.0
        top = min(self._hop * self.unit, self.y - 2.05 * self.radius)
        top = max(top, 0.06 * self.unit)
        period = 0.5 + 1.3 * float(np.sqrt(top / self.unit))
        contact = 0.16
        at = ((seconds / period + self._phase) % 1) * period
        if at < contact:
            squash = 0.24 * float(np.sin(np.pi * at / contact))
            return self.y, 0.0, squash
        t = (at - contact) / (period - contact)
        lift = 4 * top * t * (1 - t)
        stretch = -0.05 * abs(2 * t - 1)
        return self.y - lift, float(lift), float(stretch)

    def _fallen(self, seconds: float, drop: float) -> tuple[float, float]:
        """Pixels fallen of a drop, and the squash: it lands, rebounds a little and lies."""
        if self.thing.mover == "fly":
            return min(drop, 0.17 * self.unit * seconds), 0.0
        weight = 0.45 * self.unit
        first = float(np.sqrt(2 * drop / weight)) if drop > 0 else 0.0
        if seconds < first:
            return 0.5 * weight * seconds**2, 0.0
        after, speed = seconds - first, weight * first
        for part in (0.4, 0.16):
            speed *= part if part == 0.4 else 0.4
            contact, flight = 0.15, 2 * speed / weight
            if after < contact:
                return drop, 0.2 * part / 0.4 * float(np.sin(np.pi * after / contact))
            after -= contact
            if after < flight:
                return drop - (speed * after - 0.5 * weight * after**2), 0.0
            after -= flight
        return drop, 0.0


def _stride(scene: Scene) -> float:
    """Units a second that the things of a scene travel."""
    return float(np.random.default_rng((scene.seed, 77)).uniform(0.2, 0.36))


def view(scene: Scene, seconds: float, height: int, width: int, begin: View) -> View:
    """Where the camera is, `seconds` after its shot began where another one stood."""
    rng = np.random.default_rng((scene.seed, 55))
    unit = min(float(height), width / 1.25)
    speed = float(rng.uniform(0.09, 0.19)) * unit
    x, y, zoom, along = begin.x, begin.y, begin.zoom, begin.along
    if scene.camera in ("left", "right"):
        x += speed * seconds * (1 if scene.camera == "right" else -1)
    elif scene.camera in ("up", "down"):
        y += speed * seconds * (1 if scene.camera == "down" else -1)
    elif scene.camera in ("in", "out"):
        rate = float(np.exp(rng.uniform(0.07, 0.14) * seconds))
        zoom = min(ZOOM, zoom * rate) if scene.camera == "in" else max(1.0, zoom / rate)
    elif scene.camera == "follow":
        along += _stride(scene) * unit * seconds * (1 if scene.heading == "right" else -1)
    return View(x, y, zoom, along)


def first_view(scene: Scene) -> View:
    """Where the camera stands when a clip begins."""
    return View(zoom=ZOOM if scene.camera == "out" else 1.0)
