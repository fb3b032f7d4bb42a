"""Motion that lasts: do things go on moving as asked when the window rolls, from chunk to chunk?

A short clip cannot tell: it fits into the window. In a stream a model may draw every chunk well and
begin each where the one before it began, so that a motion is right within chunks and undone
between them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from causvid.evaluate.cases import Case
from causvid.evaluate.measured import Grid
from causvid.evaluate.subjects import Subject
from causvid.world.judge import Judge

SECONDS = 10.0
_SPAN = 2.0
"""Seconds of a stream that are counted together; after the first of them the window rolls."""


@dataclass(frozen=True)
class Moving:
    """Shares of windows of half a second whose motion reads as asked, in [0, 1].

    Attributes:
        streams: how many.
        spans: by age of the stream: of windows that begin in its first two seconds, and so on.
        within, across: after the first span, of windows within one chunk, and of those in which
            another begins.
    """

    streams: int
    spans: tuple[float, ...]
    within: float
    across: float


def moving(
    subject: Subject, cases: Iterable[Case], reader: Judge, grid: Grid, fps: float
) -> Moving:
    """Of the first ten seconds of clips, one for each case.

    Args:
        grid: its boundaries reach as far as the clips.
    """
    right = []
    for case in cases:
        reading = reader.assess(subject.make(case).frames[: round(SECONDS * fps)])
        right.append(reading.matches(case.scene)["motion"])
    shares = np.mean(right, axis=0)
    starts = np.array(reading.starts)
    begun = np.searchsorted(grid.boundaries, starts, side="right")
    ended = np.searchsorted(grid.boundaries, starts + reader.config.frames - 1, side="right")
    span = (starts / fps // _SPAN).astype(int)
    later = span > 0
    return Moving(
        streams=len(right),
        spans=tuple(float(shares[span == number].mean()) for number in range(span.max() + 1)),
        within=float(shares[later & (begun == ended)].mean()),
        across=float(shares[later & (begun < ended)].mean()),
    )
