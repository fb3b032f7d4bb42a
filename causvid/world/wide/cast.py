"""The things of a scene as they are drawn: their pictures in the light, their covers."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from causvid.world.wide import light, scenery
from causvid.world.wide.motion import Body, Pose
from causvid.world.wide.scene import Scene
from causvid.world.wide.sprites import look

_EDGE = 2
"""Empty pixels around a thing's picture."""
_BILINEAR = Image.Resampling.BILINEAR


class Seen(NamedTuple):
    which: int
    mask: Image.Image
    area: float
    centre: tuple[float, float]


class Cast:
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
    return scenery.cover(kind, rng, wide, tall)


class Drawn(NamedTuple):
    which: int
    body: Body
    pose: Pose
    picture: Image.Image
    size: float


def product(first: Image.Image, second: Image.Image) -> Image.Image:
    values = np.asarray(first, np.uint16) * np.asarray(second, np.uint16) // 255
    return Image.fromarray(values.astype(np.uint8))


def stamp(
    picture: Image.Image,
    item: Drawn,
    x: float,
    y: float,
    wide: float,
    tall: float,
    marks: list[Seen] | None,
) -> None:
    """Draw a thing's picture with its middle at x, y, as wide and tall as its body times these."""
    side = item.picture.width
    unit = (side - 2 * _EDGE) / (2 * item.body.radius)  # pixels of it for one of the body
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
            mark.mask.paste(product(mark.mask, inverse))
        mask = Image.new("L", picture.size)
        mask.paste(alpha, (left, top))
        area = float(np.asarray(alpha, np.int64).sum())
        marks.append(Seen(item.which, mask, area, (x, y)))
