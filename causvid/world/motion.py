"""Where the object is and how far the camera has followed it, for any frame of any length.

The camera follows an object that moves sideways, so it stays in the middle and the world scrolls.
Rise and fall leave the picture and come back from the other side before the object has gone.
Every motion is a function of the clock alone.
"""

from dataclasses import dataclass

import numpy as np

from causvid.world.actors import ACTORS
from causvid.world.canvas import Frame
from causvid.world.scene import FPS, HEIGHT, WIDTH, Scene

RADIUS = 0.2
"""Radius of an object, in units of the frame."""

GROUND_LINE = 0.87
"""Where objects stand, as a fraction of the picture's height."""

_CRUISE = 0.37
_TRAVEL_SPEED = 0.36
_LOOP_SECONDS = 8.0

LOOPING = ("rise", "fall")
"""Motions that leave the picture and come back."""

_RISE_FROM, _FALL_FROM = 0.7, 0.25
_EDGE = 0.4
"""How far beyond the edge, in radii, the centre goes before the object comes back."""
_ROCKET_LEAN = 0.45
_HOP = {"ball": (0.42, 1.5), "car": (0.16, 1.25)}
"""Height in units and duration in seconds of a bounce."""


@dataclass(frozen=True)
class Pose:
    """The object at one moment."""

    height: float
    """Its centre, in pixels from the top."""
    lift: float
    """How high it is above its place on the ground, in pixels."""
    scroll: float
    """How far it has gone to the right, and the camera with it, in pixels."""
    tilt: float
    """Clockwise turn in radians, seen with its front to the right."""
    flying: bool
    """Whether a rocket's engine burns."""


def loop_span(frame: Frame) -> float:
    """Pixels after which a rising or falling object comes back: it is never fully out of sight."""
    return frame.height + 2 * _EDGE * RADIUS * frame.unit


def return_frame(scene: Scene, time: int, *, height: int = HEIGHT, width: int = WIDTH) -> int:
    """Index of the frame at which a rising or falling object comes back for the `time`-th time,
    from 1, while the last of it leaves on the other side.

    Raises:
        ValueError: if the object does neither, or `time` is below 1.
    """
    if time < 1:
        raise ValueError(f"an object comes back for the first time or a later one, got {time}")
    if scene.motion not in LOOPING:
        raise ValueError(f"what rises or falls comes back, not what does this: {scene.motion!r}")
    frame = Frame(height, width)
    span, edge = loop_span(frame), _EDGE * RADIUS * frame.unit
    if scene.motion == "rise":
        climbed = _RISE_FROM * height + edge
    else:
        climbed = span - edge - _FALL_FROM * height
    return round((climbed + (time - 1) * span) / span * _LOOP_SECONDS * FPS)


def pose(scene: Scene, frame: Frame, clock: float) -> Pose:
    """The pose of the scene's object `clock` seconds after the beginning."""
    unit, motion = frame.unit, scene.motion
    rest = GROUND_LINE * frame.height - ACTORS[scene.object].foot * RADIUS * unit
    # A slow swing for everything that hangs in the air or lies on water.
    swing = float(np.sin(clock * 2 * np.pi * 0.4))
    loops, travels = motion in LOOPING, motion in ("left", "right")
    flying = loops or scene.object in ("balloon", "bird") or (scene.object == "rocket" and travels)
    height = _CRUISE * frame.height + 0.012 * unit * swing if flying else rest
    tilt = 0.0
    if loops:
        climbed = clock / _LOOP_SECONDS * loop_span(frame)
        start = (_RISE_FROM if motion == "rise" else _FALL_FROM) * frame.height
        edge = _EDGE * RADIUS * unit
        height = start - climbed if motion == "rise" else start + climbed
        height = (height + edge) % loop_span(frame) - edge
    elif scene.object == "boat":
        height, tilt = rest + 0.006 * unit * swing, 0.03 * swing
        if motion == "bounce":
            phase = clock * 2 * np.pi * 0.6
            height, tilt = rest + 0.035 * unit * np.sin(phase), 0.16 * np.sin(phase + 1.2)
    elif motion == "bounce":
        top, period = _HOP[scene.object]
        phase = clock / period % 1
        height = rest - top * unit * 4 * phase * (1 - phase)
    elif travels and scene.object == "rocket":
        tilt = _ROCKET_LEAN
    scroll = {"left": -1.0, "right": 1.0}.get(motion, 0.0) * clock * _TRAVEL_SPEED * unit
    return Pose(float(height), max(0.0, rest - float(height)), scroll, float(tilt), flying)
