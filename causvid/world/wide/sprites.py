"""Pictures of the things: sprites from one file, the painted six, and doodles that have no name.

A :class:`Sprite` gives its picture at any phase as premultiplied RGBA, looking to the right. The
sprite file is made by `python -m causvid.world.wide.pack`; nothing but training and tests reads it.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from causvid.world.actors import ACTORS, Act, Pen
from causvid.world.canvas import Colour, Plane, column
from causvid.world.wide.catalogue import KINDS, SPRITES

SHEET = Path(__file__).with_name("sprites.webp")
"""All sprites in rows of `COLUMNS`, in the order of `catalogue.SPRITES`."""

CELL, COLUMNS = 96, 16
"""Pixels of a cell's side, cells in a row."""

PAINT: dict[str, tuple[int, int, int]] = {
    "red": (226, 40, 46),
    "orange": (255, 134, 20),
    "yellow": (252, 214, 40),
    "green": (40, 172, 70),
    "blue": (36, 98, 236),
    "purple": (146, 56, 204),
    "pink": (250, 128, 186),
    "brown": (142, 88, 50),
    "black": (44, 46, 54),
    "white": (244, 244, 246),
    "grey": (140, 144, 152),
    "turquoise": (30, 186, 190),
}

Look = Callable[[float, float], Image.Image]
"""From a clock in seconds and a distance travelled in radii to a square RGBA picture, centred,
that looks to the right. Equal arguments give equal pictures."""


