"""Scenes to pictures: `render` draws a clip, `render_switch` one whose scene changes on the way.

Pictures depend on the scene, the frame's index, the size and the seed alone, so any part of a clip
can be drawn by itself. The seed moves only what no caption speaks of, and little: where the object
stands sideways, how far the world has scrolled, and the drops and flakes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .actors import ACTORS, PAINT, Pen
from .backdrop import backdrop, light_of
from .canvas import Frame, Plane, blend, cover, grid, lit, mix
from .motion import RADIUS, Pose, loop_span, pose
from .scene import Scene

HEIGHT, WIDTH, FPS = 128, 224, 16
SWITCH_FRAMES = 8
"""How many frames a change of scene dissolves over."""


@dataclass(frozen=True)
class _Chance:
    """What the seed decides."""

    place: float
    scroll: float
    clouds: float
    drops: NDArray[np.float64]

    @classmethod
    def of(cls, seed: int) -> _Chance:
        rng = np.random.default_rng(seed)
        place, scroll, clouds = rng.uniform(-1, 1, 3)
        return cls(float(place) * 0.03, float(scroll) * 0.06, float(clouds), rng.random((3, 20)))


@dataclass(frozen=True)
class _Entrance:
    """How far a scene is displaced, in pixels, at the frame where it takes over."""

    frame: int
    height: float = 0.0
    scroll: float = 0.0


def render(
    scene: Scene,
    *,
    frames: int,
    height: int = HEIGHT,
    width: int = WIDTH,
    fps: float = FPS,
    start: int = 0,
    seed: int = 0,
) -> NDArray[np.uint8]:
    """Draw `frames` frames of a scene from index `start` on.

    Returns:
        uint8 `[frames, height, width, 3]`; a part of the same clip drawn from zero.

    Raises:
        ValueError: for sizes below 16 pixels, a negative start or length, or a rate not above 0.
    """
    _check(frames, height, width, fps, start)
    return _draw(scene, _Entrance(0), frames, Frame(height, width), fps, start, seed)


def render_switch(
    first: Scene,
    then: Scene,
    *,
    at: int,
    frames: int,
    height: int = HEIGHT,
    width: int = WIDTH,
    fps: float = FPS,
    start: int = 0,
    seed: int = 0,
    dissolve: int = SWITCH_FRAMES,
) -> NDArray[np.uint8]:
    """Draw a clip that shows `first` before frame `at` and changes to `then` from there on.

    The change dissolves over `dissolve` frames (0 or 1 cuts), the last of which shows `then`
    alone. The world does not jump: it scrolls on from where it was, and the object glides from
    the height it had.

    Returns:
        uint8 `[frames, height, width, 3]`.

    Raises:
        ValueError: as `render`, or if `at` or `dissolve` is negative.
    """
    _check(frames, height, width, fps, start)
    if at < 0 or dissolve < 0:
        raise ValueError(f"at and dissolve must not be negative, got {at} and {dissolve}")
    frame = Frame(height, width)
    before, after = (pose(scene, frame, at / fps) for scene in (first, then))
    entrance = _Entrance(at, before.height - after.height, before.scroll - after.scroll)
    lead = max(0, min(frames, at + dissolve - 1 - start))
    tail_start = max(start, at)
    tail = frames - (tail_start - start)
    clip = np.empty((frames, height, width, 3), np.uint8)
    clip[:lead] = _draw(first, _Entrance(0), lead, frame, fps, start, seed)
    if tail <= 0:
        return clip
    new = _draw(then, entrance, tail, frame, fps, tail_start, seed)
    both = max(0, lead - (tail_start - start))
    clip[frames - tail + both :] = new[both:]
    if both:
        index = np.arange(tail_start, tail_start + both)
        share = ((index - at + 1) / dissolve).astype(np.float32)[:, None, None, None]
        old = clip[frames - tail : frames - tail + both]
        old[:] = np.rint(old + share * (new[:both].astype(np.float32) - old)).astype(np.uint8)
    return clip


def _check(frames: int, height: int, width: int, fps: float, start: int) -> None:
    if height < 16 or width < 16:
        raise ValueError(f"a picture must be at least 16x16, got {height}x{width}")
    if frames < 0 or start < 0:
        raise ValueError(f"frames and start must not be negative, got {frames} and {start}")
    if not fps > 0:
        raise ValueError(f"fps must be above 0, got {fps}")


def _draw(
    scene: Scene,
    entrance: _Entrance,
    frames: int,
    frame: Frame,
    fps: float,
    start: int,
    seed: int,
) -> NDArray[np.uint8]:
    chance = _Chance.of(seed)
    world = backdrop(scene.ground, scene.time, scene.weather, frame.height, frame.width)
    clip = np.empty((frames, frame.height, frame.width, 3), np.uint8)
    picture = np.empty((3, frame.height, frame.width), np.float32)
    for i in range(frames):
        clock = (start + i) / fps
        now = pose(scene, frame, clock)
        fading = float(np.exp(-(start + i - entrance.frame) / fps / 0.35))
        now = Pose(
            now.height + entrance.height * fading, now.scroll + entrance.scroll, now.tilt, now.lift
        )
        scroll = now.scroll + chance.scroll * frame.unit
        world.paint(picture, scroll, clock)
        _draw_actor(picture, scene, frame, now, clock, chance)
        world.paint_front(picture, scroll, clock)
        if scene.weather != "clear":
            _draw_weather(picture, scene, frame, clock, chance)
        np.clip(picture, 0, 1, out=picture)
        picture *= 255
        picture += 0.5
        clip[i] = picture.transpose(1, 2, 0)
    return clip


def _draw_actor(
    picture: Plane, scene: Scene, frame: Frame, now: Pose, clock: float, chance: _Chance
) -> None:
    radius = RADIUS * frame.unit
    centre = frame.width / 2 + chance.place * frame.width
    _draw_shadow(picture, scene, frame, now, centre)
    light = light_of(scene.time, scene.weather)
    # The object is lit more than the ground, so that its colour can be told at night.
    light = mix(light, (1.0, 1.0, 1.0), 0.5)
    actor = ACTORS[scene.object]
    looping = scene.motion in ("rise", "fall")
    shifts = (0.0, -loop_span(frame), loop_span(frame)) if looping else (0.0,)
    for shift in shifts:
        y = now.height + shift
        reach = 1.0 + 0.25 * (now.tilt != 0)
        top = max(0, int(y - actor.top * reach * radius))
        bottom = min(frame.height, int(y + actor.bottom * reach * radius) + 2)
        left = max(0, int(centre - actor.half_width * reach * radius))
        right = min(frame.width, int(centre + actor.half_width * reach * radius) + 2)
        if top >= bottom or left >= right:
            continue
        gx, gy = grid(frame.height, frame.width)
        facing = -1.0 if scene.motion == "left" else 1.0
        u = (gx[:, left:right] - np.float32(centre)) * np.float32(facing / radius)
        v = (gy[top:bottom] - np.float32(y)) * np.float32(1 / radius)
        pen = Pen(picture[:, top:bottom, left:right], u, v, 1 / radius, now.tilt, light)
        moving = scene.motion not in ("still", "bounce")
        actor.paint(pen, PAINT[scene.colour], clock, moving)


def _draw_shadow(picture: Plane, scene: Scene, frame: Frame, now: Pose, centre: float) -> None:
    radius = RADIUS * frame.unit
    actor = ACTORS[scene.object]
    line = 0.87 * frame.height
    away = min(1.0, now.lift / (2.5 * radius))
    half_w = actor.half_width * radius * (0.95 - 0.3 * away)
    half_h = 0.16 * radius
    top, bottom = int(line - 2.2 * half_h), min(frame.height, int(line + 2.2 * half_h) + 1)
    left, right = max(0, int(centre - 1.5 * half_w)), min(frame.width, int(centre + 1.5 * half_w))
    gx, gy = grid(frame.height, frame.width)
    p = (gx[:, left:right] - np.float32(centre)) * np.float32(1 / half_w)
    q = (gy[top:bottom] - np.float32(line)) * np.float32(1 / half_h)
    depth = np.exp(-(p * p) * (p * p) * 1.2) * np.exp(-q * q)
    picture[:, top:bottom, left:right] *= 1 - np.float32(0.42 - 0.26 * away) * depth


@lru_cache(maxsize=64)
def _sprite(kind: str, size: float, unit: float, px: int, py: int) -> Plane:
    """Coverage of a flake or drop whose centre lies (px, py) quarter pixels right and down."""
    if kind == "flake":
        radius = max(0.9, size * unit)
        half_w = half_h = int(np.ceil(1.6 * radius)) + 1
    else:
        radius = max(0.8, 0.0075 * unit)
        half_w, half_h = int(np.ceil(0.02 * unit)) + 2, int(np.ceil(0.05 * unit)) + 2
    x = np.arange(-half_w, half_w + 1, dtype=np.float32)[None] + 0.5 - (px + 0.5) / 4
    y = np.arange(-half_h, half_h + 1, dtype=np.float32)[:, None] + 0.5 - (py + 0.5) / 4
    if kind == "flake":
        return np.clip(1.15 - np.hypot(x, y) / np.float32(radius), 0, 1) ** 0.8
    along = np.clip(y, -0.045 * unit, 0.045 * unit)
    fade = np.clip(0.65 + along / np.float32(0.13 * unit), 0, 1)
    return cover(np.hypot(x + along * 0.25, y - along) - np.float32(radius)) * fade


def _draw_weather(
    picture: Plane, scene: Scene, frame: Frame, clock: float, chance: _Chance
) -> None:
    unit, snow = frame.unit, scene.weather == "snowfall"
    count = 18 if snow else 16
    light = light_of(scene.time, scene.weather)
    white = mix(lit((1.0, 1.0, 1.0), light), (1.0, 1.0, 1.0), 0.6 if snow else 0.35)
    span_y, span_x = frame.height + 0.12 * unit, frame.width + 0.12 * unit
    for i in range(count):
        size = (0.017, 0.022, 0.028)[i % 3]
        fall = (0.16 + 0.05 * (i % 3)) if snow else 1.0
        x = ((i + 0.7 * chance.drops[0, i]) / count) * span_x
        y = (chance.drops[1, i] + i * 0.61803) % 1 * span_y + clock * fall * frame.height
        if snow:
            x += 0.03 * unit * np.sin(clock * 1.6 + 6.3 * chance.drops[2, i])
        else:
            x -= 0.25 * clock * fall * frame.height
        x, y = x % span_x - 0.06 * unit, y % span_y - 0.06 * unit
        column_, row = int(np.floor(x)), int(np.floor(y))
        sprite = _sprite(
            "flake" if snow else "drop", size, unit, int((x - column_) * 4), int((y - row) * 4)
        )
        half_h, half_w = sprite.shape[0] // 2, sprite.shape[1] // 2
        top, left = row - half_h, column_ - half_w
        y0, x0 = max(0, top), max(0, left)
        y1 = min(frame.height, top + sprite.shape[0])
        x1 = min(frame.width, left + sprite.shape[1])
        if y0 < y1 and x0 < x1:
            coverage = sprite[y0 - top : y1 - top, x0 - left : x1 - left]
            blend(picture[:, y0:y1, x0:x1], coverage * np.float32(0.92 if snow else 0.6), white)
