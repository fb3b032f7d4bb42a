"""Scenes to pictures: `render` draws a clip, `render_switch` one whose scene changes on the way.

Pictures depend on the scene, the frame's index, the size and the seed alone, so any part of a clip
can be drawn by itself. The seed moves only what no caption speaks of, and little: where the object
stands sideways, and how far the world has scrolled.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from causvid.world.actors import ACTORS, PAINT, Act, Pen
from causvid.world.backdrop import backdrop
from causvid.world.canvas import Frame, Plane, grid, mix
from causvid.world.motion import GROUND_LINE, LOOPING, RADIUS, Pose, loop_span, pose
from causvid.world.scene import FPS, HEIGHT, WIDTH, Scene
from causvid.world.sky import Air
from causvid.world.weather import draw_weather

SWITCH_FRAMES = 8
"""How many frames a change of scene dissolves over."""

_GLIDE_SECONDS = 0.35


class _Entrance(NamedTuple):
    """How far a scene is displaced, in pixels, at the frame where it takes over."""

    frame: int = 0
    height: float = 0.0
    scroll: float = 0.0


_AT_ONCE = _Entrance()


def render(
    scene: Scene,
    *,
    frames: int,
    height: int = HEIGHT,
    width: int = WIDTH,
    fps: float = FPS,
    start: int = 0,
    seed: int = 0,
    appears: int = 0,
) -> NDArray[np.uint8]:
    """Draw `frames` frames of a scene from index `start` on.

    Args:
        appears: index of the first frame that has the object in it.

    Returns:
        uint8 `[frames, height, width, 3]`; a part of the same clip drawn from zero.

    Raises:
        ValueError: for sizes below 16 pixels, a negative start or length, or a rate not above 0.
    """
    if not fps > 0:
        raise ValueError(f"fps must be above 0, got {fps}")
    if frames < 0 or start < 0:
        raise ValueError(f"frames and start must not be negative, got {frames} and {start}")
    return _draw(scene, Frame(height, width), frames, start, seed, appears=appears, fps=fps)


def render_switch(
    first: Scene,
    then: Scene,
    *,
    at: int,
    frames: int,
    height: int = HEIGHT,
    width: int = WIDTH,
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
    if min(frames, start, at, dissolve) < 0:
        raise ValueError(
            "frames, start, at and dissolve must not be negative, got "
            f"{frames}, {start}, {at} and {dissolve}"
        )
    frame, dissolve = Frame(height, width), max(dissolve, 1)
    before, after = (pose(scene, frame, at / FPS) for scene in (first, then))
    entrance = _Entrance(at, before.height - after.height, before.scroll - after.scroll)
    old_frames = max(0, min(frames, at + dissolve - 1 - start))
    new_start = max(start, at)
    new_frames = max(0, start + frames - new_start)
    old = _draw(first, frame, old_frames, start, seed)
    new = _draw(then, frame, new_frames, new_start, seed, entrance)
    both = old_frames + new_frames - frames
    gone = np.arange(1, both + 1) + (new_start - at)  # frames of the change
    share = (gone / dissolve).astype(np.float32)[:, None, None, None]
    fading = old[old_frames - both :]
    mixed = np.rint(fading + share * (new[:both].astype(np.float32) - fading)).astype(np.uint8)
    return np.concatenate([old[: old_frames - both], mixed, new[both:]])


def _draw(
    scene: Scene,
    frame: Frame,
    frames: int,
    start: int,
    seed: int,
    entrance: _Entrance = _AT_ONCE,
    appears: int = 0,
    fps: float = FPS,
) -> NDArray[np.uint8]:
    place, scroll = np.random.default_rng(seed).uniform(-1, 1, 2).tolist()
    aside = 0.02 * place * frame.width
    world = backdrop(scene.ground, scene.time, scene.weather, frame)
    clip = np.empty((frames, frame.height, frame.width, 3), np.uint8)
    picture = np.empty((3, frame.height, frame.width), np.float32)
    for i in range(frames):
        clock = (start + i) / fps
        now = pose(scene, frame, clock)
        glide = float(np.exp((entrance.frame - start - i) / fps / _GLIDE_SECONDS))
        now = replace(
            now,
            height=now.height + entrance.height * glide,
            scroll=now.scroll + entrance.scroll,
        )
        camera = now.scroll + 0.06 * scroll * frame.unit
        world.paint(picture, camera, clock)
        if now.flying:
            world.paint_front(picture, camera, clock)
        if start + i >= appears:
            _draw_object(picture, scene, frame, now, clock, aside, world.air)
        if not now.flying:
            world.paint_front(picture, camera, clock)
        draw_weather(picture, world.air, frame, clock)
        np.clip(picture, 0, 1, out=picture)
        picture *= 255
        picture += 0.5
        clip[i] = picture.transpose(1, 2, 0)
    return clip


def _draw_object(
    picture: Plane, scene: Scene, frame: Frame, now: Pose, clock: float, aside: float, air: Air
) -> None:
    """Draw the object and its shadow, its centre `aside` pixels right of the middle."""
    actor, radius = ACTORS[scene.object], RADIUS * frame.unit
    centre = frame.width / 2 + aside
    _draw_shadow(picture, frame, centre, actor.half_width * radius, now.lift)
    # The object is lit more than the ground, so that its colour can be told at night.
    light = mix(air.light, (1.0, 1.0, 1.0), 0.72)
    facing = -1.0 if scene.motion == "left" else 1.0
    act = Act(clock, facing * now.scroll / radius, now.flying)
    gx, gy = grid(frame.height, frame.width)
    # Leaning objects need more room than upright ones.
    reach = radius * (1.25 if now.tilt else 1.0)
    left = max(0, int(centre - actor.half_width * reach))
    right = min(frame.width, int(centre + actor.half_width * reach) + 2)
    u = (gx[:, left:right] - centre) * (facing / radius)
    span = loop_span(frame)
    for y in (now.height, now.height - span, now.height + span):
        top = max(0, int(y - actor.top * reach))
        bottom = min(frame.height, int(y + actor.bottom * reach) + 2)
        if top < bottom:
            v = (gy[top:bottom] - y) * (1 / radius)
            pen = Pen(picture[:, top:bottom, left:right], u, v, 1 / radius, now.tilt, light)
            actor.paint(pen, PAINT[scene.colour], act)
        if scene.motion not in LOOPING:
            break


def _draw_shadow(
    picture: Plane, frame: Frame, centre: float, half_width: float, lift: float
) -> None:
    """Darken the ground under the object, less and narrower the higher it is."""
    away = min(1.0, lift / (0.5 * frame.unit))
    half_w, half_h = half_width * (0.95 - 0.3 * away), 0.032 * frame.unit
    line = GROUND_LINE * frame.height
    top, bottom = int(line - 2.2 * half_h), min(frame.height, int(line + 2.2 * half_h) + 1)
    left, right = max(0, int(centre - 1.5 * half_w)), min(frame.width, int(centre + 1.5 * half_w))
    gx, gy = grid(frame.height, frame.width)
    p = (gx[:, left:right] - centre) * (1 / half_w)
    q = (gy[top:bottom] - line) * (1 / half_h)
    depth = np.exp((-1.2) * p**4) * np.exp(-q * q)
    picture[:, top:bottom, left:right] *= 1 - (0.42 - 0.26 * away) * depth
