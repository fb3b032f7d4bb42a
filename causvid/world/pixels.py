"""Clips as a codec is trained on and judged by them.

Clips are uint8 tensors [t, H, W, 3] with t = 1 + 4 k; pixels are float [b, t, 3, H, W] in [-1, 1].
"""

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
    """The stream as the network sees it: its first picture fills a group of `frames`."""
    return torch.cat([pixels[:, :1].expand(-1, frames - 1, -1, -1, -1), pixels], dim=1)
