"""The judge: a classifier that names the attributes of a clip of the world from its pixels.

It has two towers. One sees single frames and names object, colour, ground, time and weather. The
other sees differences between consecutive frames alone and names the motion, so that a car that
faces left is not taken for one that drives left; for a still picture its input is zero.

It is trained on rendered clips alone, and judges generated ones. It does not know prompts, models
or how a picture was made. Pixels are float [b, t, 3, H, W] in [-1, 1] of any size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from causvid.resources import ROOT
from causvid.world import ATTRIBUTES, Scene
from causvid.world.pixels import clip_to_pixels

SEEN_AT_ONCE = tuple(name for name in ATTRIBUTES if name != "motion")
"""The attributes that a single frame shows."""

SHIPPED = ROOT / "assets" / "report" / "reader"
"""The weights of the judge that comes with the repository."""

_BATCH = 64  # frames or windows in one pass


class _Tower(nn.Module):
    """Pictures `[n, c, h, w]` to features `[n, d]`: strided convolutions, mean and maximum.

    No normalisation: how strong a difference is tells noise from movement.
    """

    def __init__(self, inputs: int, channels: tuple[int, ...], features: int):
        super().__init__()
        layers: list[nn.Module] = []
        for index, outputs in enumerate(channels):
            size = 5 if index == 0 else 3
            stride = 2 if index < 3 else 1
            layers += [nn.Conv2d(inputs, outputs, size, stride, size // 2), nn.SiLU()]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.project = nn.Linear(2 * inputs, features)
        for layer in layers:
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, pictures: Tensor) -> Tensor:
        seen = self.layers(pictures)
        return self.project(torch.cat([seen.mean((-2, -1)), seen.amax((-2, -1))], dim=1))


class Judge(ModelMixin, ConfigMixin):
    """Names the attributes of clips of the world.

    Args:
        height, width: pixels that pictures are reduced to.
        frames: consecutive frames that a motion is read from.
        look_channels, motion_channels: of the convolutions; the first three halve the picture.
        features: length of a tower's feature vector.
    """

    @register_to_config
    def __init__(
        self,
        height: int = 64,
        width: int = 112,
        frames: int = 8,
        look_channels: tuple[int, ...] = (24, 48, 96, 96),
        motion_channels: tuple[int, ...] = (32, 64, 96, 96),
        features: int = 64,
    ):
        super().__init__()
        self.look = _Tower(3, tuple(look_channels), features)
        self.motion = _Tower(3 * (frames - 1), tuple(motion_channels), features)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(features, len(values)) for name, values in ATTRIBUTES.items()}
        )

    @classmethod
    def load(cls, folder: Path = SHIPPED) -> "Judge":
        """A trained judge, in float32, in evaluation mode.

        Raises:
            ValueError: if it is not there.
        """
        if not (folder / "config.json").exists():
            raise ValueError(f"no judge in {folder}: `python -m causvid train judge` makes one")
        judge = cls.from_pretrained(folder, torch_dtype=torch.float32)
        return judge.eval().requires_grad_(False)

    def reduce(self, pixels: Tensor) -> Tensor:
        """Pictures `[…, 3, H, W]` at the size that the towers take, by averaging areas."""
        size = (self.config.height, self.config.width)
        if pixels.shape[-2:] == size:
            return pixels
        small = F.interpolate(pixels.flatten(0, -4), size=size, mode="area")
        return small.view(*pixels.shape[:-2], *size)

    def motion_features(self, windows: Tensor) -> Tensor:
        """Features `[n, d]` of reduced windows `[n, frames, 3, h, w]`."""
        return self.motion(windows.diff(dim=1).flatten(1, 2))

    def forward(self, pictures: Tensor, windows: Tensor) -> dict[str, Tensor]:
        """Each attribute's logits `[n, values]` from a reduced frame and a window of each clip."""
        return self.logits(self.look(pictures), self.motion_features(windows))

    def logits(self, look: Tensor, motion: Tensor) -> dict[str, Tensor]:
        """Each attribute's logits `[n, values]` from the features of both towers."""
        return {
            name: head(F.silu(motion if name == "motion" else look))
            for name, head in self.heads.items()
        }

    @torch.inference_mode()
    def assess(self, frames: np.ndarray, *, stride: int = 4) -> "Judgement":
        """Judge a clip in windows that begin every `stride` frames.

        Args:
            frames: uint8 `[t, h, w, 3]`.

        Raises:
            ValueError: if the clip is shorter than a window.
        """
        length = self.config.frames
        if len(frames) < length:
            raise ValueError(f"a motion is judged from {length} frames or more, got {len(frames)}")
        starts = tuple(range(0, len(frames) - length + 1, stride))
        parts = (frames[i : i + _BATCH] for i in range(0, len(frames), _BATCH))
        small = torch.cat([self.reduce(clip_to_pixels([torch.from_numpy(p)])[0]) for p in parts])
        look = torch.cat([self.look(part) for part in small.split(_BATCH)])
        windows = small.unfold(0, length, stride).movedim(-1, 1)  # [n, frames, 3, h, w], a view
        motion = torch.cat([self.motion_features(part) for part in windows.split(_BATCH)])
        scores = {name: x.log_softmax(1) for name, x in self.logits(look, motion).items()}
        for name in SEEN_AT_ONCE:
            scores[name] = _window_means(scores[name], length, stride)
        features = torch.cat([_window_means(look, length, stride), motion], dim=1)
        return Judgement(starts, scores, features)


@dataclass(frozen=True, eq=False)
class Judgement:
    """What each window of consecutive frames shows.

    Attributes:
        starts: the first frame of each window.
        log_probabilities: for each attribute `[windows, values]`, in the order of `ATTRIBUTES`.
        features: `[windows, 2 d]`: of the looks, averaged over the window, and of the motion.
    """

    starts: tuple[int, ...]
    log_probabilities: Mapping[str, Tensor]
    features: Tensor

    def matches(self, scene: Scene) -> dict[str, np.ndarray]:
        """For each attribute and window, whether the value is that of the scene."""
        wanted = dict(zip(ATTRIBUTES, scene.labels(), strict=True))
        return {
            name: (scores.argmax(1) == wanted[name]).numpy()
            for name, scores in self.log_probabilities.items()
        }

    def trailing(self, count: int) -> "Judgement":
        """The same, each window averaged with up to `count - 1` windows before it."""
        scores = {
            name: torch.stack(
                [values[max(0, i + 1 - count) : i + 1].mean(0) for i in range(len(values))]
            )
            for name, values in self.log_probabilities.items()
        }
        return replace(self, log_probabilities=scores)

    @property
    def values(self) -> dict[str, str]:
        """The value of each attribute, all windows together."""
        return {
            name: ATTRIBUTES[name][int(scores.mean(0).argmax())]
            for name, scores in self.log_probabilities.items()
        }


def _window_means(values: Tensor, length: int, stride: int) -> Tensor:
    return values.unfold(0, length, stride).mean(-1)
