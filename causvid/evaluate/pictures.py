"""How made pictures compare with rendered ones of the same scenes.

Whether a clip shows what it should is not asked: a wrong object that is well drawn is well drawn.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from causvid.evaluate.measurement import Figures, Measurement, Part, Table, mean, number
from causvid.evaluate.session import MeasuredClip, Session


def pictures(made: Sequence[MeasuredClip], real: Sequence[MeasuredClip]) -> Figures:
    """Figures of `made` clips, relative to those of `real` ones of the same scenes.

    The squared Fréchet distances compare the features that the judge's two towers find in each
    window; a seam of 1 means an invisible grid; the flicker is the change where chunks begin over
    the change elsewhere. The deviation of the latents is not relative: compare it with that of
    reconstructed clips.
    """

    def relative(figure: Callable[[MeasuredClip], float]) -> float:
        return mean(map(figure, made)) / mean(map(figure, real))

    stds = [clip.latent_std for clip in made if clip.latent_std is not None]
    looks, motion = map(frechet_distance, _features(made), _features(real))
    return {
        "frechet_looks": looks,
        "frechet_motion": motion,
        "seam": relative(lambda clip: clip.seam),
        "sharpness": relative(lambda clip: clip.looks.sharpness),
        "saturation": relative(lambda clip: clip.looks.saturation),
        "contrast": relative(lambda clip: clip.looks.contrast),
        "chunk_flicker": _flicker(made) / _flicker(real),
        "latent_std": mean(stds) if stds else None,
    }


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


def _features(clips: Sequence[MeasuredClip]) -> tuple[Tensor, ...]:
    """Features of both towers `[windows, d]`."""
    return torch.cat([clip.judgement.features for clip in clips]).chunk(2, dim=1)


def _flicker(clips: Sequence[MeasuredClip]) -> float:
    return mean(clip.at_starts for clip in clips) / mean(clip.elsewhere for clip in clips)


def _run(session: Session) -> Part:
    compared = {
        **session.clips,
        "reconstructed": session.reconstructed,
        "rendered again": session.rendered_again,
    }
    return Part({name: pictures(of, session.rendered) for name, of in compared.items()}, {})


def _table(figures: Figures) -> Table:
    columns = next(iter(figures.values()))
    header = ("over rendered clips", *(column.replace("_", " ") for column in columns))
    rows = [(name, *(number(of[c]) for c in columns)) for name, of in figures.items()]
    return Table("Pictures", header, rows)


PICTURES = Measurement("pictures", _run, _table)
