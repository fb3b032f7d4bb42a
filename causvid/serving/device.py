"""Sharing one device between runs: one thread, one chunk at a time, in turns.

Runs take turns chunk by chunk (round robin), so every viewer gets the same share and the first
chunk of a newcomer waits for no more than one chunk of each other. A run loses its turn while its
viewer is behind: unread chunks are bounded, and a watched video is made only some seconds ahead of
its playback. Up to `viewers` runs share the device; later ones wait and know their place. The runs
of one client take some of these places only, so that no newcomer waits for them to end.

A turn is passes of the model and nothing else. Loading models, reading sources and writing
snapshots happen in threads of the run, and meanwhile it has no turn.
"""

import contextlib
import itertools
import logging
import math
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

from causvid.serving.job import Change, Event, Failed, Job, OpenModel, Production

log = logging.getLogger(__name__)

MAX_UNREAD = 3  # chunks made and not yet taken by the viewer's side
_NICENESS = 5  # of what runs beside the passes: a third of a core that is wanted by both


class Ticket:
    """One run on a device, as its owner sees it; callable from any thread.

    A device subclasses it: `stop` is needed, `taken`, `permit`, `steer` and `place` are where it
    has a use for them.

    Attributes:
        began: when it left the queue, on the clock of `perf_counter`.
    """

    def __init__(self, job: Job, deliver: Callable[[Event], None]):
        self.job = job
        self.silent = False
        self.began: float | None = None
        self._deliver = deliver
        self._changes = itertools.count(1)

    def taken(self) -> None:
        """The owner has taken a chunk."""

    def permit(self, until: float) -> None:
        """Begin no chunk while the video has `until` seconds or more."""

    def steer(self, change: Change) -> int:
        """Change something from the next chunk on, of a run that waits from its first.

        Returns:
            The number of this change, from 1, which chunks that are made under it carry.
        """
        return next(self._changes)

    def keep(self) -> None:
        """Leave a snapshot before the next chunk, and tell with `Kept` of it.

        Raises:
            ValueError: if this device cannot.
        """
        raise ValueError("this server keeps the state at the end of a run only: stop it first")

    def stop(self) -> None:
        """End soon, and tell with `Ended` what was made."""
        raise NotImplementedError

    def cancel(self) -> None:
        """End soon and tell nothing more."""
        self.silent = True
        self.stop()

    def place(self) -> int:
        """How many runs are before this one in the queue; 0 once it has begun."""
        return 0

    def report(self, event: Event) -> None:
        """Used by the device."""
        if not self.silent:
            self._deliver(event)


class Device(Protocol):
    """Where jobs are carried out.

    Attributes:
        takes_live: whether a job may follow a camera.
    """

    takes_live: bool

    def submit(self, job: Job, deliver: Callable[[Event], None]) -> Ticket:
        """Carry out `job`; `deliver` is called from another thread, an `Ended` or `Failed` last.

        Raises:
            ValueError: if no more runs can wait.
        """

    def close(self) -> None:
        """End everything."""


class SharedDevice:
    """A device in this process, which pictures can reach while a run is made.

    Args:
        open_model: gives the pipeline of a job's model.
        viewers: runs that share the device.
        waiting: further runs that may wait.
        lead: seconds that paced runs are made ahead of playback.
        each: how many of the places at the device the runs of one client may take.
    """

    takes_live = True

    def __init__(
        self,
        open_model: OpenModel,
        *,
        viewers: int,
        waiting: int,
        lead: float,
        each: int | None = None,
    ):
        self._open_model = open_model
        self._viewers = viewers
        self._each = viewers if each is None else each
        self._waiting = waiting
        self._lead = lead
        self._changed = threading.Condition()
        self._queue: deque[_Turn] = deque()
        self._active: deque[_Turn] = deque()  # the next in turn first
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._thread.start()

    def submit(self, job: Job, deliver: Callable[[Event], None]) -> "_Turn":
        with self._changed:
            if len(self._active) + len(self._queue) >= self._viewers + self._waiting:
                raise ValueError(
                    f"{len(self._active)} videos are being made and {len(self._queue)} are "
                    f"waiting, which is the limit: try again in a minute"
                )
            turn = _Turn(self, job, deliver)
            self._queue.append(turn)
            self._admit()
            self._changed.notify_all()
            return turn

    @property
    def load(self) -> tuple[int, int]:
        """Runs in the making, and runs that wait."""
        with self._changed:
            return len(self._active), len(self._queue)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            for turn in self._active:
                turn.stopping = turn.silent = True
                turn.production.interrupt(kept=False)
            self._changed.notify_all()
        self._thread.join(timeout=30)

    # The device's own thread

    def _admit(self) -> None:
        while len(self._active) < self._viewers and (turn := self._first_waiting()) is not None:
            self._queue.remove(turn)
            turn.began = time.perf_counter()
            self._active.append(turn)
            turn.open()

    def _first_waiting(self) -> "_Turn | None":
        """The run that has waited longest, of those whose client may take another place."""
        taken = Counter(turn.job.client for turn in self._active)
        for turn in self._queue:
            if turn.job.client is None or taken[turn.job.client] < self._each:
                return turn
        return None

    def _work(self) -> None:
        while True:
            with self._changed:
                while (turn := self._next()) is None:
                    if self._closed:
                        return
                    self._changed.wait(self._pause())
            turn.advance()

    def _leave(self, turn: "_Turn") -> None:
        """A run is over: the next one may begin. Called from its threads, too."""
        with self._changed:
            self._active.remove(turn)
            self._admit()
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _next(self) -> "_Turn | None":
        """The first run that can use a turn; it goes to the end of the line."""
        now = time.perf_counter()
        for turn in self._active:
            if turn.due() <= now:
                self._active.remove(turn)
                self._active.append(turn)
                return turn
        return None

    def _pause(self) -> float | None:
        """Seconds until a paced run is due; `None` to wait for a change."""
        due = min((turn.due() for turn in self._active), default=math.inf)
        return None if due == math.inf else max(0.0, due - time.perf_counter())


