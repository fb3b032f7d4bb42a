"""One clip, measured once: what the reader reads, how its pictures look, and a strip to look at."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from causvid.evaluate.cases import Case
from causvid.evaluate.subjects import Subject
from causvid.generation.drift import Looks
from causvid.training.fidelity import seam
from causvid.world.judge import Judge, Judgement
from causvid.world.pixels import clip_to_pixels

STRIP_FRAMES = 5


@dataclass(frozen=True)
class Grid:
    """Where a model's joints are.

    Attributes:
        cell: pixels of a latent cell, height and width.
        boundaries: pixel frames that begin a chunk, the first left out.
    """

    cell: int
    boundaries: tuple[int, ...]


@dataclass(frozen=True)
class Joints:
    """How strongly pictures change across a model's joints.

    Attributes:
        seam: gradient across cell borders over elsewhere (`causvid.training.fidelity.seam`).
        chunk, within: mean change from frame to frame where a chunk begins, and elsewhere, in
            grey levels.
    """

    seam: float
    chunk: float
    within: float

    @classmethod
    def of(cls, frames: np.ndarray, grid: Grid) -> "Joints":
        """Of uint8 frames `[t, h, w, 3]`."""
        pixels = clip_to_pixels([torch.from_numpy(frames)])
        change = pixels[0].diff(dim=0).abs().mean(dim=(1, 2, 3)).numpy() * 127.5
        starts = np.isin(np.arange(1, len(frames)), grid.boundaries)
        return cls(
            seam=seam(pixels, grid.cell),
            chunk=float(change[starts].mean()) if starts.any() else 0.0,
            within=float(change[~starts].mean()),
        )


@dataclass(frozen=True, eq=False)
class Measured:
    """One clip's figures.

    Attributes:
        right: for each attribute, whether the clip as a whole reads as its case.
        values: what it reads as.
        latent_std: of the latents behind it, if there are any.
        strip: frames over its length, uint8 `[n, h, w, 3]`.
    """

    case: Case
    reading: Judgement
    looks: Looks
    joints: Joints
    latent_std: float | None
    strip: np.ndarray

    @property
    def values(self) -> dict[str, str]:
        return self.reading.values

    @property
    def right(self) -> dict[str, bool]:
        wanted = self.case.scene.to_dict()
        return {name: value == wanted[name] for name, value in self.values.items()}


def measure(
    subject: Subject, cases: Iterable[Case], reader: Judge, grid: Grid
) -> Iterator[Measured]:
    """Make and measure the clip of each case, one at a time."""
    for case in cases:
        made = subject.make(case)
        shown = np.linspace(0, len(made.frames) - 1, STRIP_FRAMES).round().astype(int)
        yield Measured(
            case=case,
            reading=reader.assess(made.frames),
            looks=Looks.of(torch.from_numpy(made.frames)),
            joints=Joints.of(made.frames, grid),
            latent_std=None if made.latents is None else float(made.latents.std()),
            strip=made.frames[shown],
        )
