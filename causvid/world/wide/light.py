"""Time of day and weather as operators: what they do to any picture, pixel by pixel.

A time of day is an affine map of colours, a weather one more, and what falls before the picture.
"""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from causvid.world.wide.textures import noise

TIMES = ("day", "sunset", "night")
WEATHERS = ("clear", "rain", "snowfall", "fog")

_FRONT = 0.9
"""Heights a second at which weather comes down over a picture, and leaves it."""

Matrix = tuple[float, ...]
"""Twelve numbers: rows of red, green and blue, each with its constant, as Pillow takes them."""


def _operator(keep: float, gain: tuple[float, float, float], add: tuple[int, int, int]) -> Matrix:
    """Colour mixed with its grey (`keep` of the colour), times `gain`, plus `add`."""
    grey = (0.299, 0.587, 0.114)
    rows: list[float] = []
    for channel in range(3):
        shares = [(1 - keep) * g for g in grey]
        shares[channel] += keep
        rows += [gain[channel] * share for share in shares] + [float(add[channel])]
    return tuple(rows)


_TIMES: dict[str, Matrix | None] = {
    "day": None,
    "sunset": _operator(0.85, (1.0, 0.74, 0.6), (18, 4, 8)),
    "night": _operator(0.68, (0.47, 0.52, 0.73), (6, 8, 22)),
}
_WEATHERS: dict[str, Matrix | None] = {
    "clear": None,
    "rain": _operator(0.62, (0.85, 0.88, 0.91), (4, 6, 9)),
    "snowfall": _operator(0.75, (0.9, 0.92, 0.95), (14, 15, 18)),
    "fog": None,
}


def at(picture: Image.Image, time: str) -> Image.Image:
    """A picture by daylight, RGB or RGBA, at another time of day."""
    return _mapped(picture, _TIMES[time])


def under(picture: Image.Image, weather: str) -> Image.Image:
    """A picture in clear weather under another sky, without what falls."""
    return _mapped(picture, _WEATHERS[weather])


def _mapped(picture: Image.Image, matrix: Matrix | None) -> Image.Image:
    if matrix is None:
        return picture
    if picture.mode == "RGBA":
        mapped = picture.convert("RGB").convert("RGB", matrix)
        mapped.putalpha(picture.getchannel("A"))
        return mapped
    return picture.convert("RGB", matrix)


class Falling:
    """What falls before the picture: layers of drops or flakes that come round for ever, or fog."""

    def __init__(
        self, weather: str, time: str, rng: np.random.Generator, width: int, height: int
    ) -> None:
        self.weather = weather
        self._size = width, height
        bright = {"day": 1.0, "sunset": 0.9, "night": 0.62}[time]
        unit = min(height, width / 1.25)
        self._layers: list[tuple[Image.Image, float, float, float]] = []
        self._sway = rng.uniform(0, 6)
        if weather == "rain":
            self._colour = tuple(int(c * bright) for c in (206, 222, 240))
            slant = float(rng.uniform(-0.28, 0.28))
            for size, count, speed in ((1.0, 60, 1.5), (0.6, 90, 1.1)):
                count = int(count * width * height / (320 * 192) * rng.uniform(0.7, 1.3))
                mask = _rain(rng, width, height, count, 0.1 * unit * size, slant)
                self._layers.append((mask, speed * slant * unit, speed * unit, 0.0))
        elif weather == "snowfall":
            self._colour = tuple(int(c * (0.35 + 0.65 * bright)) for c in (250, 252, 255))
            for size, count, speed in ((0.017, 26, 0.3), (0.011, 50, 0.2), (0.007, 80, 0.14)):
                count = int(count * width * height / (320 * 192) * rng.uniform(0.7, 1.3))
                mask = _flakes(rng, width, height, count, size * unit)
                self._layers.append((mask, 0.03 * unit * rng.normal(), speed * unit, 0.03 * unit))
        elif weather == "fog":
            self._colour = tuple(
                int(c * bright * (0.75 if time == "night" else 1)) for c in (214, 220, 226)
            )
            self._fog = _fog(rng, width, height)
            self._drift = 0.05 * unit * (1 if rng.random() < 0.5 else -1)

    def draw(
        self, picture: Image.Image, clock: float, began: float = 0.0, ended: float = 0.0
    ) -> None:
        """Draw onto a picture, `clock` seconds after the beginning.

        Args:
            began: the second in which it began to fall: it comes from above. Fog gathers.
            ended: the second in which it ceased to; 0 if it did not.
        """
        w, h = self._size
        front = _FRONT * h
        if self.weather == "fog":
            x = int(clock * self._drift) % w
            mask = self._fog.crop((x, 0, x + w, h))
            gathered = min(1.0, (clock - began) * _FRONT) if began else 1.0
            gathered -= min(1.0, (clock - ended) * _FRONT) if ended else 0.0
            if gathered <= 0:
                return
            if gathered < 1:
                mask = mask.point([int(v * gathered) for v in range(256)])
            picture.paste(self._colour, (0, 0), mask)
            return
        for mask, right, down, sway in self._layers:
            right_by = clock * right + sway * float(np.sin(clock * 1.3 + self._sway))
            left, top = -right_by % w, -clock * down % h
            part = mask.resize((w, h), Image.Resampling.BILINEAR, (left, top, left + w, top + h))
            reach, gone = int((clock - began) * front), int((clock - ended) * front)
            if began and reach < h:
                part.paste(0, (0, max(0, reach), w, h))
            if ended and gone > 0:
                if gone >= h:
                    return
                part.paste(0, (0, 0, w, gone))
            picture.paste(self._colour, (0, 0), part)


