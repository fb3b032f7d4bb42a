"""Where the object is and how far the camera has followed it, for any frame of any length.

The camera follows an object that moves sideways, so it stays in the middle and the world scrolls.
Rise and fall leave the picture and come back from the other side before the object has gone.
Every motion is a function of the clock alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .actors import ACTORS
from .canvas import Frame
from .scene import Scene

RADIUS = 0.2
"""Radius of an object, in units of the frame."""

_GROUND_LINE = 0.87
_CRUISE = 0.37
_SCROLL_SPEED = 0.3
_LOOP_SECONDS = 8.0
_HOP = {"ball": (0.42, 1.5), "car": (0.16, 1.25)}


@dataclass(frozen=True)
class Pose:
    """The object at one moment: centre height and scroll in pixels, tilt in radians."""

    height: float
    scroll: float
    tilt: float
    lift: float
    """How high above its place on the ground, in pixels (for the shadow)."""


def loop_span(frame: Frame) -> float:
    """Pixels after which a rising or falling object comes back: it is never fully out of sight."""
    return frame.height + 0.8 * RADIUS * frame.unit


def pose(scene: Scene, frame: Frame, clock: float) -> Pose:
    """The pose of the scene's object `clock` seconds after the beginning."""
    unit, radius = frame.unit, RADIUS * frame.unit
    rest = _GROUND_LINE * frame.height - ACTORS[scene.object].foot * radius
    cruise = _CRUISE * frame.height
    swing = float(np.sin(clock * 2 * np.pi * 0.4))
    airborne = scene.object in ("balloon", "bird") or scene.motion in ("rise", "fall")
    airborne |= scene.object == "rocket" and scene.motion in ("left", "right")
    height, tilt, scroll = (cruise if airborne else rest), 0.0, 0.0
    if scene.motion in ("rise", "fall"):
        span = loop_span(frame)
        travelled = clock / _LOOP_SECONDS * span
        start = 0.7 if scene.motion == "rise" else 0.25
        y = start * frame.height + (-travelled if scene.motion == "rise" else travelled)
        edge = 0.4 * radius
        height = (y + edge) % span - edge
    elif scene.motion == "bounce":
        if scene.object == "boat":
            height += 0.035 * unit * float(np.sin(clock * 2 * np.pi * 0.6))
            tilt = 0.16 * float(np.sin(clock * 2 * np.pi * 0.6 + 1.2))
        else:
            top, period = _HOP[scene.object]
            phase = clock / period % 1
            height -= top * unit * 4 * phase * (1 - phase)
    else:
        if airborne:
            height += 0.012 * unit * swing
        if scene.motion in ("left", "right"):
            scroll = (1 if scene.motion == "right" else -1) * clock * _SCROLL_SPEED * unit
            if scene.object == "rocket":
                tilt = 0.45
    if scene.object == "boat" and scene.motion != "bounce":
        height += 0.006 * unit * swing
        tilt = 0.03 * swing
    return Pose(height, scroll, tilt, max(0.0, rest - height))
