"""A device that is lent for one call at a time, in a forked process: ZeroGPU.

`spaces.GPU` runs a generator function in a child that holds the GPU. Only pickled values cross,
so a job goes in and events come out; what steers and stops it goes through files in its folder. The
platform queues and schedules, so there are no turns to take here.
"""

import contextlib
import contextvars
import dataclasses
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Generator

from causvid.serving.device import Ticket
from causvid.serving.job import Change, Event, Failed, Job, Made, OpenModel, Production

# Files in the job's folder.
_STOP = "stop"  # being there stops the run
_CHANGES = "changes.jsonl"  # what it was steered to: a number and a `Change` in every line

log = logging.getLogger("causvid.server")

LentCall = Callable[[Job], Generator[Event, None, None]]

_POLL = 0.05  # seconds
_TO_END = 6.0  # seconds for the step in progress, the snapshot and the way back


def carry_out(open_model: OpenModel, job: Job, seconds: float) -> Generator[Event, None, None]:
    """Make the whole job, or as much as there is time for, in the process that has the device.

    Args:
        seconds: how long the device is lent. When they are over the platform kills the process, so
            the run is stopped a little before: what was made stays, and can be extended.
    """
    deadline = time.monotonic() + seconds - min(_TO_END, seconds / 4)
    production = Production(open_model, job)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_POLL):
            # Without its folder, nobody wants the run any more.
            if (job.folder / _STOP).exists() or not job.folder.exists():
                production.interrupt("viewer")
                return
            if time.monotonic() > deadline:
                production.interrupt("time")
                return

    threading.Thread(target=watch, name="stop", daemon=True).start()
    steered = 0
    try:
        while True:
            with contextlib.suppress(FileNotFoundError):  # it was never steered
                changes = (job.folder / _CHANGES).read_bytes().split(b"\n")[:-1]  # whole lines
                for line in changes[steered:]:
                    number, change = json.loads(line)
                    production.steer(Change(**change), number)
                steered = len(changes)
            if (made := production.step()) is None:
                break
            yield dataclasses.replace(made, so_far=production.so_far())
        yield production.end()
    except Exception as error:
        if not isinstance(error, ValueError):  # where it broke does not cross to the server
            log.error("run %s broke", job.run, exc_info=error)
        yield production.failed(error)
    finally:
        over.set()
        production.close()


def lent_seconds(job: Job, limit: int) -> int:
    """How long to ask for the device: a start, and then two seconds of work a second of video.

    Too little ends the run early, too much costs the visitor quota and a place in the queue. Twice
    the length of the video is what a GPU half as fast as playback needs.
    """
    going_on = job.continuation
    seconds = going_on.seconds if going_on is not None else job.request.seconds
    return limit if seconds is None else math.ceil(min(limit, 10 + 2 * seconds))


class LentDevice:
    """Jobs on a device that is lent for one call each.

    Args:
        call: carries out a job in the process that has the device; `carry_out`, decorated.
    """

    takes_live = False  # a picture would have to reach another process

    def __init__(self, call: LentCall):
        self._call = call

    def submit(self, job: Job, deliver: Callable[[Event], None]) -> "_Call":
        return _Call(self._call, job, deliver)

    def close(self) -> None:
        """Nothing is held between calls."""


class _Call(Ticket):
    def __init__(self, call: LentCall, job: Job, deliver: Callable[[Event], None]):
        super().__init__(job, deliver)
        self._call = call
        # The platform reads the visitor's quota from the context of the web request.
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._run,), name=f"run {job.run}", daemon=True
        ).start()

    def steer(self, change: Change) -> int:
        number = super().steer(change)
        line = json.dumps([number, dataclasses.asdict(change)]) + "\n"
        path = self.job.folder / _CHANGES
        with contextlib.suppress(FileNotFoundError), path.open("a", encoding="utf-8") as changes:
            changes.write(line)  # without the folder the run is forgotten, which also ends it
        return number

    def stop(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.job.folder / _STOP).touch()

    def _run(self) -> None:
        last: Event | None = None
        try:
            with contextlib.closing(self._call(self.job)) as events:
                for last in events:
                    if self.silent:  # closing the platform's generator gives the device back
                        return
                    self.began = self.began or time.perf_counter()
                    self.report(last)
            if last is None or isinstance(last, Made):
                error = RuntimeError("the device was taken away during the run")
                self.report(_broken(error, last))
        except Exception as error:
            self.report(_broken(_explained(error), last))


def _broken(error: Exception, last: Event | None) -> Failed:
    """The end of a call that told none after its event `last`; what it had made is kept."""
    return Failed(error, last.so_far if isinstance(last, Made) else None)


# What the platform's errors contain, and what a visitor can do.
_REFUSALS = {
    "quota": "the GPU time that you may use on this site today is used up, or too little is left "
    "for this video: log in, ask for a shorter one, or come back tomorrow",
    "illegal duration": "this video is too long for the GPU time that you may ask for at once: ask "
    "for a shorter one",
    "queue timeout": "no GPU became free in time: try again in a minute",
    "task aborted": "the GPU was taken away while the video was made: ask for a shorter one",
}


def _explained(error: Exception) -> Exception:
    """The platform's refusals as a `ValueError` with a way out; any other error as it is."""
    said = f"{getattr(error, 'title', '')} {error}".lower()
    for sign, explanation in _REFUSALS.items():
        if sign in said:
            return ValueError(explanation)
    return error
