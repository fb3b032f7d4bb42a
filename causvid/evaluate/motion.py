"""Whether things go on moving as asked from chunk to chunk, when the window rolls.

A short clip cannot tell: it fits into the window. In a long stream each chunk may begin where the
one before it began, so that a motion is right within chunks and undone between them.
"""

from collections.abc import Iterable

import numpy as np

from causvid.evaluate.measurement import Figures, Measurement, Part, Table, percent
from causvid.evaluate.session import Grid, Session, progress
from causvid.evaluate.subjects import Case, Subject, Video, cases
from causvid.world.judge import Judge

SECONDS = 10.0
_SPAN = 2.0
"""Seconds of a stream that are counted together; after the first span the window rolls."""


def motion(
    subject: Subject, cases: Iterable[Case], judge: Judge, grid: Grid, fps: float
) -> Figures:
    """Shares of windows of half a second whose motion is right, over ten seconds of each case.

    `spans` counts by age of the stream: windows that begin in its first two seconds, and so on.
    `within` and `across` count, after the first span, windows inside one chunk, and windows in
    which another chunk begins.

    Args:
        grid: its boundaries reach as far as the clips.
    """
    right = []
    for case in cases:
        judgement = judge.assess(subject(case).frames[: round(SECONDS * fps)])
        right.append(judgement.matches(case.scene)["motion"])
    shares = np.mean(right, axis=0)
    starts = np.array(judgement.starts)
    begun = np.searchsorted(grid.boundaries, starts, side="right")
    ended = np.searchsorted(grid.boundaries, starts + judge.config.frames - 1, side="right")
    span = (starts / fps // _SPAN).astype(int)
    later = span > 0
    return {
        "streams": len(right),
        "spans": [float(shares[span == number].mean()) for number in range(span.max() + 1)],
        "within": float(shares[later & (begun == ended)].mean()),
        "across": float(shares[later & (begun < ended)].mean()),
    }


def _run(session: Session) -> Part:
    count, subjects = session.sizes.motions, session.subjects
    timeline = subjects.pipe.generator().timeline
    latents = timeline.grid.latent_frames(round(SECONDS * timeline.fps))
    frames = timeline.grid.pixel_start(latents)
    makers: dict[str, Subject] = {
        "student": lambda case: Video(subjects.stream(case, seconds=frames / timeline.fps)),
        "rendered": lambda case: subjects.rendered(case, frames=frames),
    }
    figures = {}
    for name, subject in makers.items():
        asked = progress(cases(count, session.seed), f"motion, {name}", count)
        grid = session.grid(latents)
        figures[name] = motion(subject, asked, session.judge, grid, timeline.fps)
    return Part(figures, {})


def _table(figures: Figures) -> Table:
    spans = len(next(iter(figures.values()))["spans"])
    ends = (f"to {_SPAN * n:g} s" for n in range(1, spans + 1))
    rows = [
        (f"{name} ({of['streams']})", *map(percent, (*of["spans"], of["within"], of["across"])))
        for name, of in figures.items()
    ]
    return Table(
        "Motion",
        ("half seconds that move as asked", *ends, "within chunks", "across"),
        rows,
        "Within chunks and across: after two seconds, when the window rolls; half seconds inside "
        "one chunk, and those in which another begins.",
    )


MOTION = Measurement("motion", _run, _table)
