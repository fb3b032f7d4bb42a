"""Structure of pictures: how much of one is still there in another, wherever the camera went.

Compared are gradients, which keep their places and directions when the light changes. The later
picture may be shifted and zoomed against the first one, as by a camera; what is left is the
normalised correlation of what both show: 1 for a picture and itself under any camera, about
a third for two that have nothing in common, as the best of many shifts is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

ZOOMS = tuple(float(z) for z in np.geomspace(1 / 1.7, 1.7, 15))
"""Sizes of the later picture over those of the first that are tried."""

_SIDE = 64
"""Pixels of the shorter side of a map: what is lost to smaller ones, nobody misses at a glance."""
_BLUR = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_WIDE = 5
_FAINT = 1.0
"""Grey levels: gradients below it, such as noise, count for less than their square roots."""
_OVERLAP = 0.4
"""The least share of the smaller picture that both have to show."""

Plane = NDArray[np.float32]


def edges(frame: NDArray[np.uint8], zoom: float = 1.0) -> Plane:
    """Gradients `[2, h, w]` of a picture uint8 `[H, W, 3]`, taller and wider by `zoom`.

    Their lengths are square roots, so that a few strong edges do not outweigh all others.
    """
    grey = Image.fromarray(frame).convert("L")
    scale = zoom * _SIDE / min(grey.size)
    size = (max(8, round(grey.width * scale)), max(8, round(grey.height * scale)))
    small = grey.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)
    soft = _softened(_softened(np.asarray(small, np.float32)).T).T
    # Without what is wide, or any sky that darkens upwards would be like any other.
    wide = small.filter(ImageFilter.BoxBlur(_WIDE))
    gradients = np.stack(np.gradient(soft - np.asarray(wide, np.float32)))
    return gradients / np.sqrt(np.hypot(*gradients) + _FAINT)


@dataclass(frozen=True)
class Alignment:
    """How a later picture shows what a first one shows.

    Attributes:
        kept: normalised cross-correlation of the edges where both are seen, at most 1.
        right, down: how far the picture's contents have moved, in widths and heights.
        zoom: how much larger they have become.
    """

    kept: float
    right: float
    down: float
    zoom: float


class Reference:
    """A picture that later ones are compared with.

    Args:
        frame: uint8 `[h, w, 3]`.
        zooms: those that are tried.
    """

    def __init__(self, frame: NDArray[np.uint8], zooms: Sequence[float] = ZOOMS) -> None:
        self._frame, self._zooms = frame, tuple(zooms)

    def find(self, later: NDArray[np.uint8]) -> Alignment:
        """Where, how large, and how well the picture is found in a later one of its size."""
        target = edges(later)
        height, width = target.shape[-2:]
        best = Alignment(-1.0, 0.0, 0.0, 1.0)
        for zoom, (size, spectra) in zip(self._zooms, self._maps, strict=True):
            scores = _correlations(spectra, size, target)
            index = np.unravel_index(int(scores.argmax()), scores.shape)
            if scores[index] > best.kept:
                down = int(index[0]) - (size[0] - 1) + (size[0] - height) / 2
                right = int(index[1]) - (size[1] - 1) + (size[1] - width) / 2
                best = Alignment(float(scores[index]), right / width, down / height, zoom)
        return best

    @cached_property
    def _maps(self) -> list[tuple[tuple[int, int], NDArray[np.complex64]]]:
        maps = [edges(self._frame, zoom) for zoom in self._zooms]
        plain = edges(self._frame)
        return [
            (size, np.fft.rfft2(_moments(m)[:, ::-1, ::-1], _sum(size, plain)).astype(np.complex64))
            for m, size in ((m, (m.shape[1], m.shape[2])) for m in maps)
        ]


def kept(first: NDArray[np.uint8], later: NDArray[np.uint8]) -> float:
    """`Alignment.kept` of two pictures."""
    return Reference(first).find(later).kept


def _softened(values: Plane) -> Plane:
    """Blurred along the first axis."""
    reach = len(_BLUR) // 2
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    parts = (weight * padded[i : i + len(values)] for i, weight in enumerate(_BLUR))
    return np.sum(list(parts), axis=0, dtype=np.float32)


def _moments(gradients: Plane) -> Plane:
    """Ones, squares, and both components: what sums over overlaps are made of."""
    return np.stack([np.ones_like(gradients[0]), np.square(gradients).sum(0), *gradients])


def _correlations(
    spectra: NDArray[np.complex64], size: tuple[int, int], target: Plane
) -> NDArray[np.float64]:
    """Normalised correlations of gradients with a target's at every shift; -1 at small overlaps.

    Args:
        spectra: of the moments of the first ones, turned by half a turn.
    """
    height, width = target.shape[-2:]
    ones, squares, down, right = np.fft.rfft2(_moments(target), shape := _sum(size, target))
    one, square, own_down, own_right = spectra
    both = own_down * down + own_right * right
    products = np.stack([one * ones, square * ones, one * squares, both])
    count, first, second, both = np.fft.irfft2(products, shape)
    scores = both / np.sqrt(first.clip(0) * second.clip(0) + 1e-3)
    least = _OVERLAP * min(size[0] * size[1], height * width)
    scores[count.round() < least] = -1
    return np.minimum(scores, 1.0)


def _sum(size: tuple[int, int], target: Plane) -> tuple[int, int]:
    return size[0] + target.shape[-2], size[1] + target.shape[-1]
