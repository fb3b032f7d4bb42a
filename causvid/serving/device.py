"""Sharing one device between runs: one thread, one chunk at a time, in turns.

Runs take turns chunk by chunk (round robin), so every viewer gets the same share and the first
chunk of a newcomer waits for no more than one chunk of each other. A run loses its turn while its
viewer is behind: unread chunks are bounded, and a watched video is made only some seconds ahead of
its playback. Up to `viewers` runs share the device; later ones wait and know their place.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from causvid.serving.job import Event, Failed, Job, OpenModel, Production

log = logging.getLogger(__name__)

MAX_UNREAD = 3  # chunks made and not yet taken by the viewer's side


class Busy(ValueError):
    """No more runs can wait."""


class Ticket(Protocol):
    """One run on a device, as its owner sees it; callable from any thread.

    Attributes:
        began: when it left the queue, on the clock of `perf_counter`.
    """

    began: float | None

    def taken(self) -> None:
        """The owner has taken a chunk."""

    def steer(self, prompt: str, handover: str) -> None:
        """Change the prompt from the next chunk on, of a run that waits from its first."""

    def stop(self) -> None:
        """End soon, and tell with `Ended` what was made."""

    def cancel(self) -> None:
        """End soon and tell nothing more."""

    def place(self) -> int:
        """How many runs are before this one in the queue; 0 once it has begun."""


class Device(Protocol):
    """Where jobs are carried out."""

    def submit(self, job: Job, deliver: Callable[[Event], None]) -> Ticket:
        """Carry out `job`; `deliver` is called from another thread, an `Ended` or `Failed` last.

        Raises:
            Busy: if no more runs can wait.
        """

    def close(self) -> None:
        """End everything."""


class SharedDevice:
    """A device in this process.

    Args:
        open_model: gives the pipeline of a job's model.
        viewers: runs that share the device.
        waiting: further runs that may wait.
        lead: seconds that paced runs are made ahead of playback.
    """

    def __init__(self, open_model: OpenModel, *, viewers: int, waiting: int, lead: float):
        self._open_model = open_model
        self._viewers = viewers
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
                raise Busy(
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
            self._changed.notify_all()
        self._thread.join(timeout=30)

    # Called by tickets, from any thread

    def _place(self, turn: "_Turn") -> int:
        with self._changed:
            return self._queue.index(turn) + 1 if turn in self._queue else 0

    def _end_soon(self, turn: "_Turn", *, silently: bool) -> None:
        with self._changed:
            turn.stopping = True
            turn.silent = turn.silent or silently
            if turn in self._queue:  # it has not begun: nothing to wait for
                self._queue.remove(turn)
                if not turn.silent:
                    self._active.appendleft(turn)
            self._changed.notify_all()
        turn.production.interrupt()

    def _taken(self, turn: "_Turn") -> None:
        with self._changed:
            turn.take_one()
            self._changed.notify_all()

    # The device's own thread

    def _admit(self) -> None:
        while self._queue and len(self._active) < self._viewers:
            turn = self._queue.popleft()
            turn.began = time.perf_counter()
            self._active.append(turn)

    def _work(self) -> None:
        while True:
            with self._changed:
                turn = self._next()
                while turn is None:
                    if self._closed:
                        return
                    self._changed.wait(self._pause())
                    turn = self._next()
                if self._closed:
                    turn.stopping = turn.silent = True
            try:
                over = turn.advance()
            except Exception as error:
                # The job broke, not the device: the others go on.
                turn.production.close()
                turn.report(Failed(error))
                over = True
            if over:
                with self._changed:
                    self._active.remove(turn)
                    self._admit()
                    self._changed.notify_all()

    def _next(self) -> "_Turn | None":
        """The first run that can use a turn; it goes to the end of the line."""
        now = time.perf_counter()
        for turn in self._active:
            if turn.due(self._lead) <= now:
                self._active.remove(turn)
                self._active.append(turn)
                return turn
        return None

    def _pause(self) -> float | None:
        """Seconds until a paced run is due; `None` to wait for a change."""
        due = min((turn.due(self._lead) for turn in self._active), default=math.inf)
        return None if due == math.inf else max(0.0, due - time.perf_counter())


class _Turn:
    """The ticket of a run on a `SharedDevice`, and its bookkeeping there."""

    def __init__(self, device: SharedDevice, job: Job, deliver: Callable[[Event], None]):
        self.production = Production(device._open_model, job)
        self.stopping = False
        self.silent = False
        self.unread = 0
        self._device = device
        self._deliver = deliver
        self._playback: float | None = None  # when the first frame could be seen
        self._made = 0.0  # seconds of video
        self._left = math.inf  # when the last step ended
        self.began: float | None = None  # when it left the queue
        self._wanted = 0.0  # when the viewer last caught up

    # Ticket

    def taken(self) -> None:
        self._device._taken(self)

    def steer(self, prompt: str, handover: str) -> None:
        self.production.steer(prompt, handover)

    def stop(self) -> None:
        self._device._end_soon(self, silently=False)

    def cancel(self) -> None:
        self._device._end_soon(self, silently=True)

    def place(self) -> int:
        return self._device._place(self)

    # Used by the device

    def take_one(self) -> None:
        if self.unread >= MAX_UNREAD:
            self._wanted = time.perf_counter()
        self.unread -= 1

    def due(self, lead: float) -> float:
        """When the next chunk is wanted, on the clock of `perf_counter`."""
        if self.stopping:
            return 0.0
        if self.unread >= MAX_UNREAD:
            return math.inf
        if not self.production.job.paced or self._playback is None:
            return 0.0
        return self._playback + self._made - lead

    def advance(self) -> bool:
        """Make one chunk; whether the run is over."""
        production = self.production
        if (wanted := max(self._wanted, self.due(self._device._lead))) > self._left:
            production.idle(wanted - self._left)
        made = None if self.stopping and self.silent else production.step()
        self._left = time.perf_counter()
        if made is None:
            if not self.silent:
                self.report(production.end())
            production.close()
            return True
        self._playback = self._playback or self._left
        self._made += len(made.chunk.frames) / made.info.fps
        self.unread += 1
        self.report(made)
        return False

    def report(self, event: Event) -> None:
        if not self.silent:
            self._deliver(event)
