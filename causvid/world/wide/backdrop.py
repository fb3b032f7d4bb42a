"""Backgrounds at a size, and the parts of them that a camera sees."""

from functools import lru_cache

import numpy as np
from PIL import Image

from causvid.world.wide import light, places
from causvid.world.wide.artist import Layer
from causvid.world.wide.motion import View
from causvid.world.wide.scene import Scene
from causvid.world.wide.textures import TEXTURES

_PERIOD = 1.5
"""Widths after which a background repeats."""
_FLOOR = 0.5
"""Where things can stand in a picture without a horizon, as a fraction of its height."""
_BILINEAR = Image.Resampling.BILINEAR


def period(width: int) -> int:
    """Pixels after which a background of a width repeats."""
    return 4 * round(width * _PERIOD / 4)


class Backdrop:
    """A background at a size, in the light of its time and weather."""

    def __init__(self, scene: Scene, height: int, width: int, fine: float) -> None:
        self._height, self._width, self._fine = height, width, fine
        w, h = round(period(width) * fine), round(height * fine)
        rng = np.random.default_rng((scene.seed, 11))
        if scene.named:
            place = places.paint(scene.background, rng, w, h, scene.time)
            self.ground, layers = place.ground, place.layers
        else:
            picture = light.at(TEXTURES[scene.background](rng, w, h), scene.time)
            self.ground, layers = _FLOOR, (Layer(picture, 0, 1.0),)
        self._layers = [
            Layer(light.under(layer.picture, scene.weather), layer.top, layer.pace)
            for layer in layers
        ]
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

    def _away(self, layer: Layer, camera: View) -> float:
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


@lru_cache(maxsize=4)
def backdrop(scene: Scene, height: int, width: int, fine: float) -> Backdrop:
    return Backdrop(scene, height, width, fine)
