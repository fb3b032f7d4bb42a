"""Ablations: students that were trained in other ways, on the same budget, side by side.

Each is judged as the shipped student is: short clips of the fixed prompts, and long streams, of
which the last seconds count. Errors that pile up show there and nowhere else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from causvid.evaluate.adherence import adherence
from causvid.evaluate.cases import Case
from causvid.evaluate.longrun import mean_looks
from causvid.evaluate.measured import Grid, Measured, measure
from causvid.evaluate.pictures import pictures
from causvid.evaluate.subjects import Student
from causvid.generation.drift import Looks
from causvid.world.judge import Judge

LONG_SECONDS, LAST_SECONDS = 60.0, 10.0


@dataclass(frozen=True)
class Rival:
    """One student's figures.

    Attributes:
        adherence: mean over attributes, of short clips as a whole.
        frechet_looks, frechet_motion, seam, sharpness: of the short clips, as in `pictures`.
        late: share of windows that read as asked in the last ten of sixty seconds, mean over
            attributes and streams.
        late_seen: the same without the motion.
        saturation, contrast: of those seconds over the first ten.
    """

    adherence: float
    frechet_looks: float
    frechet_motion: float
    seam: float
    sharpness: float
    late: float
    late_seen: float
    saturation: float
    contrast: float


def rival(
    student: Student,
    cases: Sequence[Case],
    streams: int,
    reader: Judge,
    grid: Grid,
    real: Sequence[Measured],
) -> Rival:
    """Judge one student.

    Args:
        cases: of the short clips; the first `streams` of them are streamed for a minute.
        real: rendered clips of the same cases.
    """
    short = list(measure(student, cases, reader, grid))
    looks = pictures(short, real)
    late = list(_ends(student, cases[:streams], reader))
    shares, first, last = zip(*late, strict=True)
    change = mean_looks(last).relative_to(mean_looks(first))
    seen = [share for each in shares for name, share in each.items() if name != "motion"]
    return Rival(
        adherence=adherence(short).mean,
        frechet_looks=looks.frechet_looks,
        frechet_motion=looks.frechet_motion,
        seam=looks.seam,
        sharpness=looks.sharpness,
        late=float(np.mean([share for each in shares for share in each.values()])),
        late_seen=float(np.mean(seen)),
        saturation=change.saturation,
        contrast=change.contrast,
    )


def _ends(
    student: Student, cases: Sequence[Case], reader: Judge
) -> Iterator[tuple[dict[str, float], Looks, Looks]]:
    """Of each stream: shares of right windows at its end, and looks of its beginning and end."""
    frames = round(LAST_SECONDS * student.pipe.generation.fps)
    for case in cases:
        with student.pipe.stream(case.prompt, seconds=LONG_SECONDS, seed=case.seed) as stream:
            made = np.concatenate([chunk.frames for chunk in stream])
        first, last = made[:frames], made[-frames:]
        matches = reader.assess(last).matches(case.scene)
        shares = {name: float(flags.mean()) for name, flags in matches.items()}
        yield shares, Looks.of(torch.from_numpy(first)), Looks.of(torch.from_numpy(last))
