"""The segmenter: which pixels of a picture belong to things, and how many things there are.

It is trained on rendered pictures of the wide world alone, and looks at generated ones. It sees
single frames, and knows neither prompts nor models. It is asked about places with names only: what
is a thing in a picture that is nothing but forms, no single frame can tell.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from causvid.resources import ROOT
from causvid.world.wide.scene import PLACED, Scene

SHIPPED = ROOT / "assets" / "report" / "segmenter"
"""The weights of the segmenter that comes with the repository, if one does."""

MOST = 2
"""The most things it counts."""

_PAINTED_INTO_PLACES = (
    *("tree", "pine", "palm", "cactus", "plant", "mushroom", "sunflower", "tulip", "daisy"),
    *("cloud", "sun", "moon", "star", "planet", "earth", "snowflake", "house", "castle", "tower"),
    *("chair", "sofa", "bed", "television", "book", "shell", "box", "statue", "fountain", "tent"),
)
"""Kinds that look like parts of places."""
_BATCH = 32
_MULTIPLE = 16  # of the sides that the network takes


def answerable(scene: Scene) -> bool:
    """Whether one frame of a scene tells its things from its background."""
    return scene.background in PLACED and not any(
        thing.kind in _PAINTED_INTO_PLACES for thing in scene.things
    )


class _Block(nn.Sequential):
    """Two convolutions with one normalisation; `stride` is that of the first."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1),
            nn.GroupNorm(4, outputs),
            nn.SiLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1),
            nn.SiLU(),
        )


class Segmenter(ModelMixin, ConfigMixin):
    """Masks and counts of the things in pictures.

    Args:
        pixels: about how many a picture is reduced to, by averaging areas.
        channels: at a half, a quarter, … of that size.
    """

    @register_to_config
    def __init__(self, pixels: int = 96 * 160, channels: tuple[int, ...] = (24, 48, 96, 128, 128)):
        super().__init__()
        channels = tuple(channels)
        self.stem = nn.Conv2d(3, channels[0], 5, 2, 2)
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(_Block(a, b, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(_Block(a + b, a) for a, b in reversed(pairs))
        self.fine = nn.Conv2d(channels[0], 32, 3, 1, 1)
        self.mask = nn.Sequential(nn.Conv2d(8 + 3, 8, 3, 1, 1), nn.SiLU(), nn.Conv2d(8, 1, 3, 1, 1))
        self.count = nn.Sequential(
            nn.Linear(2 * (channels[-1] + channels[0]), 64), nn.SiLU(), nn.Linear(64, MOST + 1)
        )

    @classmethod
    def load(cls, folder: Path = SHIPPED) -> "Segmenter":
        """A trained segmenter, in float32, in evaluation mode.

        Raises:
            ValueError: if it is not there.
        """
        if not (folder / "config.json").exists():
            raise ValueError(
                f"no segmenter in {folder}: `python -m causvid train segmenter` makes one"
            )
        model = cls.from_pretrained(folder, torch_dtype=torch.float32)
        return model.eval().requires_grad_(False)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """What pictures of a size are reduced to, height and width."""
        scale = (self.config.pixels / (height * width)) ** 0.5
        return _whole(height * scale), _whole(width * scale)

    def reduce(self, pictures: Tensor) -> Tensor:
        """Pictures or masks `[n, c, h, w]` at the size that the network takes."""
        size = self.size(*pictures.shape[-2:])
        return (
            pictures if pictures.shape[-2:] == size else F.interpolate(pictures, size, mode="area")
        )

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the masks `[n, h, w]` and of the counts `[n, MOST + 1]` of reduced pictures
        `[n, 3, h, w]` in [-1, 1]."""
        seen = [F.silu(self.stem(pictures))]
        for block in self.down:
            seen.append(block(seen[-1]))
        deep = x = seen.pop()
        for block in self.up:
            x = F.interpolate(x, seen[-1].shape[-2:], mode="bilinear")
            x = block(torch.cat([x, seen.pop()], dim=1))
        fine = F.silu(F.pixel_shuffle(self.fine(x), 2))
        mask = self.mask(torch.cat([fine, pictures], dim=1))[:, 0]
        pooled = [f(part) for part in (deep, x) for f in (_mean, _most)]
        return mask, self.count(torch.cat(pooled, dim=1))

    @torch.inference_mode()
    def look(self, frames: np.ndarray) -> "Things":
        """What is seen in frames uint8 `[t, h, w, 3]`."""
        masks, counts = [], []
        for i in range(0, len(frames), _BATCH):
            part = torch.from_numpy(frames[i : i + _BATCH]).permute(0, 3, 1, 2).float()
            mask, count = self(self.reduce(part) / 127.5 - 1)
            masks.append(mask.sigmoid())
            counts.append(count.argmax(1))
        return Things(torch.cat(masks).numpy(), torch.cat(counts).numpy())


@dataclass(frozen=True, eq=False)
class Things:
    """What the segmenter sees.

    Attributes:
        masks: float32 `[t, h, w]` in [0, 1], at the segmenter's size.
        counts: int64 `[t]`.
    """

    masks: np.ndarray
    counts: np.ndarray


def _whole(length: float) -> int:
    return max(1, round(length / _MULTIPLE)) * _MULTIPLE


def _mean(features: Tensor) -> Tensor:
    return features.mean((-2, -1))


def _most(features: Tensor) -> Tensor:
    return features.amax((-2, -1))
