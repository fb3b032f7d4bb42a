"""A live source: the pictures of a camera or a screen, as they come.

Whoever has the camera puts pictures with time stamps into a `LiveFeed`, from any thread; a stream
reads them through a `LiveSource`. They are placed on the model's clock by their time stamps, as
those of a file are. What is kept is bounded, and the newest picture wins: where making is slower
than the camera, pictures are left out evenly and latency does not grow.
"""

import math
import threading
from collections import deque
from collections.abc import Callable

import numpy as np

from causvid.generation.source import VideoSource
from causvid.media import fit
from causvid.model.interruption import pause

GAP = 1.0  # seconds between two pictures, beyond which the camera was paused
_PATIENCE = 0.05  # seconds between two looks at whether pictures are still wanted
_KEPT = 48  # pictures, unless the stream says how many it wants


class LiveFeed:
    """Pictures on their way from one camera to one stream.

    Before a stream reads them, the newest is kept. From then on there is one picture for each
    frame of the model's clock: a faster camera's are replaced by newer ones, a slower one's are
    shown for longer. Time stamps that go back, or jump by more than `GAP`, begin anew.
    """

    def __init__(self) -> None:
        self._pictures: deque[tuple[float, np.ndarray]] = deque(maxlen=1)  # the oldest first
        self._step = 0.0  # seconds between two frames of the model; 0: nobody reads
        self._next: float | None = None  # time of the next frame
        self._over = False
        self._changed: Callable[[], None] = lambda: None
        self._change = threading.Condition()

    @property
    def wanted(self) -> bool:
        """Whether a stream reads the pictures, so that they are worth decoding."""
        return self._step > 0 and not self._over

    @property
    def over(self) -> bool:
        """Whether there will be no further picture, and all have been read."""
        with self._change:
            return self._over and not self._left()

    def put(self, picture: np.ndarray, time: float) -> None:
        """Add the newest picture.

        Args:
            picture: uint8 `[h, w, 3]`, of any size.
            time: when it was taken, seconds on any clock of the camera's side.

        Raises:
            ValueError: if the time is not finite.
        """
        if not math.isfinite(time):
            raise ValueError(f"the time stamp is {time}; expected seconds")
        with self._change:
            if self._over:
                return
            last = self._pictures[-1][0] if self._pictures else None
            if last is not None and not 0 < time - last <= GAP:
                self._pictures.clear()
                self._next = last = None
            if self._next is None:
                self._next = time
            if last is not None and self._step and self._frame(time) == self._frame(last):
                self._pictures.pop()
            self._pictures.append((time, picture))
            self._change.notify_all()
        self._changed()

    def end(self) -> None:
        """There will be no further picture; those that are there are still made."""
        with self._change:
            self._over = True
            self._change.notify_all()
        self._changed()

    def close(self) -> None:
        """Nobody wants the pictures any more."""
        with self._change:
            self._changed = lambda: None
            self._pictures.clear()
        self.end()

    # What the source uses

    def attach(
        self, fps: float, ahead: int = _KEPT, changed: Callable[[], None] = lambda: None
    ) -> None:
        """Keep up to `ahead` pictures from now on, one for each frame at `fps`."""
        with self._change:
            self._step, self._changed = 1 / fps, changed
            self._pictures = deque(self._pictures, maxlen=ahead)
            self._next = self._pictures[-1][0] if self._pictures else None

    def ready(self, count: int) -> bool:
        """Whether `count` frames are there, or there will be no more."""
        with self._change:
            return self._over or self._left() >= count

    def wait(self) -> None:
        """Until something has changed, or a moment has passed."""
        with self._change:
            self._change.wait(_PATIENCE)

    def take(self, count: int) -> tuple[list[np.ndarray], float | None]:
        """The next frames up to the newest picture, `count` unless the camera is over, and the
        newest one's time stamp."""
        with self._change:
            count = min(count, self._left())
            if not count or self._next is None:
                return [], None
            last = self._pictures[-1][0]
            first = max(self._next, self._pictures[0][0])
            if first + (count - 1) * self._step > last:  # by no more than half a step
                last = first + (count - 1) * self._step
            taken = [self._at(time) for time in np.linspace(last, first, count)[::-1]]
            self._next = last + self._step
            self._pictures = deque([self._pictures[-1]], maxlen=self._pictures.maxlen)
            return [picture for _, picture in taken], taken[-1][0]

    def _frame(self, time: float) -> int:
        """The number of the frame that a time is nearest to, from the next one on."""
        assert self._next is not None, "no picture has come"
        return round((time - self._next) / self._step)

    def _left(self) -> int:
        """How many frames can be made of what is there."""
        if not self._pictures or self._next is None or not self._step:
            return 0
        return max(0, self._frame(self._pictures[-1][0]) + 1)

    def _at(self, time: float) -> tuple[float, np.ndarray]:
        """The picture that is shown at `time`: the newest that was there by the middle of its
        frame."""
        shown = self._pictures[0]
        for it in self._pictures:
            if it[0] > time + self._step / 2:
                break
            shown = it
        return shown


class LiveSource(VideoSource):
    """Feeds a stream with the pictures of a `LiveFeed`, until that is ended or closed.

    Args:
        feed: where they come from.
        fps, height, width: the model's; pictures of another shape are made to `fit`.
        strength, adaptive: as `VideoSource`.
    """

    def __init__(
        self,
        feed: LiveFeed,
        *,
        fps: float,
        height: int,
        width: int,
        strength: float = 0.7,
        adaptive: bool = False,
    ):
        super().__init__((), strength=strength, adaptive=adaptive)
        self._feed, self._fps, self._size = feed, fps, (height, width)
        feed.attach(fps)

    def prefetch(self, ahead: int, changed: Callable[[], None]) -> None:
        self._feed.attach(self._fps, ahead, changed)

    def ready(self, count: int) -> bool:
        return bool(self._read) or self._feed.ready(count)

    @property
    def over(self) -> bool:
        return not self._read and self._feed.over

    def close(self) -> None:
        self._feed.close()

    def skip_to(self, settings: dict[str, float | bool | int]) -> None:
        """Go on with what the camera sees now."""
        super().skip_to(settings)
        self._skip = 0

    def _gather(self, count: int) -> None:
        if self._read:  # of a chunk that was given up
            return
        while not self._feed.ready(count):
            self._feed.wait()
            pause()
        pictures, self._time = self._feed.take(count)
        shape = (*self._size, 3)
        self._read = [it if it.shape == shape else fit(it, *self._size) for it in pictures]
