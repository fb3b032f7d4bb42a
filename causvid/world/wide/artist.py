"""What all painters of places share: layers, and an artist with a size and a time of day."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from causvid.world.wide import light
from causvid.world.wide.textures import Rgb, hsv

FINE = 2
"""Layers are drawn at this many times their size and reduced, which smooths their edges."""


@dataclass(frozen=True)
class Layer:
    """A part of a place, as wide as its period: RGB if it fills the picture, RGBA otherwise.

    Attributes:
        top: its first row.
        pace: pixels it passes by for each pixel that the camera goes along.
    """

    picture: Image.Image
    top: int
    pace: float


@dataclass(frozen=True)
class Place:
    """A place as it is drawn.

    Attributes:
        layers: from the farthest to the nearest, in the light of its time.
        ground: the row, as a fraction of the height, from which things can stand; `None` where
            everything hangs or swims.
    """

    layers: tuple[Layer, ...]
    ground: float | None


class Artist:
    """What all painters of one place share: the random source, the size, the time of day."""

    def __init__(self, rng: np.random.Generator, width: int, height: int, time: str) -> None:
        self.rng, self.width, self.height, self.time = rng, width, height, time
        self.unit = min(height, width / 1.25)
        self.horizon = float(rng.uniform(0.48, 0.68))
        self.phases = rng.uniform(0, 2 * np.pi, 8)
        self._seed = int(rng.integers(2**31))

    def source(self, number: int) -> np.random.Generator:
        """A random source of its own, for what must be alike at all times of day."""
        return np.random.default_rng((self._seed, number))

    def sheet(self, mode: str = "RGBA") -> tuple[Image.Image, ImageDraw.ImageDraw]:
        image = Image.new(mode, (self.width * FINE, self.height * FINE))
        return image, ImageDraw.Draw(image)

    def layer(self, image: Image.Image, pace: float) -> Layer:
        """A drawn sheet in the light of the time, without its empty rows."""
        image = image.reduce(FINE)
        top = 0
        if image.mode == "RGBA":
            box = image.getchannel("A").getbbox() or (0, 0, 1, 1)
            top, bottom = box[1], box[3]
            image = image.crop((0, top, image.width, bottom))
        return Layer(light.at(image, self.time), top, pace)

    def tone(self, hue: float, saturation: float, value: float, sway: float = 0.03) -> Rgb:
        """A colour near the one given."""
        h, s, v = self.rng.normal(0, sway, 3)
        return hsv((hue + h) % 1, float(np.clip(saturation + 2 * s, 0, 1)), unit(value + v))

    def ridge(self, base: float, height: float, rough: float) -> np.ndarray:
        """Rows of a line of hills at every fine column, periodic; fractions of the height."""
        columns = np.arange(self.width * FINE) * (2 * np.pi / (self.width * FINE))
        line = np.zeros(len(columns))
        for k in range(1, 20):
            size = self.rng.normal() * (k + 0.6) ** -rough
            line += size * np.cos(k * columns + self.rng.uniform(0, 6.3))
        line -= line.min()
        return base - height * line / max(line.max(), 1e-6)

    def fill_below(self, draw: ImageDraw.ImageDraw, line: np.ndarray, colour: Rgb) -> None:
        """Fill a sheet below a line of rows."""
        rows = line * self.height * FINE
        end = self.height * FINE + 2
        points = [(-1.0, float(end)), *zip(range(len(rows)), rows.tolist(), strict=True)]
        draw.polygon(
            [*points, (float(len(rows)), rows[-1]), (float(len(rows)), float(end))], colour
        )

    def around(self, x: float, reach: float) -> list[float]:
        """Fine columns at which something `reach` wide around x shows on a repeating sheet."""
        period = self.width * FINE
        return [x + d for d in (-period, 0, period) if -reach < x + d < period + reach]


def unit(value: float) -> float:
    return float(np.clip(value, 0, 1))


def ramp(height: int, stops: list[tuple[float, Rgb]]) -> Image.Image:
    """A column of colours, one pixel wide."""
    at = (np.arange(height) + 0.5) / height
    places = [place for place, _ in stops]
    channels = [np.interp(at, places, [c[i] for _, c in stops]) for i in range(3)]
    return Image.fromarray(np.stack(channels, 1).round().astype(np.uint8)[:, None])


def mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    return tuple(round(p + (q - p) * share) for p, q in zip(a, b, strict=True))  # type: ignore
