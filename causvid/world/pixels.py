"""Rendered clips as tensors, what a codec is trained on and compared with.

Clips are uint8 tensors [t, H, W, 3] with t = 1 + 4 k; pixels are float [b, t, 3, H, W] in [-1, 1].
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from causvid.world import Scene, Split, render


def diorama_clip(
    rng: np.random.Generator,
    *,
    frames: int,
    height: int = 128,
    width: int = 224,
    split: Split = "train",
) -> Tensor:
    """A clip of a random scene, from its beginning or from later on."""
    return clip_of(Scene.sample(rng, split), rng, frames, height, width)


def clip_of(
    scene: Scene, rng: np.random.Generator, frames: int, height: int = 128, width: int = 224
) -> Tensor:
    """A clip of a scene, from its beginning or from later on."""
    start = int(rng.integers(160)) if rng.random() < 0.7 else 0
    seed = int(rng.integers(2**31))
    return torch.from_numpy(
        render(scene, frames=frames, height=height, width=width, start=start, seed=seed)
    )


def clip_to_pixels(clips: Sequence[Tensor]) -> Tensor:
    """Float pixels [b, t, 3, H, W] in [-1, 1] of uint8 clips [t, H, W, 3]."""
    return torch.stack(tuple(clips)).permute(0, 1, 4, 2, 3).float() / 127.5 - 1


def with_run_up(pixels: Tensor, frames: int) -> Tensor:
    """Pixels in whole groups of `frames`: the first picture is repeated to fill the first group."""
    return torch.cat([pixels[:, :1].expand(-1, frames - 1, -1, -1, -1), pixels], dim=1)


def psnr(error: float, peak: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean square error; at most 60, that of equal pictures.

    Args:
        peak: range of the values: 255 for bytes, 2 for pixels in [-1, 1].
    """
    return min(60.0, 10 * math.log10(peak**2 / max(error, 1e-9)))
