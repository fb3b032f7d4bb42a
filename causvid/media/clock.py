"""Frame rates, time stamps, and resampling to a constant rate by presentation time. Knows no files.

Time is kept in `Fraction` seconds: 30000/1001 frames a second drift in floating point.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

Rate = int | float | Fraction

MAX_RATE = 1000  # frames a second, the time base of the coarsest containers

# 8K at 30 frames a second, 4K at 120: what cameras make. More is a small file that decodes for
# hours, such as an animation that repeats a huge picture.
MAX_PIXEL_RATE = 1_000_000_000  # pixels a second

# Time stamps that go back by less are mere disorder.
_JITTER = Fraction(1, 2)  # seconds

# A longer time without a picture is a cut: a recording that was paused, or a broken stamp.
_HOLE = 5  # seconds


class Timed(NamedTuple):
    """A frame and when it is shown, in seconds since the first one."""

    start: Fraction
    duration: Fraction
    frame: Any


class PlayingTime:
    """Turns the time stamps of a file into one clock that starts at 0 and never goes back.

    Joined recordings begin anew, some files have no stamps, and some leave holes.

    Args:
        step: seconds that a frame lasts where nothing is said.

    Attributes:
        end: when the frame that was placed last is over, seconds.
    """

    def __init__(self, step: Fraction):
        self.end = Fraction(0)
        self._step = step
        self._origin: Fraction | None = None  # the stamp that is time 0
        self._last = Fraction(0)

    def place(self, stamp: Fraction | None, duration: Fraction | None) -> tuple[Fraction, Fraction]:
        """When the next frame is shown, and for how long, seconds."""
        if stamp is None:
            stamp = self.end + (self._origin or 0)
        if self._origin is None:
            self._origin = stamp
        time = stamp - self._origin
        if time < self._last - _JITTER:  # joined recordings: a new clock begins
            time = self._begin_at(stamp, self.end)
        elif time > self.end + _HOLE:
            time = self._begin_at(stamp, self.end + _HOLE)
        start, duration = max(time, self._last), duration or self._step
        self._last, self.end = start, start + duration
        return start, duration

    def _begin_at(self, stamp: Fraction, time: Fraction) -> Fraction:
        self._origin = stamp - time
        return time


class Budget:
    """How much may be decoded for a second of video. A file says what it likes of its rate; what
    is there counts.

    Args:
        name: of the file, for errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._second: deque[tuple[Fraction, int]] = deque()  # what is shown within one
        self._pixels = 0

    def spend(self, time: Fraction, pixels: int) -> None:
        """Count a frame that is shown at `time`, seconds.

        Raises:
            ValueError: if there are more than any camera makes.
        """
        while self._second and self._second[0][0] <= time - 1:
            self._pixels -= self._second.popleft()[1]
        # One frame more for time stamps that are rounded.
        if len(self._second) > MAX_RATE:
            raise ValueError(
                f"{self._name} has more than {MAX_RATE:,} pictures a second, the most allowed"
            )
        if self._pixels > MAX_PIXEL_RATE:
            raise ValueError(
                f"{self._name} has more than {MAX_PIXEL_RATE / 1e6:,.0f} million pixels a second, "
                "the most allowed"
            )
        self._second.append((time, pixels))
        self._pixels += pixels


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
