"""Scenes to pictures: `render` draws a clip, `film` one whose scene changes, with its truth.

Every picture depends on the scenes, its index and its size alone, so that any part of a clip can be
drawn by itself, in any process. Where a scene changes, what stays goes on from where it was, time
of day and weather change over `CHANGE` frames, another thing grows where the old one shrank, and
another background is cut to: no frame is a mixture of two scenes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from causvid.world.wide import light, places
from causvid.world.wide.motion import ZOOM, Body, Pose, View, first_view, view
from causvid.world.wide.scene import Scene
from causvid.world.wide.sprites import look
from causvid.world.wide.textures import TEXTURES

FPS = 16
HEIGHT, WIDTH = 192, 320
"""Pixels of a landscape clip; portrait is 320x192, square 240x240 (height by width)."""

CHANGE = 10
"""Frames over which time of day, weather and colours change."""

_SWAP = 5
"""Frames in which a thing shrinks to nothing, and in which another one grows."""
_GLIDE_SECONDS = 0.35
_PERIOD = 1.5
"""Widths after which a background repeats."""
_FLOOR = 0.5
"""Where things can stand in a picture without a horizon, as a fraction of its height."""
_EDGE = 2
"""Empty pixels around a thing's picture."""

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
        seen: list[_Seen] = []
        clip[i] = np.asarray(reel.picture(start + i, seen))
        numbers[i], camera = reel.number(start + i), reel.camera(start + i)
        cameras[i] = camera.x + camera.along, camera.y, camera.zoom
        for item in seen:
            masks[i, item.index] = np.maximum(masks[i, item.index], np.asarray(item.mask))
            whole[i, item.index] = max(whole[i, item.index], item.area)
            centres[i, item.index] = item.centre
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


class _Seen(NamedTuple):
    index: int
    mask: Image.Image
    area: float
    centre: tuple[float, float]


class _Backdrop:
    """A background at a size, in the light of its time and weather."""

    def __init__(self, scene: Scene, height: int, width: int, fine: float) -> None:
        self._height, self._width, self._fine = height, width, fine
        period = 4 * round(width * _PERIOD / 4)
        w, h = round(period * fine), round(height * fine)
        rng = np.random.default_rng((scene.seed, 11))
        if scene.named:
            place = places.paint(scene.background, rng, w, h, scene.time)
            self.ground, layers = place.ground, place.layers
        else:
            picture = light.at(TEXTURES[scene.background](rng, w, h), scene.time)
            self.ground, layers = _FLOOR, (places.Layer(picture, 0, 1.0),)
        self._layers = [
            places.Layer(light.under(layer.picture, scene.weather), layer.top, layer.pace)
            for layer in layers
        ]
        self._period, self._size = period, (w, h)
        self._flat = self._layers[0].picture
        if len(self._layers) > 1:
            self._flat = self._flat.copy()
            for layer in self._layers[1:]:
                self._flat.paste(layer.picture, (0, layer.top), layer.picture)
        self._wide: dict[int, Image.Image] = {}
        self._last: tuple[View, Image.Image] | None = None

    def picture(self, camera: View) -> Image.Image:
        """What the camera sees, a new RGB picture."""
        if self._last is None or self._last[0] != camera:
            self._last = camera, self._drawn(camera)
        return self._last[1].copy()

    def _drawn(self, camera: View) -> Image.Image:
        if not camera.along or len(self._layers) == 1:
            return self._cut(-1, self._flat, camera.x + camera.along, camera)
        picture = self._cut(0, self._layers[0].picture, self._away(self._layers[0], camera), camera)
        for number, layer in enumerate(self._layers[1:], start=1):
            part = self._cut(number, layer.picture, self._away(layer, camera), camera)
            picture.paste(part, (0, round(layer.top / self._fine)), part)
        return picture

    def _away(self, layer: places.Layer, camera: View) -> float:
        return camera.x + camera.along * layer.pace

    def _cut(self, number: int, picture: Image.Image, x: float, camera: View) -> Image.Image:
        """The part of a repeating picture that lies `x` pixels to the right."""
        f, (w, h) = self._fine, picture.size
        if number not in self._wide:
            self._wide[number] = _repeated(picture, self._width, f, number == -1)
        whole = self._wide[number]
        if number != -1:
            left = x * f % w
            size = (self._width, round(h / f))
            return whole.resize(size, _BILINEAR, (left, 0, left + self._width * f, h))
        wide, tall = self._width * f / camera.zoom, h / camera.zoom
        left = (x * f + (self._width * f - wide) / 2) % w
        top = (camera.y * f + (h - tall) / 2) % h
        box = (left, top, left + wide, top + tall)
        if f == 1 and camera.zoom == 1 and not left % 1 and not top % 1:
            return whole.crop((int(left), int(top), int(left + wide), int(top + tall)))
        return whole.resize((self._width, round(h / f)), _BILINEAR, box)


