"""Reading a source ahead of its stream, in a thread of its own, no further than is said.

Files, cameras and networks take their own time. Who makes many streams on one device asks whether
a source is `ready` and gives the device to another one meanwhile.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from causvid.model.interruption import pause

_PATIENCE = 0.05  # seconds between two looks at whether the picture is still wanted


class Prefetch:
    """Pictures of another iterator, which is read, and in the end closed, by a thread.

    Args:
        pictures: uint8 `[h, w, 3]` each.
        ahead: how many are kept.
        changed: called from the thread when what was asked for is there.
        skip: how many to drop first.
    """

    def __init__(
        self,
        pictures: Iterator[np.ndarray],
        ahead: int,
        changed: Callable[[], None] = lambda: None,
        *,
        skip: int = 0,
    ):
        self._pictures = pictures
        self._ahead = ahead
        self._changed = changed
        self._skip = skip
        self._there: deque[np.ndarray] = deque()
        self._wanted = 1
        self._over = self._closed = False
        self._error: Exception | None = None
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="source", daemon=True)
        self._thread.start()

    def ready(self, count: int) -> bool:
        """Whether `count` pictures are there, or all that there are, or the source has failed."""
        with self._change:
            self._wanted = count
            return self._is_ready()

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        """
        Raises:
            ValueError: what the source raised, after the pictures before it.
        """
        while True:
            with self._change:
                if not self._there and not self._over:
                    self._change.wait(_PATIENCE)
                if self._there:
                    self._change.notify_all()
                    return self._there.popleft()
                if self._over:
                    if self._error is not None:
                        raise self._error
                    raise StopIteration
            pause()

    def close(self) -> None:
        """Let the thread end, within one picture."""
        with self._change:
            self._closed = True
            self._there.clear()
            self._change.notify_all()

    def _is_ready(self) -> bool:
        return self._over or len(self._there) >= min(self._wanted, self._ahead)

    def _work(self) -> None:
        try:
            while not self._closed and (picture := next(self._pictures, None)) is not None:
                if self._skip:
                    self._skip -= 1
                    continue
                with self._change:
                    while len(self._there) >= self._ahead and not self._closed:
                        self._change.wait()
                    self._there.append(picture)
                    self._change.notify_all()
                    told = self._is_ready()
                if told:
                    self._changed()
        except Exception as error:  # told to whoever reads
            self._error = error
        finally:
            close_pictures(self._pictures)
            with self._change:
                self._over = True
                self._change.notify_all()
            self._changed()


def close_pictures(pictures: object) -> None:
    """Free what is behind an iterator, where there is something."""
    close = getattr(pictures, "close", None)
    if close is not None:
        close()