def look(name: str, colour: str, radius: float, rng: np.random.Generator) -> Look:
    """How a thing looks at a radius in pixels (half the longer side of its picture).

    Args:
        name: a kind of the catalogue, or `""` for a doodle drawn from `rng`.
        colour: a colour of `PAINT`, or `""` for its own.
    """
    if name and KINDS[name].painted:
        return _painted(name, colour or "red", radius)
    picture = _doodle(rng) if not name else _sprite(name)
    if colour:
        picture = _dyed(picture, colour)
    side = max(4, round(2 * radius))
    still = picture.resize((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return lambda clock, travel: still


def foot(name: str) -> float:
    """How far below the centre a thing touches the ground, in radii."""
    if name and KINDS[name].painted:
        return ACTORS[name].foot / _REACH
    return _feet()[name] if name else 0.97


def half_width(name: str) -> float:
    """Half the width of what stands on the ground, in radii."""
    if name and KINDS[name].painted:
        return ACTORS[name].half_width / _REACH
    return _widths()[name] if name else 0.9


_REACH = 1.4
"""Half the side of a painted thing's picture, in the painters' own radii."""


class _CoverPen(Pen):
    """A pen on a transparent patch that also keeps what it covers."""

    def __init__(self, patch: Plane, u: Plane, v: Plane, pixel: float, light: Colour) -> None:
        super().__init__(patch, u, v, pixel, 0.0, light)
        self.alpha = np.zeros(patch.shape[1:], np.float32)

    def fill(self, distance: Plane, colour: Colour | Plane) -> None:
        coverage = self.cover(distance)
        self.alpha += coverage * (1 - self.alpha)
        paint = column(colour) if isinstance(colour, tuple) else colour
        self.patch += coverage * (paint * column(self.light) - self.patch)

    def glow(self, strength: Plane, colour: Colour) -> None:
        self.alpha += strength * (1 - self.alpha)
        super().glow(strength, colour)


def _painted(name: str, colour: str, radius: float) -> Look:
    side = max(4, round(2 * radius))
    at = (np.arange(side, dtype=np.float32) + 0.5) * np.float32(2 * _REACH / side) - _REACH
    r, g, b = PAINT[colour]
    paint = (r / 255, g / 255, b / 255)

    @lru_cache(maxsize=64)
    def drawn(clock: float, travel: float, flying: bool) -> Image.Image:
        patch = np.zeros((3, side, side), np.float32)
        pen = _CoverPen(patch, at[None], at[:, None], 2 * _REACH / side, (1.0, 1.0, 1.0))
        ACTORS[name].paint(pen, paint, Act(clock, travel, flying))
        rgba = np.concatenate([patch, pen.alpha[None]])
        data = np.clip(rgba * 255 + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)
        return Image.frombytes("RGBa", (side, side), data.tobytes()).convert("RGBA")

    def at_phase(clock: float, travel: float) -> Image.Image:
        # What does not change is drawn once: wings beat by the clock, wheels turn by the way.
        moving = name in ("bird", "rocket")
        turns = name in ("ball", "car")
        return drawn(
            round(clock, 3) if moving else 0.0, round(travel, 2) if turns else 0.0, name == "rocket"
        )

    return at_phase


@lru_cache(maxsize=1)
def _sheet() -> Image.Image:
    if not SHEET.exists():
        raise FileNotFoundError(
            f"{SHEET} is missing: make it with `python -m causvid.world.wide.pack`"
        )
    with Image.open(SHEET) as sheet:
        return sheet.convert("RGBA")


@lru_cache(maxsize=512)
def _sprite(name: str) -> Image.Image:
    """The picture of a kind, `CELL` pixels square, looking to the right."""
    index = [kind.name for kind in SPRITES].index(name)
    row, place = divmod(index, COLUMNS)
    box = (place * CELL, row * CELL, (place + 1) * CELL, (row + 1) * CELL)
    picture = _sheet().crop(box)
    return ImageOps.mirror(picture) if KINDS[name].facing < 0 else picture


@lru_cache(maxsize=1)
def _feet() -> dict[str, float]:
    boxes = {kind.name: _sprite(kind.name).getbbox() for kind in SPRITES}
    return {name: (box[3] if box else CELL) / CELL * 2 - 1 for name, box in boxes.items()}


@lru_cache(maxsize=1)
def _widths() -> dict[str, float]:
    boxes = {kind.name: _sprite(kind.name).getbbox() for kind in SPRITES}
    return {name: (box[2] - box[0]) / CELL if box else 1.0 for name, box in boxes.items()}


def _dyed(picture: Image.Image, colour: str) -> Image.Image:
    """The picture in shades of one colour; outlines and eyes stay dark, lights stay light."""
    alpha = picture.getchannel("A")
    shades = ImageOps.autocontrast(ImageOps.grayscale(picture), cutoff=2, mask=alpha)
    r, g, b = PAINT[colour]
    dark = (r * 3 // 10, g * 3 // 10, b * 3 // 10)
    light = tuple(c + (255 - c) * 45 // 100 for c in (r, g, b))
    dyed = ImageOps.colorize(shades, dark, light, (r, g, b), 20, 255, 140)
    dyed.putalpha(alpha)
    return dyed


def _doodle(rng: np.random.Generator) -> Image.Image:
    """A drawing without a name: a closed form with an outline, spots or stripes, perhaps eyes."""
    size = 4 * CELL
    image = Image.new("RGBA", (size, size))
    draw = ImageDraw.Draw(image)
    hue = rng.integers(30, 250, 3)
    fill, other = tuple(hue.tolist()), tuple(rng.integers(20, 250, 3).tolist())
    ink = tuple((hue // 4).tolist())
    corners = int(rng.integers(3, 9))
    turn = rng.uniform(0, 2 * np.pi)
    angles = turn + 2 * np.pi * (np.arange(corners) + rng.uniform(-0.25, 0.25, corners)) / corners
    reach = rng.uniform(0.55, 0.96, corners)
    if rng.random() < 0.55:  # round
        fine = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        waves = sum(
            rng.uniform(-1, 1) / k * np.cos(k * fine + rng.uniform(0, 6)) for k in (2, 3, 4, 5)
        )
        angles, reach = fine, np.clip(0.74 + 0.16 * waves, 0.35, 0.96)
    scale = (size / 2 - 6) * np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None]
    points = [(float(x), float(y)) for x, y in scale + size / 2]
    draw.polygon(points, fill=fill)
    form = image.getchannel("A")
    kind = rng.integers(3)
    for _ in range(int(rng.integers(2, 7)) if kind else 0):
        x, y = rng.uniform(0.15, 0.85, 2) * size
        if kind == 1:
            r = rng.uniform(0.04, 0.13) * size
            draw.ellipse((x - r, y - r, x + r, y + r), fill=other)
        else:
            dx, dy = rng.uniform(-0.6, 0.6, 2) * size
            draw.line((x - dx, y - dy, x + dx, y + dy), fill=other, width=int(0.05 * size))
    if rng.random() < 0.5:
        for side in (-1, 1):
            x, y, r = size / 2 + side * 0.13 * size, 0.42 * size, 0.085 * size
            draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))
            r, x = r / 2, x + 0.02 * size
            draw.ellipse((x - r, y - r, x + r, y + r), fill=(20, 20, 24))
    if rng.random() < 0.7:
        draw.line([*points, *points[:2]], fill=ink, width=int(size * 0.035), joint="curve")
        form = Image.new("L", (size, size))
        pen = ImageDraw.Draw(form)
        pen.polygon(points, fill=255)
        pen.line([*points, *points[:2]], fill=255, width=int(size * 0.035), joint="curve")
    image.putalpha(form)
    return image.resize((CELL, CELL), Image.Resampling.BOX)
