"""Double exposures: frames behind a change that show two scenes at once.

Every patch of a frame is regressed on what the same patch showed before the change and shows well
after it. Where both are needed to explain it, it is a mixture. A cut shows either, a thing that
grows covers what was there, and light changes what both have: none of them is a mixture. A
cross-fade is.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WATCHED = 2.0
"""Seconds after a change in which mixtures are counted."""
_SETTLED = (2.5, 3.5)
"""Seconds after a change between which the new scene is taken from."""
_SIDE, _PATCH = 72, 9  # pixels of the shorter side, of a patch
_EVERY = 2  # of the frames before and after, those looked at
_SHIFTED = 2  # of those, the ones that are also tried elsewhere
_LIKE, _PRESENT = 0.5, 0.2
"""Correlation from which on a patch counts as unchanged, and the least share of either scene."""
_EXPLAINED, _GAIN = 0.5, 0.1
"""What both have to explain of a patch, and how much more than either alone."""
_SHARE, _AREA = 0.2, 0.03
"""A frame is mixed if this share of what changes is, and this share of the picture."""

Frames = NDArray[np.uint8]
Planes = NDArray[np.float32]


class Sides:
    """What was there before a change, and what is there after it; each in several frames.

    Args:
        before, after: uint8 `[t, h, w, 3]`.
    """

    def __init__(self, before: Frames, after: Frames) -> None:
        # The nearest frames first: a camera that pans has moved least since or until then.
        self._before = [_gradients(frame) for frame in before[::-1]]
        self._after = [_gradients(frame) for frame in after]

    def mixed(self, frame: Frames) -> bool:
        """Whether a frame `[h, w, 3]` shows both."""
        changing, double = self.mixture(frame)
        return double >= _AREA and double >= _SHARE * changing

    def mixture(self, frame: Frames) -> tuple[float, float]:
        """Shares of the picture in which both differ, and in which a frame shows both."""
        seen = _gradients(frame)
        power = _patches(np.square(seen).sum(0))
        old, own_old, square_old = _nearest(seen, power, self._before)
        new, own_new, square_new = _nearest(seen, power, self._after)
        both = _patches((old * new).sum(0))
        floor = 0.15 * float(np.mean([square_old, square_new])) + 1e-3
        clear = (square_old > floor) & (square_new > floor)
        changing = clear & (np.abs(both) < _LIKE * np.sqrt(square_old * square_new))
        determinant = (square_old * square_new - both**2).clip(1e-6)
        a = (own_old * square_new - own_new * both) / determinant
        b = (own_new * square_old - own_old * both) / determinant
        explained = (a * own_old + b * own_new) / (power + 1e-3)
        either = np.maximum(
            own_old.clip(0) ** 2 / (square_old + 1e-3), own_new.clip(0) ** 2 / (square_new + 1e-3)
        )
        alone = either / (power + 1e-3)
        needed = (explained > _EXPLAINED) & (explained - alone > _GAIN)
        double = changing & (a > _PRESENT) & (b > _PRESENT) & needed
        return float(changing.mean()), float(double.mean())


def _gradients(frame: Frames) -> Planes:
    """Gradients `[2, h, w]` of the grey picture."""
    grey = Image.fromarray(frame).convert("L")
    scale = _SIDE / min(grey.size)
    size = (round(grey.width * scale), round(grey.height * scale))
    small = np.asarray(grey.resize(size, Image.Resampling.BOX), np.float32)
    return np.stack(list(np.gradient(small)))


def _nearest(seen: Planes, power: Planes, others: Sequence[Planes]) -> tuple[Planes, ...]:
    """For each patch the frame that it resembles most: gradients, product with it, square.

    The first frames are also tried where they fit best as a whole.
    """
    best = np.full(seen.shape[1:], -np.inf, np.float32)
    chosen = np.zeros_like(seen)
    product, square = np.zeros_like(best), np.zeros_like(best)
    for other in (*others, *(_shifted(other, seen) for other in others[:_SHIFTED])):
        own = _patches((seen * other).sum(0))
        energy = _patches(np.square(other).sum(0))
        likeness = own / np.sqrt(energy * power + 1e-3)
        better = likeness > best
        best = np.where(better, likeness, best)
        chosen = np.where(better, other, chosen)
        product, square = np.where(better, own, product), np.where(better, energy, square)
    return chosen, product, square


def _shifted(other: Planes, seen: Planes) -> Planes:
    """Gradients moved to where they fit others best, empty where nothing is known."""
    shape = tuple(2 * side for side in seen.shape[1:])
    products = np.conj(np.fft.rfft2(other, shape)) * np.fft.rfft2(seen, shape)
    fit = np.fft.irfft2(products.sum(0), shape)
    index = np.unravel_index(int(fit.argmax()), fit.shape)
    down, right = (int(i) - n * (i >= n // 2) for i, n in zip(index, shape, strict=True))
    moved = np.zeros_like(other)
    height, width = other.shape[1:]
    to_rows, to_columns = slice(max(0, down), height + down), slice(max(0, right), width + right)
    rows, columns = slice(max(0, -down), height - down), slice(max(0, -right), width - right)
    moved[:, to_rows, to_columns] = other[:, rows, columns]
    return moved


def _patches(values: Planes) -> Planes:
    """Sums over patches around every pixel."""
    reach = _PATCH // 2
    padded = np.pad(values.astype(np.float64), reach)
    for axis in (0, 1):
        sums = np.cumsum(padded, axis=axis)
        sums = np.concatenate([np.zeros_like(np.take(sums, [0], axis)), sums], axis=axis)
        length = padded.shape[axis]
        late = np.take(sums, range(_PATCH, length + 1), axis)
        padded = late - np.take(sums, range(length + 1 - _PATCH), axis)
    return padded.astype(np.float32)


def double_frames(past: Frames, frames: Frames, fps: float) -> NDArray[np.bool_]:
    """For each watched frame after a change, whether it shows both scenes.

    Args:
        past: the second before the change, uint8 `[t, h, w, 3]`.
        frames: what came after it.
    """
    first, last = (round(seconds * fps) for seconds in _SETTLED)
    after = frames[first:last:_EVERY] if len(frames) > first else frames[-1:]
    sides = Sides(past[: -round(fps) - 1 : -_EVERY][::-1], after)
    return np.array([sides.mixed(frame) for frame in frames[: round(WATCHED * fps)]])
