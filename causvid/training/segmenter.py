"""The segmenter stage: masks and counts of things, learned from rendered pictures alone.

Training draws the split `train`; accuracy is read on `held_out` combinations and on `unseen` kinds.
What it must be indifferent to is added by hand, as for the judge: blur, noise, tone.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from causvid.generation.generator import seeded
from causvid.training.config import SegmenterConfig
from causvid.training.model_stage import ModelStage
from causvid.world.wide import FORMATS, Scene, Shot, Split, film_with_truth
from causvid.world.wide.segmenter import Segmenter, answerable

_LATEST_START = 160  # frames
_MOMENTS = 3  # pictures of each scene
_UNSURE = (0.04, 0.45)
"""A thing of which this share is seen counts neither as one nor as none."""
_CELL = 8


@dataclass(frozen=True, eq=False)
class SegmentedPictures:
    """Pictures and what is in them, reduced.

    Attributes:
        pictures: uint8 `[n, 3, h, w]`.
        masks: float32 `[n, h, w]` in [0, 1], how much of each pixel shows a thing.
        counts: int64 `[n]`; -1 where too little of a thing is seen to say.
    """

    pictures: Tensor
    masks: Tensor
    counts: Tensor


def segmented_pictures(
    model: Segmenter,
    rng: np.random.Generator,
    scenes: int,
    *,
    split: Split = "train",
    shape: str = "landscape",
) -> SegmentedPictures:
    """Pictures of random scenes of a split, a few moments of each, in a format of `FORMATS`."""
    height, width = FORMATS[shape]
    pictures, masks, counts = [], [], []
    for _ in range(scenes):
        while not answerable(scene := Scene.sample(rng, split)):
            pass
        for start in rng.integers(_LATEST_START, size=_MOMENTS):
            frames, truth = film_with_truth(
                [Shot(0, scene)], frames=1, height=height, width=width, start=int(start)
            )
            picture = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
            mask = torch.from_numpy(truth.masks[:, :2].max(1, keepdims=True)).float() / 255
            pictures.append(model.reduce(picture)[0].round().to(torch.uint8))
            masks.append(model.reduce(mask)[0, 0])
            counts.append(_count(truth.visible[0]))
    return SegmentedPictures(torch.stack(pictures), torch.stack(masks), torch.tensor(counts))


def _count(visible: np.ndarray) -> int:
    low, high = _UNSURE
    if ((visible > low) & (visible < high)).any():
        return -1
    return int((visible >= high).sum())


def new_segmenter(seed: int) -> Segmenter:
    """An untrained segmenter, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Segmenter()


def worsened(pictures: Tensor, config: SegmenterConfig, generator: torch.Generator) -> Tensor:
    """Pictures `[n, 3, h, w]` in [-1, 1], half of them with blur, noise and another tone."""
    n, _, height, width = pictures.shape

    def degree(channels: int = 1) -> Tensor:
        return torch.rand(n, channels, 1, 1, generator=generator)

    soft = F.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)
    share = config.blur * degree()
    worse = pictures + share * (soft - pictures)
    worse = worse * (1 + config.tone * (2 * degree() - 1)) + config.tone * (2 * degree(3) - 1)
    cells = torch.randn(n, 3, height // _CELL, width // _CELL, generator=generator)
    coarse = F.interpolate(cells, size=(height, width), mode="bilinear")
    fine = torch.randn(pictures.shape, generator=generator)
    worse = worse + config.cell_noise * degree().square() * coarse
    worse = worse + config.noise * degree().square() * fine
    chosen = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    return torch.where(chosen, worse.clamp(-1, 1), pictures)


class SegmenterStage(ModelStage[SegmenterConfig]):
    """Trains a `Segmenter`: cross entropy and overlap of masks, cross entropy of counts."""

    def __init__(self, model: Segmenter, config: SegmenterConfig, *, seed: int = 0) -> None:
        super().__init__(model, config, seed=seed)
        self.segmenter = model
        self._pools = lru_cache(maxsize=1)(self._draw_pool)

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        config, device, generator = self.config, self.accelerator.device, seeded(*key)
        pool = self._pools(step // config.pool_steps, key[-1])
        chosen = torch.randint(len(pool.pictures), (config.batch,), generator=generator)
        pictures = worsened(pool.pictures[chosen].float() / 127.5 - 1, config, generator)
        masks, counts = pool.masks[chosen], pool.counts[chosen]
        turn = torch.rand(config.batch, generator=generator) < 0.5
        pictures = torch.where(turn[:, None, None, None], pictures.flip(-1), pictures)
        masks = torch.where(turn[:, None, None], masks.flip(-1), masks).to(device)
        mask, count = self.model(pictures.to(device))
        return mask_loss(mask.float(), masks) + config.count_weight * F.cross_entropy(
            count.float(), counts.to(device), ignore_index=-1
        )

    def _draw_pool(self, index: int, place: int) -> SegmentedPictures:
        rng = np.random.default_rng((self.seed, index, place))
        shape = ("landscape", "landscape", "portrait", "square")[index % 4]
        return segmented_pictures(self.segmenter, rng, self.config.pool, shape=shape)


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross entropy of mask pixels, and one minus the overlap (Dice) of each mask."""
    seen = logits.sigmoid()
    both = 2 * (seen * masks).sum((1, 2)) + 20
    overlap = both / (seen.square().sum((1, 2)) + masks.square().sum((1, 2)) + 20)
    return 4 * F.binary_cross_entropy_with_logits(logits, masks) + (1 - overlap).mean()


@torch.inference_mode()
def accuracy(model: Segmenter, pictures: SegmentedPictures) -> dict[str, float]:
    """How a segmenter reads pictures: share of counts, mean overlap and share of good overlaps.

    `iou` is over pictures that show something; `found` the share of them with an IoU of at least
    0.8; `empty` the share of the others in which nothing is marked.
    """
    masks, right, sure = [], 0, 0
    for i in range(0, len(pictures.pictures), 64):
        mask, count = model(pictures.pictures[i : i + 64].float() / 127.5 - 1)
        masks.append(mask > 0)
        truth = pictures.counts[i : i + 64]
        right += int((count.argmax(1) == truth).sum())
        sure += int((truth >= 0).sum())
    made, real = torch.cat(masks), pictures.masks > 0.5
    union = (made | real).sum((1, 2))
    iou = (made & real).sum((1, 2)) / union.clamp_min(1)
    shown = real.sum((1, 2)) > 12
    return {
        "pictures": len(made),
        "count": right / max(1, sure),
        "iou": float(iou[shown].mean()),
        "found": float((iou[shown] >= 0.8).float().mean()),
        "empty": float((made[pictures.counts == 0].sum((1, 2)) <= 12).float().mean()),
    }