def _twice(mask: Image.Image) -> Image.Image:
    """A picture that repeats, twice in both directions, to be cut anywhere."""
    w, h = mask.size
    both = Image.new("L", (2 * w, 2 * h))
    for x in (0, w):
        for y in (0, h):
            both.paste(mask, (x, y))
    return both


def _rain(
    rng: np.random.Generator, width: int, height: int, count: int, length: float, slant: float
) -> Image.Image:
    mask = Image.new("L", (2 * width, 2 * height))
    draw = ImageDraw.Draw(mask)
    for x, y, tone in zip(
        rng.uniform(0, 2 * width, count),
        rng.uniform(0, 2 * height, count),
        rng.integers(110, 200, count),
        strict=True,
    ):
        for dx in (-2 * width, 0, 2 * width):
            for dy in (-2 * height, 0):
                draw.line(
                    (x + dx, y + dy, x + dx + 2 * slant * length, y + dy + 2 * length),
                    fill=int(tone),
                    width=max(2, int(length / 7)),
                )
    return _twice(mask.reduce(2))


def _flakes(
    rng: np.random.Generator, width: int, height: int, count: int, radius: float
) -> Image.Image:
    mask = Image.new("L", (2 * width, 2 * height))
    draw = ImageDraw.Draw(mask)
    for x, y, r in zip(
        rng.uniform(0, 2 * width, count),
        rng.uniform(0, 2 * height, count),
        2 * radius * rng.uniform(0.7, 1.2, count),
        strict=True,
    ):
        for dx in (-2 * width, 0, 2 * width):
            for dy in (-2 * height, 0, 2 * height):
                draw.ellipse((x + dx - r, y + dy - r, x + dx + r, y + dy + r), fill=235)
    return _twice(mask.reduce(2).filter(ImageFilter.GaussianBlur(0.5)))


def _fog(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    field = noise(rng, height // 4, width // 4, 1.7)
    rows = np.linspace(-20, 40, height // 4, dtype=np.float32)[:, None]
    mask = np.clip(112 + rows + 28 * field, 30, 200).astype(np.uint8)
    image = Image.fromarray(np.tile(mask, (1, 3)))
    smooth = image.resize((3 * width, height), Image.Resampling.BICUBIC)
    return smooth.crop((width // 2, 0, width // 2 + 2 * width, height))


@lru_cache(maxsize=8)
def shadow(width: int, height: int) -> Image.Image:
    """A soft ellipse, black where its alpha is: what lies under things that stand."""
    x = (np.arange(width, dtype=np.float32) + 0.5)[None] / (width / 2) - 1
    y = (np.arange(height, dtype=np.float32) + 0.5)[:, None] / (height / 2) - 1
    away = np.clip(1 - np.hypot(x, y), 0, 1)
    return Image.fromarray((255 * np.clip(1.6 * away, 0, 1)).astype(np.uint8))