def _repeated(picture: Image.Image, width: int, fine: float, down: bool) -> Image.Image:
    """A picture that repeats, long enough to be cut anywhere."""
    w, h = picture.size
    wide = w + round(width * fine) + 1
    image = Image.new(picture.mode, (wide, 2 * h if down else h))
    for y in range(0, image.height, h):
        image.paste(picture, (0, y))
        image.paste(picture.crop((0, 0, wide - w, h)), (w, y))
    return image


class _Cast:
    """The looks of a scene's things, its cover and what falls, at a size."""

    def __init__(self, scene: Scene, height: int, width: int, ground: float | None, zoom: float):
        self.scene = scene
        self.bodies = [
            Body(scene, index, height, width, ground) for index in range(len(scene.things))
        ]
        self._looks = [
            look(
                body.thing.kind,
                body.thing.colour,
                body.radius * body.largest * zoom,
                np.random.default_rng((scene.seed, 202, index)),
            )
            for index, body in enumerate(self.bodies)
        ]
        self._lit: dict[int, tuple[Image.Image, Image.Image]] = {}
        rng = np.random.default_rng((scene.seed, 33))
        self.falling = light.Falling(scene.weather, scene.time, rng, width, height)
        self.cover: tuple[Image.Image, float, float] | None = None
        if scene.cover:
            body = next(b for b in self.bodies if b.thing.motion == "behind")
            picture = _cover(scene.cover, body, np.random.default_rng((scene.seed, 44)))
            picture = light.under(light.at(picture, scene.time), scene.weather)
            bottom = body.y + 0.05 * body.unit
            self.cover = picture, body.x - picture.width / 2, bottom - picture.height

    def picture(self, index: int, seconds: float, way: float) -> Image.Image:
        """A thing's picture in the light of the scene, premultiplied, with an empty edge."""
        plain = self._looks[index](seconds, way)
        known = self._lit.get(index)
        if known is None or known[0] is not plain:
            lit = light.under(light.at(plain, self.scene.time), self.scene.weather)
            padded = Image.new("RGBA", (plain.width + 2 * _EDGE, plain.height + 2 * _EDGE))
            padded.paste(lit, (_EDGE, _EDGE))
            known = self._lit[index] = plain, padded.convert("RGBa")
        return known[1]


def _cover(kind: str, body: Body, rng: np.random.Generator) -> Image.Image:
    """Something to pass behind, somewhat larger than the thing that does."""
    wide = int(body.radius * rng.uniform(1.9, 2.6))
    tall = int(body.radius * rng.uniform(2.0, 2.5))
    return places.cover(kind, rng, wide, tall)


@lru_cache(maxsize=24)
def _backdrop(scene: Scene, height: int, width: int, fine: float) -> _Backdrop:
    return _Backdrop(scene, height, width, fine)


