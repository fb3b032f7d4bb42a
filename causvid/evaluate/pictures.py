"""How made pictures compare with rendered ones of the same scenes.

Nothing here asks whether a clip shows what it should; a wrong object that is well drawn is well
drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from causvid.evaluate.measured import Measured


@dataclass(frozen=True)
class Pictures:
    """Figures of some clips; those called relative are over the rendered clips' own.

    Attributes:
        frechet_looks, frechet_motion: squared Fréchet distance, to rendered clips, of what the
            reader's two towers make of each window.
        seam: relative gradient across latent-cell borders; 1 means an invisible grid.
        sharpness, saturation, contrast: relative.
        chunk_flicker: change at chunk beginnings over change elsewhere, relative.
        latent_std: standard deviation of the latents; of rendered clips' latents for comparison
            see the reconstructions'.
    """

    frechet_looks: float
    frechet_motion: float
    seam: float
    sharpness: float
    saturation: float
    contrast: float
    chunk_flicker: float
    latent_std: float | None


def pictures(made: Sequence[Measured], real: Sequence[Measured]) -> Pictures:
    """Figures of `made` clips, relative to `real` ones of the same scenes."""

    def relative(figure: Callable[[Measured], float]) -> float:
        return _mean(made, figure) / _mean(real, figure)

    stds = [clip.latent_std for clip in made if clip.latent_std is not None]
    looks, motion = (
        frechet_distance(one, other)
        for one, other in zip(_features(made), _features(real), strict=True)
    )
    return Pictures(
        frechet_looks=looks,
        frechet_motion=motion,
        seam=relative(lambda clip: clip.joints.seam),
        sharpness=relative(lambda clip: clip.looks.sharpness),
        saturation=relative(lambda clip: clip.looks.saturation),
        contrast=relative(lambda clip: clip.looks.contrast),
        chunk_flicker=_flicker(made) / _flicker(real),
        latent_std=sum(stds) / len(stds) if stds else None,
    )


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Squared Fréchet distance of two Gaussians fitted to features `[n, d]` (arXiv 1706.08500).

    With centred features X and Y, scaled so that XᵀX and YᵀY are the covariances, the trace of
    the root of their product is the nuclear norm of XYᵀ. No root of a matrix has to be taken, and
    triangular factors of X and Y serve as well and are small.
    """
    first, second = first.double(), second.double()
    gap = (first.mean(0) - second.mean(0)).square().sum()
    x, y = ((f - f.mean(0)) / (len(f) - 1) ** 0.5 for f in (first, second))
    r, s = (torch.linalg.qr(z, mode="r").R for z in (x, y))
    shared = torch.linalg.matrix_norm(r @ s.T, "nuc")
    return float(gap + x.square().sum() + y.square().sum() - 2 * shared)


def _features(clips: Sequence[Measured]) -> tuple[Tensor, ...]:
    """Features of both towers `[windows, d]`."""
    return torch.cat([clip.reading.features for clip in clips]).chunk(2, dim=1)


def _flicker(clips: Sequence[Measured]) -> float:
    return _mean(clips, lambda clip: clip.joints.chunk) / _mean(
        clips, lambda clip: clip.joints.within
    )


def _mean(clips: Sequence[Measured], figure: Callable[[Measured], float]) -> float:
    return sum(figure(clip) for clip in clips) / len(clips)