class _Turn(Ticket):
    """A run on a `SharedDevice`, whose lock and queues it shares."""

    def __init__(self, device: SharedDevice, job: Job, deliver: Callable[[Event], None]):
        super().__init__(job, deliver)
        self.production = Production(device._open_model, job, device._wake)
        self.stopping = False
        self._keeping = False  # a snapshot is wanted
        self._device = device
        self._away = True  # one of its own threads works for it, or is to
        self._unread = 0
        before = job.continuation
        self._before = before.manifest.video.seconds if before else 0.0  # of an earlier run
        self._permitted = math.inf  # seconds of video
        self._playback: float | None = None  # when the first frame could be seen
        self._made = 0.0  # seconds of video
        self._left = math.inf  # when the last step ended
        self._wanted = 0.0  # when the viewer last caught up

    def taken(self) -> None:
        with self._device._changed:
            if self._unread >= MAX_UNREAD:
                self._wanted = time.perf_counter()
            self._unread -= 1
            self._device._changed.notify_all()

    def permit(self, until: float) -> None:
        with self._device._changed:
            if self._held_back:
                self._wanted = time.perf_counter()
            self._permitted = until
            self._device._changed.notify_all()

    def steer(self, change: Change) -> int:
        number = super().steer(change)
        self.production.steer(change, number)
        return number

    def keep(self) -> None:
        with self._device._changed:
            self._keeping = True
            self._device._changed.notify_all()

    def stop(self) -> None:
        device = self._device
        with device._changed:
            self.stopping = True
            if self in device._queue:  # it has not begun: nothing to wait for
                device._queue.remove(self)
                if not self.silent:
                    device._active.appendleft(self)
                    self.open()
            device._changed.notify_all()
        self.production.interrupt(kept=not self.silent)

    def place(self) -> int:
        queue = self._device._queue
        with self._device._changed:
            return queue.index(self) + 1 if self in queue else 0

    def due(self) -> float:
        """When the device is wanted next, on the clock of `perf_counter`."""
        if self._away:
            return math.inf
        if self.stopping or self._keeping:
            return 0.0
        if self._unread >= MAX_UNREAD or self._held_back or not self.production.ready:
            return math.inf
        return self._paced()

    def open(self) -> None:
        """Open the stream, in a thread."""
        self._beside(self.production.open, then=self._back)

    def advance(self) -> None:
        """Make one chunk, or end."""
        if self.stopping and self.silent:
            self._over()
            return
        if self._keeping and not self.stopping:
            self._keeping, self._away = False, True
            try:
                self.production.settle()
            except Exception as error:
                self._over(self.production.failed(error))
            else:
                self._beside(lambda: self.report(self.production.keep()), then=self._back)
            return
        wanted = 0.0 if self.stopping else max(self._wanted, self._paced())
        idle = max(0.0, wanted - self._left)
        try:
            made = self.production.step(idle)
        except Exception as error:  # the job broke, not the device: the others go on
            self._over(self.production.failed(error))
            return
        if made is None:
            self._away = True
            self._beside(self._end, then=self._over)
            return
        self._left = time.perf_counter()
        self._playback = self._playback or self._left
        self._made += len(made.chunk.frames) / made.info.fps
        self._unread += 1
        self.report(made)

    @property
    def _held_back(self) -> bool:
        return self._before + self._made >= self._permitted

    def _paced(self) -> float:
        if not self.job.paced or self._playback is None:
            return 0.0
        return self._playback + self._made - self._device._lead

    def _end(self) -> None:
        if not self.silent:
            self.report(self.production.end())

    def _back(self) -> None:
        self._away = False
        self._device._wake()

    def _over(self, failed: Failed | None = None) -> None:
        if failed is not None:
            self.report(failed)
        self.production.close()
        self._device._leave(self)

    def _beside(self, work: Callable[[], None], *, then: Callable[[], None]) -> None:
        """Do what needs no model in a thread, which leaves the processor to passes first."""

        def run() -> None:
            with contextlib.suppress(AttributeError, OSError):  # threads have one on Linux only
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
            try:
                work()
            except Exception as error:
                self._over(self.production.failed(error))
            else:
                then()

        threading.Thread(target=run, name=f"run {self.job.run}", daemon=True).start()
