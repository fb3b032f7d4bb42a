"""Drift: does a stream still follow its prompt, and look the same, after many minutes?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from causvid.evaluate.cases import Case
from causvid.evaluate.subjects import Student
from causvid.generation.drift import Looks
from causvid.world import ATTRIBUTES
from causvid.world.judge import Judge

_WINDOW_STRIDE = 8  # frames: windows touch and do not overlap


@dataclass(frozen=True)
class Minute:
    """What one minute of a stream is like.

    Attributes:
        attributes: share of windows that read as asked, for each attribute.
        adherence: mean over attributes.
        looks: mean over the minute's chunks.
    """

    attributes: dict[str, float]
    adherence: float
    looks: Looks


@dataclass(frozen=True, eq=False)
class LongRun:
    """One stream, minute by minute; `strip` has the last frame of each, uint8 `[n, h, w, 3]`."""

    case: Case
    minutes: tuple[Minute, ...]
    strip: np.ndarray


@dataclass(frozen=True)
class Drift:
    """Several streams together.

    Attributes:
        streams: how many.
        minutes: mean over streams.
        adherence, saturation, contrast, sharpness: the last minute over the first; no adherence if
            the first had none.
    """

    streams: int
    minutes: tuple[Minute, ...]
    adherence: float | None
    saturation: float
    contrast: float
    sharpness: float


def long_runs(
    student: Student, cases: Sequence[Case], reader: Judge, minutes: float
) -> Iterator[LongRun]:
    """Stream each case for `minutes`, in whole parts of a minute if it is less than one."""
    count = max(1, round(minutes))
    for case in cases:
        with student.pipe.stream(case.prompt, seconds=60 * minutes, seed=case.seed) as stream:
            size = -(-stream.chunk_count // count)
            parts, strip = [], []
            for _ in range(count):
                chunks = [chunk for _, chunk in zip(range(size), stream, strict=False)]
                frames = np.concatenate([chunk.frames for chunk in chunks])
                parts.append(_minute(case, frames, [chunk.looks for chunk in chunks], reader))
                strip.append(frames[-1])
        yield LongRun(case, tuple(parts), np.stack(strip))


def drift(runs: Sequence[LongRun]) -> Drift:
    """The mean of at least one run."""
    minutes = tuple(
        Minute(
            {name: _mean([part.attributes[name] for part in parts]) for name in ATTRIBUTES},
            _mean([part.adherence for part in parts]),
            mean_looks([part.looks for part in parts]),
        )
        for parts in zip(*(run.minutes for run in runs), strict=True)
    )
    first, last = minutes[0], minutes[-1]
    change = last.looks.relative_to(first.looks)
    return Drift(
        streams=len(runs),
        minutes=minutes,
        adherence=last.adherence / first.adherence if first.adherence else None,
        saturation=change.saturation,
        contrast=change.contrast,
        sharpness=change.sharpness,
    )


def _minute(case: Case, frames: np.ndarray, looks: Sequence[Looks], reader: Judge) -> Minute:
    matches = reader.assess(frames, stride=_WINDOW_STRIDE).matches(case.scene)
    shares = {name: float(flags.mean()) for name, flags in matches.items()}
    return Minute(shares, _mean(list(shares.values())), mean_looks(looks))


def mean_looks(looks: Sequence[Looks]) -> Looks:
    """The mean of at least one, number by number."""
    return Looks(
        saturation=_mean([each.saturation for each in looks]),
        contrast=_mean([each.contrast for each in looks]),
        sharpness=_mean([each.sharpness for each in looks]),
    )


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)
