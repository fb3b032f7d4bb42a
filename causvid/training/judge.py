"""The judge stage: the classifier that judges videos, trained on rendered clips alone.

It never sees a combination that is held out, nor any reconstruction or generated frame. What it
must be indifferent to is added by hand: blur, noise of two sizes, brightness, contrast, a cast of
colour, and a clock that runs a little fast or slow. Half of the clips are mirrored, left for right.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from causvid.generation.generator import seeded
from causvid.training.config import JudgeConfig
from causvid.training.model_stage import ModelStage
from causvid.world import ATTRIBUTES, FPS, Scene, Split, render
from causvid.world.judge import Judge

_BEGINNING_SHARE = 0.2
_LATEST_START = 480  # 30 s: every motion and drift has come round
_CELL = 8  # pixels at the judge's size: as coarse as a latent's error would be
_BLUR_REACH = 4

_MOTIONS = ATTRIBUTES["motion"]
_OPPOSITE = {"left": "right", "right": "left"}
_MIRRORED = torch.tensor([_MOTIONS.index(_OPPOSITE.get(motion, motion)) for motion in _MOTIONS])


@dataclass(frozen=True, eq=False)
class LabelledClips:
    """Clips and what they show.

    Attributes:
        pixels: reduced, uint8 `[n, t, 3, h, w]`.
        labels: indices into each attribute's values, `[n, 6]`.
    """

    pixels: Tensor
    labels: Tensor


def labelled_clips(
    judge: Judge,
    rng: np.random.Generator,
    count: int,
    *,
    split: Split = "train",
    tempo: float = 0.0,
) -> LabelledClips:
    """Random scenes of the split, each for as many frames as a motion is read from."""
    pixels, labels = [], []
    for _ in range(count):
        scene = Scene.sample(rng, split)
        later = rng.random() >= _BEGINNING_SHARE
        frames = render(
            scene,
            frames=judge.config.frames,
            start=int(rng.integers(_LATEST_START)) if later else 0,
            fps=FPS * float(rng.uniform(1 - tempo, 1 + tempo)),
            seed=int(rng.integers(2**31)),
        )
        reduced = judge.reduce(torch.from_numpy(frames).permute(0, 3, 1, 2).float())
        pixels.append(reduced.round().to(torch.uint8))
        labels.append(torch.tensor(scene.labels()))
    return LabelledClips(torch.stack(pixels), torch.stack(labels))


def new_judge(seed: int) -> Judge:
    """An untrained judge, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Judge()


def mirrored(clips: Tensor, labels: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """Clips `[b, t, 3, h, w]` and labels `[b, 6]`, left for right where `which` `[b]` says so."""
    motion = list(ATTRIBUTES).index("motion")
    turned = labels.clone()
    turned[:, motion] = _MIRRORED[labels[:, motion]]
    return (
        torch.where(which.view(-1, 1, 1, 1, 1), clips.flip(-1), clips),
        torch.where(which[:, None], turned, labels),
    )


def worsened(clips: Tensor, config: JudgeConfig, generator: torch.Generator) -> Tensor:
    """Clips `[b, t, 3, h, w]` in [-1, 1], each blurred, toned and made noisy to its own degree."""
    count, frames = clips.shape[:2]

    def degree(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator)

    clips = _blurred(clips, config.blur * degree())
    contrast = 1 + config.tone * (2 * degree(1, 1, 1, 1) - 1)
    cast = config.tone * (2 * degree(1, 3, 1, 1) - 1)
    brightness = config.tone * (2 * degree(1, 1, 1, 1) - 1)
    clips = clips * contrast + cast + brightness
    height, width = clips.shape[-2:]
    cells = torch.randn(count * frames, 3, height // _CELL, width // _CELL, generator=generator)
    coarse = F.interpolate(cells, size=(height, width), mode="bilinear").view_as(clips)
    fine = torch.randn(clips.shape, generator=generator)
    strength = degree(2, 1, 1, 1, 1).square()  # mostly little
    noise = config.cell_noise * strength[:, 0] * coarse + config.noise * strength[:, 1] * fine
    return (clips + noise).clamp(-1, 1)


def _blurred(clips: Tensor, deviations: Tensor) -> Tensor:
    """Gaussian blur of each clip `[b, t, 3, h, w]` by its own deviation `[b]`."""
    offsets = torch.arange(-_BLUR_REACH, _BLUR_REACH + 1)
    kernels = torch.exp(-0.5 * (offsets / deviations.clamp_min(0.1)[:, None]).square())
    kernels = kernels / kernels.sum(1, keepdim=True)
    planes = clips.flatten(1, 2).transpose(0, 1)  # [t * 3, b, h, w]: a channel for every clip
    for shape, pad in (((1, -1), (1, 1, 0, 0)), ((-1, 1), (0, 0, 1, 1))):
        padded = F.pad(planes, [_BLUR_REACH * side for side in pad], mode="replicate")
        weight = kernels.view(len(kernels), 1, *shape)
        planes = F.conv2d(padded, weight, groups=len(kernels))
    return planes.transpose(0, 1).reshape(clips.shape)


class JudgeStage(ModelStage[JudgeConfig]):
    """Trains a `Judge` on rendered clips: cross entropy, summed over attributes."""

    def __init__(self, model: Judge, config: JudgeConfig, *, seed: int = 0) -> None:
        super().__init__(model, config, seed=seed)
        self.judge = model
        self._pools = lru_cache(maxsize=1)(self._draw_pool)

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        config, device, generator = self.config, self.accelerator.device, seeded(*key)
        pool = self._pools(step // config.pool_steps, key[-1])
        chosen = torch.randint(len(pool.pixels), (config.batch,), generator=generator)
        turn = torch.rand(config.batch, generator=generator) < 0.5
        clips, labels = mirrored(pool.pixels[chosen], pool.labels[chosen], turn)
        clips = worsened(clips.float() / 127.5 - 1, config, generator)
        frame = torch.randint(clips.shape[1], (config.batch,), generator=generator)
        pictures = clips[torch.arange(config.batch), frame]
        logits = self.model(pictures.to(device), clips.to(device))
        wanted = dict(zip(ATTRIBUTES, labels.T.to(device), strict=True))
        losses = [F.cross_entropy(logits[name].float(), wanted[name]) for name in ATTRIBUTES]
        return torch.stack(losses).sum()

    def _draw_pool(self, index: int, place: int) -> LabelledClips:
        rng = np.random.default_rng((self.seed, index, place))
        return labelled_clips(self.judge, rng, self.config.pool, tempo=self.config.tempo)
