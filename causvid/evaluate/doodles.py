"""Drawings as people make them to try a model: a house, a tree, a sun, a car, a figure, on paper.

No world draws them and no model is trained on them.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_FINE = 2
_PAPERS = ((255, 255, 255), (250, 244, 228), (238, 244, 252), (28, 30, 36))
_INKS = ((30, 30, 40), (180, 40, 40), (40, 70, 170), (30, 120, 60), (220, 120, 30), (120, 50, 140))


class _Pencil:
    """Draws in units of the picture's height, with a trembling hand."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self._rng, self.unit = rng, height * _FINE
        self.wide = width / height
        paper = _PAPERS[int(rng.integers(len(_PAPERS)))]
        self._inks = [ink for ink in _INKS if abs(sum(ink) - sum(paper)) > 150]
        if sum(paper) < 300:
            self._inks = [(235, 235, 230), (250, 200, 80), (120, 200, 250)]
        self.picture = Image.new("RGB", (width * _FINE, height * _FINE), paper)
        self._draw = ImageDraw.Draw(self.picture)
        self._thick = max(2, round(float(rng.uniform(0.008, 0.02)) * self.unit))

    def ink(self) -> tuple[int, int, int]:
        return self._inks[int(self._rng.integers(len(self._inks)))]

    def line(self, points: list[tuple[float, float]], closed: bool = False) -> None:
        """A line; closed ones are filled now and then."""
        shaky = [
            (x * self.unit + dx, y * self.unit + dy)
            for (x, y), (dx, dy) in zip(
                points, self._rng.normal(0, 0.004 * self.unit, (len(points), 2)), strict=True
            )
        ]
        if closed:
            if self._rng.random() < 0.4:
                self._draw.polygon(shaky, fill=self.ink())
            shaky.append(shaky[0])
        self._draw.line(shaky, fill=self.ink(), width=self._thick, joint="curve")

    def ring(self, x: float, y: float, radius: float) -> None:
        angles = np.linspace(0, 2 * np.pi, 22, endpoint=False)
        ring = zip(x + radius * np.cos(angles), y + radius * np.sin(angles), strict=True)
        self.line([(float(a), float(b)) for a, b in ring], closed=True)


def _house(pen: _Pencil, x: float, y: float, s: float) -> None:
    pen.line([(x - s, y), (x - s, y - s), (x + s, y - s), (x + s, y)], closed=True)
    pen.line([(x - 1.2 * s, y - s), (x, y - 1.9 * s), (x + 1.2 * s, y - s)], closed=True)
    pen.line([(x - 0.2 * s, y), (x - 0.2 * s, y - 0.5 * s), (x + 0.2 * s, y - 0.5 * s)])
    pen.line([(x + 0.2 * s, y - 0.5 * s), (x + 0.2 * s, y)])


def _tree(pen: _Pencil, x: float, y: float, s: float) -> None:
    pen.line([(x, y), (x, y - s)])
    pen.ring(x, y - 1.4 * s, 0.5 * s)


def _figure(pen: _Pencil, x: float, y: float, s: float) -> None:
    pen.ring(x, y - 1.7 * s, 0.28 * s)
    pen.line([(x, y - 1.4 * s), (x, y - 0.7 * s), (x - 0.4 * s, y)])
    pen.line([(x, y - 0.7 * s), (x + 0.4 * s, y)])
    pen.line([(x - 0.5 * s, y - 1.2 * s), (x + 0.5 * s, y - 1.1 * s)])


def _car(pen: _Pencil, x: float, y: float, s: float) -> None:
    body = (
        (-1.3, 0.2),
        (-1.3, 0.6),
        (-0.7, 0.65),
        (-0.4, 1.1),
        (0.5, 1.1),
        (0.8, 0.6),
        (1.3, 0.55),
    )
    pen.line([(x + a * s, y - b * s) for a, b in (*body, (1.3, 0.2))], closed=True)
    pen.ring(x - 0.7 * s, y - 0.2 * s, 0.22 * s)
    pen.ring(x + 0.7 * s, y - 0.2 * s, 0.22 * s)


_FORMS = (_house, _tree, _figure, _car)


def doodle(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A drawing, uint8 `[height, width, 3]`."""
    pen = _Pencil(rng, height, width)
    ground = float(rng.uniform(0.7, 0.88))
    pen.line([(pen.wide * i / 8, ground + float(rng.normal(0, 0.006))) for i in range(9)])
    places = np.linspace(0.18, 0.82, count := int(rng.integers(2, 4)))
    for place in places:
        form = _FORMS[int(rng.integers(len(_FORMS)))]
        size = float(rng.uniform(0.55, 1)) * min(0.2, 0.34 * pen.wide / count)
        form(pen, float(place) * pen.wide, ground + float(rng.uniform(0, 0.04)), size)
    if rng.random() < 0.7:
        pen.ring(float(rng.uniform(0.1, 0.9)) * pen.wide, 0.16, 0.08)
    return np.asarray(pen.picture.reduce(_FINE))
