"""The places that a caption can name: landscapes, a town, a room, the sky, space, the sea floor.

A place is drawn once as a picture that repeats sideways, in layers that may pass at different
paces when the camera goes along with something: far ones slowly. Everything that no caption
speaks of is drawn from the random source: heights, hues, the place of the sun, kinds of trees.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from causvid.world.wide import light
from causvid.world.wide.textures import Rgb, hsv, noise

_FINE = 2
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


class _Artist:
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
        image = Image.new(mode, (self.width * _FINE, self.height * _FINE))
        return image, ImageDraw.Draw(image)

    def layer(self, image: Image.Image, pace: float) -> Layer:
        """A drawn sheet in the light of the time, without its empty rows."""
        image = image.reduce(_FINE)
        top = 0
        if image.mode == "RGBA":
            box = image.getchannel("A").getbbox() or (0, 0, 1, 1)
            top, bottom = box[1], box[3]
            image = image.crop((0, top, image.width, bottom))
        return Layer(light.at(image, self.time), top, pace)

    def tone(self, hue: float, saturation: float, value: float, sway: float = 0.03) -> Rgb:
        """A colour near the one given."""
        h, s, v = self.rng.normal(0, sway, 3)
        return hsv((hue + h) % 1, float(np.clip(saturation + 2 * s, 0, 1)), _unit(value + v))

    def ridge(self, base: float, height: float, rough: float) -> np.ndarray:
        """Rows of a line of hills at every fine column, periodic; fractions of the height."""
        columns = np.arange(self.width * _FINE) * (2 * np.pi / (self.width * _FINE))
        line = np.zeros(len(columns))
        for k in range(1, 20):
            size = self.rng.normal() * (k + 0.6) ** -rough
            line += size * np.cos(k * columns + self.rng.uniform(0, 6.3))
        line -= line.min()
        return base - height * line / max(line.max(), 1e-6)

    def fill_below(self, draw: ImageDraw.ImageDraw, line: np.ndarray, colour: Rgb) -> None:
        """Fill a sheet below a line of rows."""
        rows = line * self.height * _FINE
        end = self.height * _FINE + 2
        points = [(-1.0, float(end)), *zip(range(len(rows)), rows.tolist(), strict=True)]
        draw.polygon(
            [*points, (float(len(rows)), rows[-1]), (float(len(rows)), float(end))], colour
        )

    def around(self, x: float, reach: float) -> list[float]:
        """Fine columns at which something `reach` wide around x shows on a repeating sheet."""
        period = self.width * _FINE
        return [x + d for d in (-period, 0, period) if -reach < x + d < period + reach]


def _unit(value: float) -> float:
    return float(np.clip(value, 0, 1))


def _ramp(height: int, stops: list[tuple[float, Rgb]]) -> Image.Image:
    """A column of colours, one pixel wide."""
    at = (np.arange(height) + 0.5) / height
    places = [place for place, _ in stops]
    channels = [np.interp(at, places, [c[i] for _, c in stops]) for i in range(3)]
    return Image.fromarray(np.stack(channels, 1).round().astype(np.uint8)[:, None])


def _sky(art: _Artist, down_to: float, clouds: bool = True) -> Layer:
    """The sky of the time of day, with its sun or moon, stars and clouds."""
    rng, w, h = art.source(0), art.width, art.height
    hue = float(rng.uniform(-1, 1))
    if art.time == "night":
        stops = [(0, hsv(0.64, 0.75, 0.13)), (down_to, hsv(0.63 + 0.02 * hue, 0.6, 0.36))]
    elif art.time == "sunset":
        stops = [
            (0, hsv(0.76 + 0.05 * hue, 0.55, 0.45)),
            (down_to * 0.5, hsv(0.97 + 0.03 * hue, 0.5, 0.8)),
        ]
        stops += [(down_to * 0.8, hsv(0.055 + 0.02 * hue, 0.62, 0.97)), (down_to, (255, 210, 130))]
    else:
        stops = [
            (0, hsv(0.575 + 0.04 * hue, float(rng.uniform(0.5, 0.8)), float(rng.uniform(0.85, 1))))
        ]
        stops += [(down_to, hsv(0.555 + 0.04 * hue, float(rng.uniform(0.06, 0.25)), 1.0))]
    sky = _ramp(h, stops).resize((w, h))
    draw = ImageDraw.Draw(sky)
    if art.time == "night":
        for _ in range(int(rng.integers(15, 60) * w / h)):
            x, y = rng.uniform(0, w), rng.uniform(0, down_to * h)
            tone = int(rng.integers(110, 256))
            draw.point((x, y), (tone, tone, min(255, tone + 10)))
            if tone > 225:
                draw.point((x + 1, y), (150, 150, 170))
    sights = art.source(1)
    if sights.random() < 0.8:
        _sun(art, sights, sky, down_to)
    if clouds and sights.random() < 0.8:
        _clouds(art, sky, down_to, int(sights.integers(2, 8) * w / (2 * h)) + 1)
    return Layer(sky, 0, 0.06)


def _sun(art: _Artist, rng: np.random.Generator, sky: Image.Image, down_to: float) -> None:
    unit = art.unit
    low = art.time == "sunset"
    radius = float(rng.uniform(0.06, 0.12)) * unit
    x = float(rng.uniform(0.06, 0.6)) * art.width
    y = float(rng.uniform(0.6, 0.95) if low else rng.uniform(0.16, 0.5)) * down_to * art.height
    glow, core = {
        "day": ((255, 248, 210), (255, 238, 120)),
        "sunset": ((255, 214, 130), (255, 226, 140)),
        "night": ((140, 150, 210), (250, 244, 214)),
    }[art.time]
    px = np.arange(art.width, dtype=np.float32)[None] - x
    py = np.arange(art.height, dtype=np.float32)[:, None] - y
    away = np.hypot(px, py)
    strength = 110 if art.time == "night" else 190
    halo = np.exp(-np.maximum(away - radius, 0) / (0.1 * unit)) * strength
    sky.paste(glow, (0, 0), Image.fromarray(halo.astype(np.uint8)))
    disc = np.clip(radius - away + 0.5, 0, 1)
    if art.time == "night" and art.phases[0] < 4:
        bite = np.hypot(px - 0.5 * radius, py - 0.2 * radius)
        disc = np.minimum(disc, np.clip(bite - 0.85 * radius + 0.5, 0, 1))
    sky.paste(core, (0, 0), Image.fromarray((disc * 255).astype(np.uint8)))


def _clouds(art: _Artist, sky: Image.Image, down_to: float, count: int) -> None:
    unit = art.unit
    bright, dark = {
        "day": ((255, 255, 255), (214, 226, 240)),
        "sunset": ((255, 196, 160), (214, 130, 140)),
        "night": ((70, 78, 122), (46, 52, 94)),
    }[art.time]
    for colour, lift in ((dark, 0.018), (bright, 0.0)):
        mask, draw = art.sheet("L")
        spots = art.source(2)
        for _ in range(count):
            size = spots.uniform(0.05, 0.11) * unit * _FINE
            x = spots.uniform(0, art.width * _FINE)
            y = spots.uniform(0.08, 0.75) * down_to * art.height * _FINE + lift * unit * _FINE
            for _ in range(int(spots.integers(3, 7))):
                dx, dy, s = spots.normal(0, 1.1), spots.uniform(-0.45, 0.1), spots.uniform(0.5, 1)
                a, b = size * s * 1.25, size * s * 0.8
                for at in art.around(x + dx * size, a):
                    draw.ellipse((at - a, y + dy * size - b, at + a, y + dy * size + b), fill=225)
        mask = mask.reduce(_FINE).filter(ImageFilter.GaussianBlur(0.012 * unit))
        sky.paste(colour, (0, 0), mask)


def _ground(art: _Artist, image: Image.Image, far: Rgb, near: Rgb, grain: float = 0.03) -> None:
    """Fill a sheet below the horizon with ground whose grain grows towards the viewer."""
    w, h = image.size
    first = int(art.horizon * h)
    rows = _ramp(h - first, [(0, far), (0.35, _mix(far, near, 0.55)), (1, near)])
    rows = rows.resize((w, h - first))
    if grain:
        field = noise(art.rng, 64, w // 4, 1.0)
        cells = Image.fromarray(np.clip(128 + 40 * field, 0, 255).astype(np.uint8))
        spots = cells.resize((w, h - first), Image.Resampling.BICUBIC)
        dark = Image.eval(spots, lambda v: int(max(0, v - 128) * grain * 30))
        rows.paste(_mix(near, (0, 0, 0), 0.35), (0, 0), dark)
    image.paste(rows, (0, first))


def _mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    return tuple(round(p + (q - p) * share) for p, q in zip(a, b, strict=True))  # type: ignore


def _tufts(art: _Artist, draw: ImageDraw.ImageDraw, colours: list[Rgb], kind: str) -> None:
    """Marks on the ground: grass, pebbles or ripples, larger towards the viewer."""
    rng, h = art.rng, art.height * _FINE
    for depth in np.sort(rng.uniform(0.04, 1, int(rng.integers(20, 70) * art.width / h))).tolist():
        y = (art.horizon + depth * (1 - art.horizon)) * h
        size = (0.008 + 0.028 * depth) * art.unit * _FINE
        x = rng.uniform(0, art.width * _FINE)
        colour = colours[int(rng.integers(len(colours)))]
        for at in art.around(x, 4 * size):
            if kind == "grass":
                for lean in (-0.7, 0.0, 0.6):
                    draw.line(
                        (at, y, at + lean * size, y - 1.3 * size), colour, max(1, int(size / 4))
                    )
            elif kind == "stones":
                draw.ellipse((at - size, y - 0.5 * size, at + size, y + 0.5 * size), colour)
            elif kind == "flowers":
                r = 0.35 * size
                draw.ellipse((at - r, y - r, at + r, y + r), colour)
            else:
                draw.arc(
                    (at - 3 * size, y, at + 3 * size, y + size),
                    200,
                    340,
                    colour,
                    max(1, int(size / 4)),
                )


def _tree(
    art: _Artist, draw: ImageDraw.ImageDraw, x: float, y: float, size: float, kind: str
) -> None:
    """One tree, cactus or house that stands at a fine column and row."""
    rng = art.rng
    if kind == "fir":
        green, snowy = art.tone(0.42, 0.55, 0.38), art.phases[2] < 3
        draw.rectangle((x - 0.06 * size, y - 0.2 * size, x + 0.06 * size, y), (96, 66, 44))
        for tier in range(3):
            top, half = y - size * (0.5 + 0.28 * tier), size * (0.38 - 0.09 * tier)
            foot = top + 0.42 * size
            draw.polygon([(x, top - 0.1 * size), (x + half, foot), (x - half, foot)], green)
            if snowy:
                draw.polygon(
                    [
                        (x, top - 0.1 * size),
                        (x + half / 2, top + 0.16 * size),
                        (x - half / 2, top + 0.16 * size),
                    ],
                    (238, 244, 250),
                )
    elif kind == "round":
        leaf = art.tone(float(art.phases[3] / 40 + 0.22), 0.55, 0.5)
        draw.rectangle((x - 0.06 * size, y - 0.5 * size, x + 0.06 * size, y), (104, 72, 46))
        for _ in range(5):
            dx, dy, r = rng.normal(0, 0.17), rng.uniform(-0.2, 0.2), rng.uniform(0.2, 0.32)
            cx, cy, r = x + dx * size, y - (0.72 + dy) * size, r * size
            draw.ellipse(
                (cx - r, cy - r, cx + r, cy + r), _mix(leaf, (255, 255, 160), rng.uniform(0, 0.18))
            )
    elif kind == "palm":
        draw.line(
            (x, y, x + 0.08 * size, y - 0.5 * size, x + 0.2 * size, y - 0.9 * size),
            (134, 96, 60),
            max(2, int(0.08 * size)),
        )
        for lean in (-0.5, -0.3, 0.05, 0.3, 0.5):
            a = (x + 0.2 * size, y - 0.9 * size)
            draw.polygon(
                [
                    a,
                    (a[0] + lean * 0.6 * size, a[1] - 0.16 * size),
                    (a[0] + lean * size, a[1] + 0.16 * size),
                ],
                art.tone(0.33, 0.6, 0.5),
            )
    elif kind == "cactus":
        green, r = art.tone(0.37, 0.5, 0.5), 0.09 * size
        draw.rounded_rectangle((x - r, y - size, x + r, y), r, green)
        for side, low in ((-1, 0.45), (1, 0.6)):
            a = x + side * 0.3 * size
            draw.rounded_rectangle(
                (min(x, a), y - low * size - r, max(x, a), y - low * size + r), r, green
            )
            draw.rounded_rectangle(
                (a - r, y - (low + 0.28) * size, a + r, y - low * size + r), r, green
            )
    else:
        wall, roof = art.tone(0.09, 0.25, 0.85, 0.08), art.tone(0.02, 0.6, 0.6, 0.05)
        draw.rectangle((x - 0.4 * size, y - 0.5 * size, x + 0.4 * size, y), wall)
        draw.polygon(
            [
                (x - 0.5 * size, y - 0.5 * size),
                (x, y - 0.95 * size),
                (x + 0.5 * size, y - 0.5 * size),
            ],
            roof,
        )
        draw.rectangle(
            (x - 0.08 * size, y - 0.28 * size, x + 0.1 * size, y), _mix(roof, (0, 0, 0), 0.4)
        )


def _row(
    art: _Artist,
    draw: ImageDraw.ImageDraw,
    kind: str,
    count: float,
    size: tuple[float, float],
    deep: float,
) -> None:
    """Trees or houses between the horizon and a depth, farther ones first and smaller."""
    rng = art.rng
    number = rng.poisson(count * art.width / art.unit)
    for depth in np.sort(rng.uniform(0, deep, number)).tolist():
        y = (art.horizon + depth * (1 - art.horizon)) * art.height * _FINE
        tall = rng.uniform(*size) * (0.6 + 1.6 * depth) * art.unit * _FINE
        x = rng.uniform(0, art.width * _FINE)
        state = rng.bit_generator.state
        for at in art.around(x, tall):
            rng.bit_generator.state = state  # the same tree on both edges
            _tree(art, draw, at, y, tall, kind)


def _meadow(art: _Artist) -> Place:
    rng = art.rng
    green = float(rng.uniform(0.22, 0.34))
    far, fd = art.sheet()
    for step in range(int(rng.integers(1, 3))):
        tone = art.tone(green + 0.06, 0.34 + 0.08 * step, 0.62 - 0.07 * step)
        art.fill_below(fd, art.ridge(art.horizon + 0.01, rng.uniform(0.06, 0.22), 1.5), tone)
    near, nd = art.sheet()
    grass = art.tone(green, 0.62, 0.56)
    _ground(art, near, _mix(grass, (236, 240, 170), 0.35), grass)
    _row(
        art,
        nd,
        ("round", "fir", "house", "round")[int(rng.integers(4))],
        rng.uniform(1, 5),
        (0.13, 0.24),
        0.12,
    )
    _tufts(art, nd, [_mix(grass, (0, 0, 0), 0.25), _mix(grass, (255, 255, 190), 0.3)], "grass")
    if rng.random() < 0.5:
        _tufts(art, nd, [(250, 240, 250), (250, 220, 70), art.tone(0.95, 0.5, 0.9)], "flowers")
    return Place((_sky(art, art.horizon), art.layer(far, 0.25), art.layer(near, 1.0)), art.horizon)


def _forest(art: _Artist) -> Place:
    rng = art.rng
    kind = ("fir", "round")[int(rng.integers(2))]
    far, fd = art.sheet()
    tone = art.tone(0.36, 0.4, 0.45)
    art.fill_below(fd, art.ridge(art.horizon - 0.06, 0.12, 0.4), tone)
    _row(art, fd, kind, 9, (0.3, 0.5), 0.02)
    near, nd = art.sheet()
    moss = art.tone(0.27, 0.5, 0.42)
    _ground(art, near, _mix(moss, (30, 60, 30), 0.3), moss, 0.05)
    _row(art, nd, kind, 6, (0.4, 0.62), 0.1)
    _tufts(art, nd, [_mix(moss, (0, 0, 0), 0.3), _mix(moss, (220, 240, 120), 0.25)], "grass")
    return Place((_sky(art, art.horizon), art.layer(far, 0.5), art.layer(near, 1.0)), art.horizon)


def _desert(art: _Artist) -> Place:
    rng = art.rng
    hue = float(rng.uniform(0.06, 0.12))
    far, fd = art.sheet()
    line = art.ridge(art.horizon + 0.01, rng.uniform(0.08, 0.24), 1.4)
    if rng.random() < 0.5:  # table mountains
        line = np.maximum(line, art.horizon - rng.uniform(0.05, 0.12))
    art.fill_below(fd, line, art.tone(hue - 0.04, 0.5, 0.76))
    near, nd = art.sheet()
    sand = art.tone(hue, 0.5, 0.87)
    _ground(art, near, _mix(sand, (255, 240, 200), 0.5), sand, 0.02)
    for dune in range(int(rng.integers(0, 3))):
        shade = _mix(sand, (255, 232, 170) if dune % 2 else (180, 120, 70), 0.25)
        art.fill_below(nd, art.ridge(art.horizon + 0.12 + 0.16 * dune, 0.1, 2.0), shade)
    _row(
        art, nd, "palm" if rng.random() < 0.2 else "cactus", rng.uniform(0.5, 4), (0.1, 0.22), 0.15
    )
    _tufts(art, nd, [_mix(sand, (140, 90, 50), 0.3)], "stones" if rng.random() < 0.5 else "ripples")
    return Place((_sky(art, art.horizon), art.layer(far, 0.25), art.layer(near, 1.0)), art.horizon)


def _snow(art: _Artist) -> Place:
    rng = art.rng
    far, fd = art.sheet()
    line = art.ridge(art.horizon + 0.01, rng.uniform(0.1, 0.3), 1.1)
    art.fill_below(fd, line, art.tone(0.6, 0.25, 0.66))
    white, wd = art.sheet()
    art.fill_below(wd, line, (246, 249, 255))
    jag = art.ridge(art.horizon - 0.02, 0.1, 0.5)
    mask = Image.new("L", far.size)
    art.fill_below(ImageDraw.Draw(mask), np.maximum(line + 0.05, jag), 255)  # type: ignore[arg-type]
    white.paste(far, (0, 0), mask)
    near, nd = art.sheet()
    snow = art.tone(0.6, 0.06, 0.96, 0.01)
    _ground(art, near, (250, 252, 255), _mix(snow, (190, 208, 235), 0.4), 0.015)
    _row(art, nd, "house" if rng.random() < 0.2 else "fir", rng.uniform(1, 5), (0.16, 0.28), 0.14)
    _tufts(art, nd, [(206, 220, 240)], "ripples")
    return Place(
        (_sky(art, art.horizon), art.layer(white, 0.25), art.layer(near, 1.0)), art.horizon
    )


def _mountains(art: _Artist) -> Place:
    rng = art.rng
    far, fd = art.sheet()
    hue = float(rng.uniform(0.55, 0.8))
    for step in range(3):
        tone = art.tone(hue, 0.2 + 0.12 * step, 0.75 - 0.16 * step, 0.015)
        line = art.ridge(art.horizon + 0.02, 0.42 - 0.12 * step, 1.0)
        art.fill_below(fd, line, tone)
        if not step:
            top = Image.new("L", far.size)
            art.fill_below(ImageDraw.Draw(top), line, 255)  # type: ignore[arg-type]
            low = Image.new("L", far.size)
            jag = np.maximum(line + 0.04, art.ridge(art.horizon - 0.16, 0.1, 0.5))
            art.fill_below(ImageDraw.Draw(low), jag, 255)  # type: ignore[arg-type]
            top.paste(0, (0, 0), low)
            far.paste((248, 250, 255, 255), (0, 0), top)
    near, nd = art.sheet()
    green = art.tone(0.27, 0.4, 0.5)
    _ground(art, near, _mix(green, (200, 210, 200), 0.4), green)
    _row(art, nd, "fir", rng.uniform(1, 5), (0.1, 0.2), 0.15)
    _tufts(art, nd, [_mix(green, (0, 0, 0), 0.3), (150, 150, 154)], "stones")
    return Place((_sky(art, art.horizon), art.layer(far, 0.25), art.layer(near, 1.0)), art.horizon)


def _water(art: _Artist, image: Image.Image, draw: ImageDraw.ImageDraw, until: float) -> None:
    """Water from the horizon to a row, with waves."""
    rng, h = art.rng, art.height * _FINE
    blue = art.tone(float(rng.uniform(0.5, 0.6)), 0.7, 0.66)
    first, last = int(art.horizon * h), int(until * h)
    stops = [
        (0.0, _mix(blue, (230, 245, 255), 0.45)),
        (0.3, blue),
        (1.0, _mix(blue, (0, 20, 60), 0.35)),
    ]
    image.paste(_ramp(last - first, stops).resize((image.width, last - first)), (0, first))
    for depth in np.sort(
        rng.uniform(0, 1, int(rng.integers(40, 90) * art.width / art.height))
    ).tolist():
        y = first + depth**1.3 * (last - first)
        size = (0.015 + 0.09 * depth) * art.unit * _FINE
        x = rng.uniform(0, image.width)
        tone = _mix(blue, (255, 255, 255), rng.uniform(0.2, 0.6))
        for at in art.around(x, size):
            draw.arc(
                (at - size, y, at + size, y + size * 0.35), 195, 345, tone, max(1, int(size / 16))
            )


def _sea(art: _Artist) -> Place:
    rng = art.rng
    far, fd = art.sheet()
    if rng.random() < 0.6:
        line = art.ridge(art.horizon + 0.03, rng.uniform(0.06, 0.16), 1.8)
        art.fill_below(fd, line, art.tone(float(rng.uniform(0.25, 0.6)), 0.25, 0.6))
    near, nd = art.sheet()
    _water(art, near, nd, 1.0)
    layers = (_sky(art, art.horizon), art.layer(far, 0.2), art.layer(near, 1.0))
    return Place(layers, art.horizon)


def _beach(art: _Artist) -> Place:
    rng = art.rng
    art.horizon = float(rng.uniform(0.42, 0.55))
    water, wd = art.sheet()
    _water(art, water, wd, 0.85)
    near, nd = art.sheet()
    shore = rng.uniform(0.66, 0.74)
    sand = art.tone(0.11, 0.38, 0.93)
    line = art.ridge(shore, 0.05, 2.0)
    art.fill_below(nd, line - 0.015, (246, 252, 255))
    art.fill_below(nd, line, sand)
    art.horizon = shore + 0.02
    _tufts(art, nd, [_mix(sand, (150, 110, 70), 0.3), (250, 240, 230)], "stones")
    _row(art, nd, "palm", rng.uniform(0.3, 2), (0.3, 0.45), 0.1)
    horizon = float(water.getchannel("A").getbbox()[1] / water.height)  # type: ignore[index]
    return Place((_sky(art, horizon), art.layer(water, 0.5), art.layer(near, 1.0)), shore)


def _town(art: _Artist) -> Place:
    rng, h = art.rng, art.height * _FINE
    art.horizon = float(rng.uniform(0.66, 0.76))
    lamps: list[tuple[float, float, float, float]] = []
    layers = [_sky(art, art.horizon)]
    foot = art.horizon * h
    for row in range(2):
        image, draw = art.sheet()
        x = 0.0
        while x < image.width - 1:
            wide = min(rng.uniform(0.16, 0.36) * art.unit * _FINE, image.width - x)
            tall = rng.uniform(0.22, 0.6 - 0.12 * row) * h
            hue = float(rng.uniform(0, 1))
            wall = hsv(hue, float(rng.uniform(0.05, 0.4)), float(rng.uniform(0.5, 0.95)))
            wall = _mix(wall, (190, 205, 225), 0.5) if not row else wall
            draw.rectangle((x, foot - tall, x + wide, foot), wall)
            if rng.random() < 0.3:
                draw.polygon(
                    [
                        (x, foot - tall),
                        (x + wide / 2, foot - tall - wide * 0.4),
                        (x + wide, foot - tall),
                    ],
                    _mix(wall, (120, 40, 30), 0.5),
                )
            step = max(10.0, 0.06 * art.unit * _FINE)
            pane = _mix(wall, (60, 80, 110), 0.6)
            for wy in np.arange(foot - tall + step * 0.5, foot - step, step).tolist():
                for wx in np.arange(x + step * 0.45, x + wide - step * 0.6, step).tolist():
                    box = (wx, wy, wx + step * 0.5, wy + step * 0.6)
                    draw.rectangle(box, pane)
                    if row and rng.random() < 0.6:
                        lamps.append(box)
            x += wide
        if row:
            road = art.tone(0.6, 0.08, 0.42)
            kerb = foot + 0.035 * h
            draw.rectangle((0, foot, image.width, kerb), (190, 190, 188))
            draw.rectangle((0, kerb, image.width, h), road)
            dash, gap = (
                art.unit * _FINE * 0.16,
                image.width / round(image.width / (art.unit * _FINE * 0.3)),
            )
            middle = (kerb + h) / 2
            for wx in np.arange(0, image.width, gap).tolist():
                draw.rectangle((wx, middle, wx + dash, middle + 0.014 * h), (236, 232, 214))
        layer = art.layer(image, (0.5, 1.0)[row])
        if row and art.time != "day":
            pen = ImageDraw.Draw(layer.picture)
            for a, b, c, d in lamps:
                pen.rectangle(
                    (a / 2, b / 2 - layer.top, c / 2, d / 2 - layer.top), (255, 222, 130, 255)
                )
        layers.append(layer)
    return Place(tuple(layers), art.horizon + 0.06)


def _clouds_only(art: _Artist) -> Place:
    art.horizon = 1.0
    sky = _sky(art, 1.0, clouds=False)
    _clouds(art, sky.picture, 1.0, int(art.rng.integers(4, 9) * art.width / (2 * art.height)) + 1)
    return Place((Layer(sky.picture, 0, 1.0),), None)


def _space(art: _Artist) -> Place:
    rng, w, h = art.rng, art.width, art.height
    deep = np.array(art.tone(float(rng.uniform(0.6, 0.85)), 0.7, 0.1))
    glow = np.array(hsv(float(rng.uniform(0.5, 1)), 0.6, 0.5))
    cloud = np.clip(noise(rng, h, w, 1.7)[..., None] * 0.3 + 0.05, 0, 1)
    image = Image.fromarray(np.clip(deep + (glow - deep) * cloud, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(60, 160) * w / h)):
        x, y, tone = rng.uniform(0, w), rng.uniform(0, h), int(rng.integers(90, 256))
        draw.point((x, y), (tone, tone, tone))
        if tone > 230:
            r = 1.2
            draw.ellipse((x - r, y - r, x + r, y + r), (255, 250, 235))
    for _ in range(int(rng.integers(0, 3))):
        r = rng.uniform(0.06, 0.2) * art.unit
        x, y = rng.uniform(r, w - r), rng.uniform(r, h - r)
        tone = np.array(hsv(float(rng.uniform()), 0.5, 0.8))
        px = (np.arange(w, dtype=np.float32)[None] - x) / r
        py = (np.arange(h, dtype=np.float32)[:, None] - y) / r
        lit = np.clip(0.75 - 0.5 * (px + py), 0.12, 1.1)[..., None]
        disc = Image.fromarray(
            (np.clip((1 - np.hypot(px, py)) * r + 0.5, 0, 1) * 255).astype(np.uint8)
        )
        image.paste(Image.fromarray(np.clip(tone * lit, 0, 255).astype(np.uint8)), (0, 0), disc)
    return Place((Layer(image, 0, 1.0),), None)


def _underwater(art: _Artist) -> Place:
    rng, w, h = art.rng, art.width, art.height
    hue = float(rng.uniform(0.48, 0.58))
    stops = [(0.0, hsv(hue - 0.02, 0.5, 0.92)), (1.0, hsv(hue + 0.05, 0.85, 0.36))]
    water = _ramp(h, stops).resize((w, h))
    rays = noise(rng, 2, w, 1.0)[:1]
    shine = np.clip(rays * 40, 0, 90) * np.linspace(1, 0, h, dtype=np.float32)[:, None] ** 1.5
    water.paste((220, 255, 250), (0, 0), Image.fromarray(shine.astype(np.uint8)))
    art.horizon = float(rng.uniform(0.78, 0.88))
    near, nd = art.sheet()
    sand = art.tone(0.12, 0.3, 0.66)
    art.fill_below(nd, art.ridge(art.horizon, 0.06, 1.8), _mix(sand, (20, 90, 120), 0.35))
    for _ in range(int(rng.integers(3, 9) * w / h)):
        x, y = rng.uniform(0, w * _FINE), rng.uniform(art.horizon, 0.95) * h * _FINE
        tall, wave = rng.uniform(0.12, 0.4) * h * _FINE, rng.uniform(0.1, 0.25)
        tone = art.tone(float(rng.choice([0.3, 0.36, 0.95, 0.08])), 0.6, 0.6)
        t = np.linspace(0, 1, 12)
        for at in art.around(x, tall):
            sway = np.sin(t * 5 + x) * wave * 0.3 * tall
            points = list(zip((at + sway).tolist(), (y - t * tall).tolist(), strict=True))
            draw_width = max(3, int(0.035 * art.unit * _FINE))
            nd.line(points, tone, draw_width, joint="curve")
    return Place((Layer(light.at(water, art.time), 0, 0.1), art.layer(near, 1.0)), None)


def _room(art: _Artist) -> Place:
    rng, h, w = art.rng, art.height * _FINE, art.width * _FINE
    art.horizon = float(rng.uniform(0.6, 0.72))
    image, draw = art.sheet()
    wall = art.tone(float(rng.uniform()), 0.22, 0.88)
    draw.rectangle((0, 0, w, art.horizon * h), wall)
    if rng.random() < 0.4:  # wallpaper
        stripe = w / round(w / (0.16 * art.unit * _FINE))
        for x in np.arange(0, w, stripe).tolist():
            draw.rectangle(
                (x, 0, x + stripe / 2, art.horizon * h), _mix(wall, (255, 255, 255), 0.35)
            )
    wood = art.tone(float(rng.uniform(0.04, 0.11)), 0.45, 0.6)
    draw.rectangle((0, art.horizon * h, w, h), wood)
    rows = np.linspace(0, 1, int(rng.integers(4, 7))) ** 1.5
    for y in ((art.horizon + (1 - art.horizon) * rows) * h).tolist():
        draw.line((0, y, w, y), _mix(wood, (0, 0, 0), 0.25), 2)
    board = art.horizon * h
    draw.rectangle((0, board - 0.035 * h, w, board), (245, 243, 238))
    step = w / max(1, round(w / (art.unit * _FINE * rng.uniform(0.6, 0.9))))
    sky = {"day": (160, 208, 250), "sunset": (250, 150, 90), "night": (16, 20, 52)}[art.time]
    panes: list[tuple[float, float, float, float]] = []
    for x in np.arange(step * rng.uniform(0.1, 0.3), w - 0.3 * step, step).tolist():
        top, wide, tall = rng.uniform(0.1, 0.2) * h, 0.42 * step, rng.uniform(0.22, 0.34) * h
        if x + wide > w:
            continue
        if rng.random() < 0.6:
            draw.rectangle((x - 6, top - 6, x + wide + 6, top + tall + 6), (250, 250, 248))
            panes.append((x, top, x + wide, top + tall))
            draw.rectangle((x, top, x + wide, top + tall), (160, 208, 250))
        else:
            draw.rectangle((x - 6, top - 6, x + wide + 6, top + tall + 6), art.tone(0.09, 0.5, 0.5))
            draw.rectangle((x, top, x + wide, top + tall), art.tone(float(rng.uniform()), 0.4, 0.7))
            r = 0.25 * wide
            cx, cy = x + wide / 2, top + tall / 2
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), art.tone(float(rng.uniform()), 0.5, 0.9))
    layer = art.layer(image.convert("RGB"), 1.0)
    pen = ImageDraw.Draw(layer.picture)
    for a, b, c, d in panes:
        pen.rectangle((a / 2, b / 2, c / 2, d / 2), sky)
        pen.line(((a + c) / 4, b / 2, (a + c) / 4, d / 2), (236, 236, 232), 2)
    return Place((layer,), art.horizon)


_PAINTERS: dict[str, Callable[[_Artist], Place]] = {
    "meadow": _meadow,
    "sea": _sea,
    "desert": _desert,
    "snow": _snow,
    "forest": _forest,
    "mountains": _mountains,
    "beach": _beach,
    "city": _town,
    "room": _room,
    "sky": _clouds_only,
    "space": _space,
    "underwater": _underwater,
}
PLACES: tuple[str, ...] = tuple(_PAINTERS)


def paint(name: str, rng: np.random.Generator, width: int, height: int, time: str) -> Place:
    """A place of a name, `width` pixels to its repetition."""
    return _PAINTERS[name](_Artist(rng, width, height, time))


def cover(kind: str, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Something that stands in front of things: RGBA, `width` by `height`, on its lower edge."""
    w, h = width * _FINE, height * _FINE
    image = Image.new("RGBA", (w, h))
    draw = ImageDraw.Draw(image)
    hue, tone = float(rng.uniform()), float(rng.uniform(0.5, 0.85))
    if kind == "wall":
        brick = hsv(float(rng.uniform(0.01, 0.09)), float(rng.uniform(0.3, 0.6)), tone)
        draw.rectangle((0, 0, w, h), _mix(brick, (230, 225, 215), 0.5))
        tall = max(6, h // 9)
        for row, y in enumerate(range(0, h, tall)):
            for x in range(-(row % 2) * tall, w, 2 * tall):
                shade = _mix(brick, (0, 0, 0), float(rng.uniform(0, 0.2)))
                draw.rectangle((x + 2, y + 2, x + 2 * tall - 2, y + tall - 2), shade)
    elif kind == "box":
        wood = hsv(float(rng.uniform(0.06, 0.12)), 0.5, tone)
        draw.rectangle((0, 0, w, h), wood)
        edge = w // 9
        dark = _mix(wood, (0, 0, 0), 0.35)
        for step in range(1, 5):
            x = w * step // 5
            draw.line((x, 0, x, h), dark, 2)
        draw.rectangle((0, 0, w - 1, h - 1), outline=_mix(wood, (255, 255, 255), 0.2), width=edge)
        draw.rectangle((0, 0, w - 1, h - 1), outline=dark, width=3)
        draw.rectangle((edge, edge, w - edge, h - edge), outline=dark, width=2)
    elif kind == "rock":
        grey = hsv(hue, 0.08, tone * 0.85)
        angles = np.linspace(np.pi, 2 * np.pi, 9)
        reach = rng.uniform(0.8, 1.0, 9)
        xs, ys = w / 2 + np.cos(angles) * reach * w / 2, h + np.sin(angles) * reach * h
        points = list(zip(xs.tolist(), ys.tolist(), strict=True))
        draw.polygon([*points, (w, h), (0, h)], grey)
        draw.polygon(
            [*points[1:5], (w * 0.45, h * 0.55), (w * 0.2, h * 0.7)],
            _mix(grey, (255, 255, 255), 0.22),
        )
        draw.polygon([*points[6:], (w, h), (w * 0.75, h)], _mix(grey, (0, 0, 0), 0.25))
    else:
        leaf = hsv(float(rng.uniform(0.22, 0.38)), 0.55, tone * 0.75)
        r = 0.26 * w
        draw.rounded_rectangle((0.04 * w, 0.4 * h, 0.96 * w, h), 0.2 * w, leaf)
        for _ in range(16):
            x, y = rng.uniform(r, w - r), rng.uniform(r, h - 0.6 * r)
            draw.ellipse(
                (x - r, y - r, x + r, y + r),
                _mix(leaf, (240, 250, 140), float(rng.uniform(0, 0.25))),
            )
    return image.reduce(_FINE)
