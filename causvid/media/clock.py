"""Frame rates, and resampling to a constant rate by presentation time. Knows no files.

Time is kept in `Fraction` seconds: 30000/1001 frames a second drift in floating point.
"""

import itertools
import math
from collections.abc import Callable, Generator, Iterable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

Rate = int | float | Fraction

MAX_RATE = 1000  # frames a second, the time base of the coarsest containers


class Timed(NamedTuple):
    """A frame and when it is shown, in seconds since the first one."""

    start: Fraction
    duration: Fraction
    frame: Any


def as_rate(fps: Rate) -> Fraction:
    """The exact frame rate; 29.97002997 is recognised as 30000/1001.

    Raises:
        ValueError: if it is not above 0 and at most `MAX_RATE`.
    """
    if not 0 < fps <= MAX_RATE:  # false for NaN, too
        raise ValueError(f"frame rate is {fps}; expected above 0 and at most {MAX_RATE} a second")
    return Fraction(fps).limit_denominator(1001)


def at_rate(
    timed: Iterable[Timed], rate: Fraction, shape: Callable[[Any], np.ndarray]
) -> Generator[np.ndarray, None, None]:
    """Resample to a constant rate: frame n is what is shown at (n + 1/2) / rate.

    The middle of each interval, so that jitter of less than half an interval changes nothing and a
    source of the same rate passes frame by frame. `shape` is applied only to frames that are used.
    Anything at all gives at least one frame.
    """
    emitted = 0
    whole: Iterable[Timed | None] = itertools.chain(timed, [None])
    for current, following in itertools.pairwise(whole):
        assert current is not None, "only the last is"
        end = following.start if following else current.start + current.duration
        due = math.ceil(end * rate - Fraction(1, 2))  # every n with (n + 1/2) / rate < end
        if following is None:
            due = max(due, 1)
        if due > emitted:
            yield from itertools.repeat(shape(current.frame), due - emitted)
            emitted = due
