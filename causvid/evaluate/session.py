"""What the measurements of one evaluation share: subjects, judge, and clips measured once."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from tqdm import tqdm

from causvid.evaluate import Sizes
from causvid.evaluate.subjects import Case, Subject, Subjects, Video, agreement, cases
from causvid.generation.chunk import Looks
from causvid.training.fidelity import seam
from causvid.world.judge import Judge, Judgement
from causvid.world.pixels import clip_to_pixels

Item = TypeVar("Item")

SHEET_ROWS = 18
"""The most rows of a contact sheet."""

_STRIP_FRAMES = 5


@dataclass(frozen=True)
class Grid:
    """Where cells and chunks of a model meet.

    Attributes:
        cell: pixels of a latent cell, height and width.
        boundaries: pixel frames that begin a chunk, the first left out.
    """

    cell: int
    boundaries: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class MeasuredClip:
    """One clip: what the judge sees, how its pictures look, and a strip of them.

    Attributes:
        seam: gradient across cell borders over elsewhere (`causvid.training.fidelity.seam`).
        at_starts, elsewhere: mean change from frame to frame where a chunk begins, and where none
            does, in grey levels.
        latent_std: of the latents behind it, if there are any.
        strip: frames over its length, uint8 `[n, h, w, 3]`.
    """

    case: Case
    judgement: Judgement
    looks: Looks
    seam: float
    at_starts: float
    elsewhere: float
    latent_std: float | None
    strip: np.ndarray

    @classmethod
    def of(cls, case: Case, video: Video, judge: Judge, grid: Grid) -> "MeasuredClip":
        """Measure the video of a case."""
        frames = torch.from_numpy(video.frames)
        pixels = clip_to_pixels([frames])
        change = pixels[0].diff(dim=0).abs().mean(dim=(1, 2, 3)).numpy() * 127.5
        starts = np.isin(np.arange(1, len(frames)), grid.boundaries)
        return cls(
            case=case,
            judgement=judge.assess(video.frames),
            looks=Looks.of(frames),
            seam=seam(pixels, grid.cell),
            at_starts=float(change[starts].mean()) if starts.any() else 0.0,
            elsewhere=float(change[~starts].mean()),
            latent_std=None if video.latents is None else float(video.latents.std()),
            strip=strip(video.frames),
        )

    @property
    def right(self) -> dict[str, bool]:
        """For each attribute, whether the clip as a whole is judged as its case."""
        return agreement(self.judgement.values, self.case.scene)


def measure(
    subject: Subject, cases: Iterable[Case], judge: Judge, grid: Grid
) -> Iterator[MeasuredClip]:
    """Make and measure the clip of each case, one at a time."""
    return (MeasuredClip.of(case, subject(case), judge, grid) for case in cases)


@dataclass(frozen=True)
class Session:
    """One evaluation.

    Args:
        judged: `"student"`, `"teacher"` or both: who is measured by adherence and pictures.
        rivals: stage folders of training runs, by name: students trained in other ways.
    """

    subjects: Subjects
    judge: Judge
    sizes: Sizes
    judged: tuple[str, ...]
    seed: int
    rivals: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def cases(self) -> list[Case]:
        return cases(self.sizes.prompts, self.seed)

    @cached_property
    def clips(self) -> dict[str, list[MeasuredClip]]:
        """The clips of every judged subject."""
        return {name: self._measured(getattr(self.subjects, name), name) for name in self.judged}

    @cached_property
    def rendered(self) -> list[MeasuredClip]:
        """The same scenes rendered."""
        return self._measured(self.subjects.rendered, "rendered")

    @cached_property
    def rendered_again(self) -> list[MeasuredClip]:
        """The same scenes with other details: how far apart the figures of two truths are."""
        return self._measured(partial(self.subjects.rendered, variant=1), "rendered again")

    @cached_property
    def reconstructed(self) -> list[MeasuredClip]:
        """Those through the codec: what no model behind it can exceed."""
        return self._measured(partial(self.subjects.reconstructed, variant=1), "reconstructed")

    def grid(self, latents: int) -> Grid:
        """Cells of the model, and the chunks of a clip of `latents` latent frames."""
        pipe = self.subjects.pipe
        timeline = pipe.generator().timeline
        starts = (timeline.first_pixel_frame(chunk) for chunk in range(1, latents))
        return Grid(pipe.codec().spatial_stride, tuple(starts))

    def _measured(self, subject: Subject, name: str) -> list[MeasuredClip]:
        made = measure(subject, self.cases, self.judge, self.grid(self.subjects.latents))
        return list(progress(made, name, len(self.cases)))


def progress(items: Iterable[Item], name: str, total: int) -> Iterator[Item]:
    """The items, with a progress bar on the error stream."""
    return iter(tqdm(items, desc=name, total=total, file=sys.stderr, mininterval=2.0))


def strip(frames: np.ndarray) -> np.ndarray:
    """A few frames over the length of a clip, for a contact sheet."""
    return frames[np.linspace(0, len(frames) - 1, _STRIP_FRAMES).round().astype(int)]