class _Reel:
    """The shots of a clip at a size."""

    def __init__(self, shots: Sequence[Shot], height: int, width: int) -> None:
        if not shots or shots[0].frame != 0:
            raise ValueError("a clip needs shots, the first of which begins at frame 0")
        self._shots = list(shots)
        self._height, self._width = height, width
        zooms = any(shot.scene.camera in ("in", "out") for shot in shots)
        fine = 1.5 if zooms else 1.0
        self._backdrops: list[_Backdrop] = []
        self._casts: list[_Cast] = []
        for _, scene in self._shots:
            bare = replace(scene, things=(), camera="still", cover="")
            self._backdrops.append(_backdrop(bare, height, width, fine))
            ground = self._backdrops[-1].ground
            self._casts.append(_Cast(scene, height, width, ground, ZOOM if zooms else 1.0))
        self._oversize = ZOOM if zooms else 1.0
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

    def picture(self, frame: int, seen: list[_Seen] | None = None) -> Image.Image:
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
        marks: list[_Seen] = []
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

    def _things(self, number: int, index: int, frame: int, camera: View) -> list["_Drawn"]:
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

    def _drawn(self, number: int, index: int, frame: int, size: float) -> "_Drawn":
        pose = self._pose(number, index, frame)
        cast = self._casts[number]
        picture = cast.picture(index, frame / FPS, pose.way)
        since = frame - self._shots[number].frame
        if number and since < CHANGE and self._stays(number, index):
            old = self._casts[number - 1].picture(index, frame / FPS, pose.way)
            if old is not picture:
                old = old if old.size == picture.size else old.resize(picture.size, _BILINEAR)
                picture = Image.blend(old, picture, (since + 1) / CHANGE)
        return _Drawn(index, cast.bodies[index], pose, picture, size)

    def _shade(self, picture: Image.Image, item: "_Drawn", camera: View) -> None:
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
        dx = x - camera.x - self._width / 2
        span = 2.0 * self._width
        dx = (dx + span / 2) % span - span / 2 if camera.x else dx
        dy = y - camera.y - self._height / 2
        tall = 2.0 * self._height
        dy = (dy + tall / 2) % tall - tall / 2 if camera.y else dy
        return self._width / 2 + dx * camera.zoom, self._height / 2 + dy * camera.zoom

    def _put(
        self, picture: Image.Image, item: "_Drawn", camera: View, marks: list[_Seen] | None
    ) -> None:
        pose, body = item.pose, item.body
        foot_x, foot_y = self._screen(pose.x, pose.y, camera)
        scale = pose.scale * item.size * camera.zoom
        wide, tall = scale * (1 + pose.squash), scale * (1 - pose.squash)
        x, y = foot_x, foot_y - body.foot * tall
        copies = [x]
        if pose.wraps:
            copies = [x, x - pose.wraps, x + pose.wraps]
        for at in copies:
            _stamp(picture, item, at, y, wide, tall, marks)

    def _cover(
        self,
        picture: Image.Image,
        cover: tuple[Image.Image, float, float],
        camera: View,
        marks: list[_Seen],
    ) -> None:
        image, left, top = cover
        at = round(left), round(top)
        picture.paste(image, at, image)
        inverse = image.getchannel("A").point([255 - v for v in range(256)])
        for mark in marks:
            hidden = Image.new("L", image.size)
            hidden.paste(mark.mask.crop((*at, at[0] + image.width, at[1] + image.height)))
            mark.mask.paste(_product(hidden, inverse), at)

    def _weather(self, picture: Image.Image, number: int, frame: int) -> None:
        first, scene = self._shots[number]
        old = self._shots[number - 1].scene.weather if number else scene.weather
        began = first / FPS if old != scene.weather else 0.0
        if number and old != scene.weather and old != "clear":
            ended = self._casts[number - 1].falling
            ended.draw(picture, frame / FPS, 0.0, first / FPS)
        self._casts[number].falling.draw(picture, frame / FPS, began)


class _Drawn(NamedTuple):
    index: int
    body: Body
    pose: Pose
    picture: Image.Image
    size: float


def _product(first: Image.Image, second: Image.Image) -> Image.Image:
    values = np.asarray(first, np.uint16) * np.asarray(second, np.uint16) // 255
    return Image.fromarray(values.astype(np.uint8))


def _stamp(
    picture: Image.Image,
    item: _Drawn,
    x: float,
    y: float,
    wide: float,
    tall: float,
    marks: list[_Seen] | None,
) -> None:
    """Draw a thing's picture with its middle at x, y, as wide and tall as its body times these."""
    side = item.picture.width
    unit = side / (2 * (item.body.radius + _EDGE / item.body.largest))  # picture pixels per pixel
    turn = item.pose.angle
    reach = side / unit / 2 * max(wide, tall) * (1.0 if not turn else 1.42)
    left, top = int(np.floor(x - reach)), int(np.floor(y - reach))
    size = int(np.ceil(2 * reach)) + 1
    if left >= picture.width or top >= picture.height or left + size <= 0 or top + size <= 0:
        return
    cos, sin = float(np.cos(turn)), float(np.sin(turn))
    face = item.pose.facing
    a, b = unit * face * cos / wide, unit * face * sin / wide
    d, e = -unit * sin / tall, unit * cos / tall
    cx, cy = x - left, y - top
    turned = item.picture.transform(
        (size, size),
        Image.Transform.AFFINE,
        (a, b, side / 2 - a * cx - b * cy, d, e, side / 2 - d * cx - e * cy),
        _BILINEAR,
    )
    stamp = turned.convert("RGBA")
    picture.paste(stamp, (left, top), stamp)
    if marks is not None:
        alpha = stamp.getchannel("A")
        for mark in marks:  # what lies behind is hidden
            inverse = Image.new("L", mark.mask.size, 255)
            inverse.paste(alpha.point([255 - v for v in range(256)]), (left, top))
            mark.mask.paste(_product(mark.mask, inverse))
        mask = Image.new("L", picture.size)
        mask.paste(alpha, (left, top))
        area = float(np.asarray(alpha, np.int64).sum())
        marks.append(_Seen(item.index, mask, area, (x, y)))
