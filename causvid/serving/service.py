"""Runs by id: start, watch, steer, stop, extend; and one line in the log for each.

This is what the app and its API talk to. A `Run` is watched with `async for`; leaving that loop in
any way gives the device back. What a finished run leaves (its fragments, a snapshot) is kept for a
while so that it can be extended, and then deleted.
"""

import asyncio
import dataclasses
import json
import logging
import math
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from causvid.cues import Handover
from causvid.media import FragmentMuxer
from causvid.request import Request
from causvid.serving.checks import check_prompt, check_request
from causvid.serving.device import Device, Ticket
from causvid.serving.job import Continuation, Ended, Event, Failed, Job, Made
from causvid.serving.mailbox import Mailbox
from causvid.serving.models import Models
from causvid.settings import Settings

log = logging.getLogger("causvid.runs")

MAX_KEPT = 32  # finished runs, over all viewers


class RunError(RuntimeError):
    """A run broke through no fault of its viewer; the message has its id, the log the cause."""


class Run:
    """One run, from the request to the final video. Made by `Service`.

    Attributes:
        id: to steer, stop and extend it by.
        muxer: the video so far; whoever watches appends to it.
        ended: set when it is over.
    """

    def __init__(self, service: "Service", job: Job, session: str, muxer: FragmentMuxer):
        self.id = job.run
        self.job = job
        self.session = session
        self.muxer = muxer
        self.ended: Ended | None = None
        self.outcome = "cancelled"
        self.error: Exception | None = None
        self._service = service
        self._mailbox = Mailbox(job.mailbox_path)
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self.asked = time.perf_counter()
        self.ticket: Ticket = service.device.submit(job, self._deliver)

    def _deliver(self, event: Event) -> None:
        """Called by the device's thread."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the server's loop is gone, and with it whoever waited
            self.ticket.cancel()

    async def places(self, interval: float = 0.5) -> AsyncIterator[int]:
        """The place in the queue whenever it changes, until the run begins."""
        last = 0
        while place := self.ticket.place():
            if place != last:
                yield place
                last = place
            await asyncio.sleep(interval)

    async def events(self) -> AsyncIterator[Made | Ended]:
        """Chunks as they are finished, then the end.

        Raises:
            ValueError: if the request was to blame.
            RunError: if something else was.
        """
        try:
            while True:
                event = await self._events.get()
                if isinstance(event, Failed):
                    self.outcome, self.error = "failed", event.error
                    self._service.explain(self, event.error)
                if isinstance(event, Ended):
                    self.ended = event
                    self.outcome = "stopped" if event.stopped else "finished"
                    yield event
                    return
                yield event
                self.ticket.taken()
        finally:
            self.ticket.cancel()
            self._service.over(self)

    @property
    def fps(self) -> int:
        return self._service.models.preset(self.job.request.model).generation.fps

    @property
    def expected_seconds(self) -> float | None:
        """How long the whole video is to be, if that is known."""
        if self.job.endless:
            return None
        if self.job.continuation is not None:
            before = sum(chunk["frames"] for chunk in self.job.continuation.chunks) / self.fps
            return before + self.job.continuation.seconds
        return self.job.request.seconds

    def steer(self, prompt: str, handover: str) -> None:
        self._mailbox.post(prompt, handover)


class Service:
    """Everything behind the app.

    Args:
        settings: limits and habits.
        models: what can be generated with.
        device: where.
    """

    def __init__(self, settings: Settings, models: Models, device: Device):
        self.settings = settings
        self.models = models
        self.device = device
        self._folder = Path(tempfile.mkdtemp(prefix="causvid-"))
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}  # live ones, and finished ones that can be extended

    def start(
        self,
        request: Request,
        *,
        image: np.ndarray | None = None,
        video: Path | None = None,
        session: str = "",
        watched: bool = False,
    ) -> Run:
        """Queue a request. Call it where an event loop runs.

        Args:
            image: uint8 `[h, w, 3]`, of the video's size.
            video: a file; it is copied, so it may go away meanwhile.
            session: who asks; `leave` ends all their runs.
            watched: whether it is played while it is made.

        Raises:
            ValueError: if a limit is exceeded, or no more runs can wait.
        """
        request = check_request(request, self.models.preset(request.model), self.settings)
        endless = request.seconds == math.inf
        if endless:
            request = dataclasses.replace(request, seconds=self.settings.endless_seconds)
        self.models.check(request)
        generation = self.models.preset(request.model).generation
        run, folder = self._new_folder()
        if video is not None:
            copy = folder / f"source{Path(video).suffix}"
            shutil.copyfile(video, copy)
            video = copy
        job = Job(
            run=run,
            request=request,
            folder=folder,
            image=image,
            video=video,
            snapshot_bytes=self.settings.snapshot_mb * 10**6,
            paced=watched,
            endless=endless,
        )
        muxer = FragmentMuxer(fps=generation.fps, height=request.height, width=request.width)
        return self._begin(job, session, muxer)

    def extend(
        self,
        run: str,
        seconds: float,
        *,
        prompt: str | None = None,
        handover: str = "recache",
        session: str = "",
        watched: bool = False,
    ) -> Run:
        """Go on from where a run ended, with another prompt if one is given.

        Raises:
            ValueError: if there is no such run any more, or a limit is exceeded.
        """
        earlier = self._find(run)
        if earlier.ended is None:
            raise ValueError("this video is still being made: steer it, or stop it first")
        if not earlier.ended.continuable:
            raise ValueError("this run left nothing to go on from")
        if not seconds > 0:
            raise ValueError(f"the extension is {seconds:g} s; expected more than 0")
        before = earlier.ended.manifest["video"]["seconds"]
        if before + seconds > self.settings.longest:
            raise ValueError(
                f"the video has {before:.1f} s and would have {before + seconds:.1f}; allowed are "
                f"{self.settings.longest:g}"
            )
        if prompt is not None:
            prompt = check_prompt(prompt, self.settings)
            Handover.parse(handover)
        new, folder = self._new_folder()
        snapshot = folder / "begin.safetensors"
        snapshot.hardlink_to(earlier.job.snapshot_path)
        video = earlier.job.video
        if video is not None:
            (folder / video.name).hardlink_to(video)
            video = folder / video.name
        job = dataclasses.replace(
            earlier.job,
            run=new,
            folder=folder,
            video=video,
            paced=watched,
            endless=False,
            continuation=Continuation(
                snapshot=snapshot,
                chunks=tuple(earlier.ended.manifest["chunks"]),
                timings=earlier.ended.manifest["timings"],
                seconds=seconds,
                prompt=prompt,
                handover=handover,
            ),
        )
        return self._begin(job, session, earlier.muxer.copy())

    def steer(self, run: str, prompt: str, handover: str = "recache") -> None:
        """Change the prompt of a live run from its next chunk on.

        Raises:
            ValueError: if the prompt, the hand-over or the run cannot be used.
        """
        prompt = check_prompt(prompt, self.settings)
        Handover.parse(handover)
        live = self._find(run)
        if live.ended is not None:
            raise ValueError("this video is finished: extend it with the new prompt instead")
        live.steer(prompt, handover)

    def stop(self, run: str) -> None:
        """End a live run soon; it tells with `Ended` what was made. Repeating is harmless."""
        with self._lock:
            live = self._runs.get(run)
        if live is not None and live.ended is None:
            live.ticket.stop()

    def leave(self, session: str) -> None:
        """Cancel and forget all runs of a session."""
        with self._lock:
            runs = [run for run in self._runs.values() if run.session == session]
        for run in runs:
            run.ticket.cancel()
            self.forget(run.id)

    def forget(self, run: str) -> None:
        """Delete what a run left behind."""
        with self._lock:
            gone = self._runs.pop(run, None)
        if gone is not None:
            gone.muxer.close()
            shutil.rmtree(gone.job.folder, ignore_errors=True)

    def close(self) -> None:
        """End everything and delete every file."""
        self.device.close()
        for run in list(self._runs):
            self.forget(run)
        shutil.rmtree(self._folder, ignore_errors=True)

    # Used by runs

    def explain(self, run: Run, error: Exception) -> None:
        """Raise the error that a viewer should see."""
        if isinstance(error, ValueError):
            raise error
        log.error("run %s failed", run.id, exc_info=error)
        raise RunError(f"something broke here; if you report it, name run {run.id}") from None

    def over(self, run: Run) -> None:
        """A run is over: log it, and keep or delete what it left."""
        self._log(run)
        if run.ended is None or not run.ended.continuable:
            self.forget(run.id)
            return
        with self._lock:
            kept = [old for old in self._runs.values() if old.ended is not None]
        for old in kept[: max(0, len(kept) - MAX_KEPT)]:
            self.forget(old.id)
        timer = threading.Timer(self.settings.keep_minutes * 60, self.forget, (run.id,))
        timer.daemon = True
        timer.start()

    def _begin(self, job: Job, session: str, muxer: FragmentMuxer) -> Run:
        try:
            run = Run(self, job, session, muxer)
        except ValueError:
            muxer.close()
            shutil.rmtree(job.folder, ignore_errors=True)
            raise
        with self._lock:
            self._runs[run.id] = run
        return run

    def _find(self, run: str) -> Run:
        with self._lock:
            found = self._runs.get(run)
        if found is None:
            raise ValueError(
                f"there is no run {run!r:.40}; it may have ended more than "
                f"{self.settings.keep_minutes:g} minutes ago"
            )
        return found

    def _new_folder(self) -> tuple[str, Path]:
        run = secrets.token_urlsafe(9)
        folder = self._folder / run
        folder.mkdir()
        return run, folder

    def _log(self, run: Run) -> None:
        manifest = run.ended.manifest if run.ended else {}
        timings, video = manifest.get("timings", {}), manifest.get("video", {})
        line = {
            "run": run.id,
            "model": run.job.request.model,
            "mode": run.job.request.mode,
            "seconds": video.get("seconds"),
            "chunks": len(manifest.get("chunks", ())) or None,
            "first_frame_seconds": timings.get("first_frame_seconds"),
            "frames_per_second": timings.get("frames_per_second"),
            "queued_seconds": run.ticket.began and run.ticket.began - run.asked,
            "outcome": run.outcome,
        }
        if run.error is not None:
            line["error"] = type(run.error).__name__
        if self.settings.log_prompts:
            line["prompts"] = run.job.request.prompts.to_dict()
        log.info(json.dumps(line))
