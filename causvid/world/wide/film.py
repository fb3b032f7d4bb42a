"""Scenes to pictures: `render` draws a clip, `film` one whose scene changes, with its truth.

Every picture depends on the scenes, its index and its size alone, so that any part of a clip can be
drawn by itself, in any process. Where a scene changes, what stays goes on from where it was, time
of day and weather change over `CHANGE` frames, another thing grows where the old one shrank, and
another background is cut to: no frame is a mixture of two scenes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from causvid.world.wide import light
from causvid.world.wide.backdrop import Backdrop, backdrop, period
from causvid.world.wide.cast import Cast, Drawn, Seen, product, stamp
from causvid.world.wide.motion import ZOOM, Pose, View, first_view, view
from causvid.world.wide.scene import Scene

FPS = 16
HEIGHT, WIDTH = 192, 320
"""Pixels of a landscape clip; portrait is 320x192, square 240x240 (height by width)."""

CHANGE = 10
"""Frames over which time of day, weather and colours change."""

_SWAP = 5
"""Frames in which a thing shrinks to nothing, and in which another one grows."""
_GLIDE_SECONDS = 0.35

_BILINEAR = Image.Resampling.BILINEAR


class Shot(NamedTuple):
    """What is shown from frame `frame` on, and what may be said of it."""

    frame: int
    scene: Scene


@dataclass(frozen=True)
class Truth:
    """What is where, for every frame of a clip; things are numbered as in their scene.

    Attributes:
        masks: uint8 `[t, 2, h, w]`, how much of each pixel shows each thing, 0 to 255.
        visible: float32 `[t, 2]`, the share of each thing that is seen: inside the picture and not
            behind something.
        boxes: float32 `[t, 2, 4]`, left, top, right, bottom of what is seen, in pixels; zeros
            where nothing is.
        centres: float32 `[t, 2, 2]`, x and y of the middle of each thing, seen or not.
        counts: int64 `[t]`, things of which at least a fifth is seen.
        cameras: float32 `[t, 3]`, pixels the picture has moved to the left and up, and its zoom;
            pixels are those of the farthest ground (of all of it, where no camera follows).
        shots: int64 `[t]`, the shot that each frame belongs to.
    """

    masks: NDArray[np.uint8]
    visible: NDArray[np.float32]
    boxes: NDArray[np.float32]
    centres: NDArray[np.float32]
    counts: NDArray[np.int64]
    cameras: NDArray[np.float32]
    shots: NDArray[np.int64]


def render(
    scene: Scene, *, frames: int, height: int = HEIGHT, width: int = WIDTH, start: int = 0
) -> NDArray[np.uint8]:
    """Draw `frames` frames of a scene from index `start` on.

    Returns:
        uint8 `[frames, height, width, 3]`; a part of the same clip drawn from zero.

    Raises:
        ValueError: for sides below 32 pixels, a negative start or length.
    """
    return film([Shot(0, scene)], frames=frames, height=height, width=width, start=start)


def film(
    shots: Sequence[Shot],
    *,
    frames: int,
    height: int = HEIGHT,
    width: int = WIDTH,
    start: int = 0,
) -> NDArray[np.uint8]:
    """Draw a clip of shots, the first of which begins at frame 0; see `render`."""
    reel = _Reel(shots, height, width)
    _check(frames, start, height, width)
    clip = np.empty((frames, height, width, 3), np.uint8)
    for i in range(frames):
        clip[i] = np.asarray(reel.picture(start + i))
    return clip


def film_with_truth(
    shots: Sequence[Shot],
    *,
    frames: int,
    height: int = HEIGHT,
    width: int = WIDTH,
    start: int = 0,
) -> tuple[NDArray[np.uint8], Truth]:
    """The clip of `film`, and what is where in it."""
    reel = _Reel(shots, height, width)
    _check(frames, start, height, width)
    clip = np.empty((frames, height, width, 3), np.uint8)
    masks = np.zeros((frames, 2, height, width), np.uint8)
    whole = np.zeros((frames, 2), np.float32)
    centres = np.zeros((frames, 2, 2), np.float32)
    cameras, numbers = np.zeros((frames, 3), np.float32), np.zeros(frames, np.int64)
    for i in range(frames):
        seen: list[Seen] = []
        clip[i] = np.asarray(reel.picture(start + i, seen))
        numbers[i], camera = reel.number(start + i), reel.camera(start + i)
        cameras[i] = camera.x + camera.along, camera.y, camera.zoom
        for item in seen:
            masks[i, item.which] = np.maximum(masks[i, item.which], np.asarray(item.mask))
            whole[i, item.which] = max(whole[i, item.which], item.area)
            centres[i, item.which] = item.centre
    area = masks.sum((2, 3), dtype=np.int64).astype(np.float32)
    visible = np.where(whole > 0, area / np.maximum(whole, 1), 0).clip(0, 1).astype(np.float32)
    boxes = np.zeros((frames, 2, 4), np.float32)
    for i, n in np.argwhere(area > 0):
        box = Image.fromarray(masks[i, n]).getbbox()
        boxes[i, n] = box or (0, 0, 0, 0)
    counts = (visible >= 0.2).sum(1)
    return clip, Truth(masks, visible, boxes, centres, counts, cameras, numbers)


def _check(frames: int, start: int, height: int, width: int) -> None:
    if frames < 0 or start < 0:
        raise ValueError(f"frames and start must not be negative, got {frames} and {start}")
    if height < 32 or width < 32:
        raise ValueError(f"a picture must be at least 32x32, got {height}x{width}")


class _Reel:
    """The shots of a clip at a size."""

    def __init__(self, shots: Sequence[Shot], height: int, width: int) -> None:
        if not shots or shots[0].frame != 0:
            raise ValueError("a clip needs shots, the first of which begins at frame 0")
        self._shots = list(shots)
        self._height, self._width = height, width
        zooms = any(shot.scene.camera in ("in", "out") for shot in shots)
        fine = 1.5 if zooms else 1.0
        self._backdrops: list[Backdrop] = []
        self._casts: list[Cast] = []
        for _, scene in self._shots:
            bare = replace(scene, things=(), camera="still", cover="")
            self._backdrops.append(backdrop(bare, height, width, fine))
            ground = self._backdrops[-1].ground
            self._casts.append(Cast(scene, height, width, ground, ZOOM if zooms else 1.0))
        self._begins = [first_view(self._shots[0].scene)]
        for number, (frame, _) in enumerate(self._shots[1:], start=1):
            self._begins.append(self._camera(number - 1, frame))

    def number(self, frame: int) -> int:
        """The shot that a frame belongs to."""
        return max(n for n, shot in enumerate(self._shots) if shot.frame <= frame)

    def camera(self, frame: int) -> View:
        return self._camera(self.number(frame), frame)

    def _camera(self, number: int, frame: int) -> View:
        first, scene = self._shots[number]
        seconds = (frame - first) / FPS
        return view(scene, seconds, self._height, self._width, self._begins[number])

    def picture(self, frame: int, seen: list[Seen] | None = None) -> Image.Image:
        number = self.number(frame)
        first, scene = self._shots[number]
        since, camera = frame - first, self._camera(number, frame)
        picture = self._backdrops[number].picture(camera)
        fades = number > 0 and since < CHANGE
        if fades and self._shots[number - 1].scene.background == scene.background:
            old = self._backdrops[number - 1]
            if old is not self._backdrops[number]:
                picture = Image.blend(old.picture(camera), picture, (since + 1) / CHANGE)
        drawn = []
        for index in range(2):
            drawn += self._things(number, index, frame, camera)
        # What is lower stands nearer.
        drawn.sort(key=lambda item: item.pose.y)
        for item in drawn:
            self._shade(picture, item, camera)
        marks: list[Seen] = []
        for item in drawn:
            self._put(picture, item, camera, None if seen is None else marks)
        cover = self._casts[number].cover
        if cover is not None:
            self._cover(picture, cover, camera, marks)
        self._weather(picture, number, frame)
        if seen is not None:
            seen.extend(marks)
        return picture

    def _pose(self, number: int, index: int, frame: int) -> Pose:
        """The pose of a thing in a shot; at the shot's beginning it goes on from the last one's."""
        if number and self._goes_on(number, index):
            return self._pose(number - 1, index, frame)
        first, scene = self._shots[number]
        body = self._casts[number].bodies[index]
        pose = body.pose((frame - first) / FPS, scene.camera)
        if number and self._stays(number, index):
            glide = float(np.exp((first - frame) / FPS / _GLIDE_SECONDS))
            was = self._pose(number - 1, index, first)
            now = body.pose(0.0, scene.camera)
            sizes = self._casts[number - 1].bodies[index].radius / body.radius
            pose = replace(
                pose,
                x=pose.x + (was.x - now.x) * glide,
                y=pose.y + (was.y - now.y) * glide,
                scale=pose.scale + (was.scale * sizes - now.scale) * glide,
                lift=pose.lift + (was.lift - now.lift) * glide,
            )
        return pose

    def _stays(self, number: int, index: int) -> bool:
        """Whether a thing is the one that stood there in the shot before."""
        old, new = self._shots[number - 1].scene.things, self._shots[number].scene.things
        return index < len(old) and index < len(new) and old[index].kind == new[index].kind

    def _goes_on(self, number: int, index: int) -> bool:
        """Whether a thing does just what it did in the shot before."""
        if not self._stays(number, index):
            return False
        old, new = self._shots[number - 1].scene, self._shots[number].scene
        grounds = [self._backdrops[n].ground for n in (number - 1, number)]
        same = replace(old.things[index], colour="") == replace(new.things[index], colour="")
        followed = [scene.camera == "follow" for scene in (old, new)]
        return same and grounds[0] == grounds[1] and followed[0] == followed[1]

    def _things(self, number: int, index: int, frame: int, camera: View) -> list[Drawn]:
        """What is to be drawn of thing `index`: itself, and the one that it takes the place of."""
        first, scene = self._shots[number]
        since, drawn = frame - first, []
        changes = number > 0 and since < 2 * _SWAP and not self._stays(number, index)
        if changes and index < len(self._shots[number - 1].scene.things) and since < _SWAP:
            drawn.append(self._drawn(number - 1, index, frame, 1 - (since + 1) / (_SWAP + 1)))
        if index < len(scene.things):
            size = (since + 1 - _SWAP) / _SWAP if changes else 1.0
            if size > 0:
                drawn.append(self._drawn(number, index, frame, min(1.0, size)))
        return drawn

    def _drawn(self, number: int, index: int, frame: int, size: float) -> Drawn:
        pose = self._pose(number, index, frame)
        cast = self._casts[number]
        picture = cast.picture(index, frame / FPS, pose.way)
        since = frame - self._shots[number].frame
        if number and since < CHANGE and self._stays(number, index):
            old = self._casts[number - 1].picture(index, frame / FPS, pose.way)
            if old is not picture:
                old = old if old.size == picture.size else old.resize(picture.size, _BILINEAR)
                picture = Image.blend(old, picture, (since + 1) / CHANGE)
        return Drawn(index, cast.bodies[index], pose, picture, size)

    def _shade(self, picture: Image.Image, item: Drawn, camera: View) -> None:
        """Darken the ground under a thing, less the higher it is."""
        pose, body = item.pose, item.body
        if pose.lift < 0:
            return
        away = min(1.0, pose.lift / (0.5 * body.unit))
        scale = pose.scale * item.size * camera.zoom
        w = int(1.9 * body.half * scale * (1 - 0.35 * away) * (1 + pose.squash)) // 2 * 2
        h = int(0.15 * body.radius * scale + 0.03 * body.unit * camera.zoom) // 2 * 2
        if w < 4 or h < 2:
            return
        x, y = self._screen(pose.x, pose.y + pose.lift, camera)
        depth = int(100 * (1 - 0.6 * away))
        mask = light.shadow(w, h).point([v * depth // 255 for v in range(256)])
        picture.paste((8, 10, 24), (round(x - w / 2), round(y - h / 2)), mask)

    def _screen(self, x: float, y: float, camera: View) -> tuple[float, float]:
        """Where a place of the still picture is seen. Things stand in the picture that a panning
        camera leaves; one that follows goes along with them."""
        dx, dy = x - camera.x - self._width / 2, y - camera.y - self._height / 2
        if camera.x:
            span = period(self._width)
            dx = (dx + span / 2) % span - span / 2
        if camera.y:
            dy = (dy + self._height / 2) % self._height - self._height / 2
        return self._width / 2 + dx * camera.zoom, self._height / 2 + dy * camera.zoom

    def _put(
        self, picture: Image.Image, item: Drawn, camera: View, marks: list[Seen] | None
    ) -> None:
        pose, body = item.pose, item.body
        foot_x, foot_y = self._screen(pose.x, pose.y, camera)
        scale = pose.scale * item.size * camera.zoom
        wide, tall = scale * (1 + pose.squash), scale * (1 - pose.squash)
        x, y = foot_x, foot_y - body.foot * tall
        aside = pose.wraps or (period(self._width) if camera.x else 0.0)
        above = self._height if camera.y else 0.0
        for dx in (0.0, -aside, aside)[: 3 if aside else 1]:
            for dy in (0.0, -above, above)[: 3 if above else 1]:
                at = x + dx * camera.zoom, y + dy * camera.zoom
                stamp(picture, item, *at, wide, tall, marks)

    def _cover(
        self,
        picture: Image.Image,
        cover: tuple[Image.Image, float, float],
        camera: View,
        marks: list[Seen],
    ) -> None:
        image, left, top = cover
        at = round(left), round(top)
        picture.paste(image, at, image)
        inverse = image.getchannel("A").point([255 - v for v in range(256)])
        for mark in marks:
            hidden = Image.new("L", image.size)
            hidden.paste(mark.mask.crop((*at, at[0] + image.width, at[1] + image.height)))
            mark.mask.paste(product(hidden, inverse), at)

    def _weather(self, picture: Image.Image, number: int, frame: int) -> None:
        first, scene = self._shots[number]
        old = self._shots[number - 1].scene.weather if number else scene.weather
        began = first / FPS if old != scene.weather else 0.0
        if number and old != scene.weather and old != "clear":
            ended = self._casts[number - 1].falling
            ended.draw(picture, frame / FPS, 0.0, first / FPS)
        self._casts[number].falling.draw(picture, frame / FPS, began)
