"""One run as its viewer's side sees it: its events and its end.

A `Run` is watched with `async for event in run.events()`. Leaving that loop in any way gives the
device back, and `cancel` ends it from elsewhere. It knows its job and its device, not who watches.
"""

import asyncio
import dataclasses
import logging
import math
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causvid.media import FragmentMuxer, NoRoomError, add_sound, write_animation
from causvid.media.fragments import WithRoom
from causvid.serving.device import Device, Ticket
from causvid.serving.job import Ended, Event, Failed, Job, Kept, Made
from causvid.serving.record import Call, ChunkInfo, Manifest
from causvid.serving.request import Request

log = logging.getLogger("causvid.runs")


class RunError(RuntimeError):
    """A run broke through no fault of its viewer; the message has its id, the log the cause."""


@dataclass(frozen=True)
class Results:
    """What a run leaves: its video, and its manifest as a file and as it is.

    Attributes:
        silent: whether the sound of its source could not be taken along.
    """

    video: Path
    record: Path
    manifest: Manifest
    silent: bool = False


class Run:
    """One run, from the request to the final video. Made by `Service`, where an event loop runs.

    Args:
        job: what to make.
        device: where.
        muxer: the video so far; the side that watches appends to it.
        results: a folder for the files that the viewer may fetch.
        fps: of the video.
        owner: a secret of who asks.
        call_of: the call that makes a request again, or why there is none, for the manifest.
        with_room: does what needs room on the disk.
        over: called once, after the last event.

    Raises:
        ValueError: if no more runs can wait.

    Attributes:
        id: to steer, stop and extend it by.
        ended: set when it has come to an end of its own, or was stopped.
    """

    def __init__(
        self,
        job: Job,
        device: Device,
        muxer: FragmentMuxer,
        *,
        results: Path,
        fps: int,
        owner: str,
        client: str | None,
        call_of: Callable[[Request], tuple[Call | None, str | None]],
        with_room: WithRoom,
        over: Callable[["Run"], None],
    ):
        self.id = job.run
        self.job = job
        self.muxer = muxer
        self.results = results
        self.fps = fps
        self.owner = owner
        self.client = client
        self.ended: Ended | None = None
        self._call_of = call_of
        self._with_room = with_room
        self._over = over
        self._closed = False
        self._unsent = False  # a chunk could not be sent
        self._outcome = "cancelled"
        self._error: Exception | None = None
        self._last: ChunkInfo | None = None  # of the newest chunk
        self._loop = asyncio.get_running_loop()
        self._keepers: list[Callable[[Kept], Awaitable[None]]] = []
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._asked = time.perf_counter()
        self.ticket: Ticket = device.submit(job, self._deliver)

    async def places(self, interval: float = 0.5) -> AsyncIterator[int]:
        """The place in the queue whenever it changes, until the run begins."""
        last = 0
        while place := self.ticket.place():
            if place != last:
                yield place
                last = place
            await asyncio.sleep(interval)

    async def events(self) -> AsyncGenerator[Made | Ended, None]:
        """Chunks as they are finished, then the end; no end after `cancel`.

        Raises:
            ValueError: if the request was to blame.
            RunError: if something else was.
        """
        try:
            while (event := await self._events.get()) is not None:
                if isinstance(event, Failed):
                    self._outcome, self._error = "failed", event.error
                    if event.ended is not None:
                        self.ended = self._callable(event.ended)
                    if isinstance(event.error, ValueError):
                        raise event.error
                    log.error("run %s failed", self.id, exc_info=event.error)
                    raise RunError(f"something broke here; if you report it, name run {self.id}")
                if isinstance(event, Ended):
                    self.ended = ended = self._callable(event)
                    self._outcome = "stopped" if ended.manifest.stopped else "finished"
                    yield ended
                    return
                if isinstance(event, Kept):
                    await self._keepers.pop(0)(event)
                    continue
                self._last = event.info
                yield event
                self.ticket.taken()
        finally:
            self.close()

    def permit(self, until: float) -> None:
        """Begin no chunk while the whole video has `until` seconds or more."""
        self.ticket.permit(until)

    def save_chunk(self, made: Made) -> Path:
        """Append a chunk to the video, and write it as a file that plays by itself.

        Raises:
            NoRoomError: if the disk is full; then the run is stopped, for it cannot be sent.
        """
        fragment = self.muxer.append(made.chunk.frames)
        chunk = self.results / f"chunk-{fragment.index:05d}.mp4"
        try:
            self.muxer.save_chunk(fragment, chunk)
        except NoRoomError:
            self._unsent = True
            self.ticket.stop()
            raise
        return chunk

    def save(self) -> Results | None:
        """After the end: the whole video and its manifest as files, if there are frames.

        Raises:
            NoRoomError: if the disk is full.
        """
        if self.ended is None or not self.muxer.kept_count:
            return None
        video, record = (self.results / f"{self.id}{suffix}" for suffix in (".mp4", ".json"))
        manifest = self.ended.manifest
        self.muxer.finish(video)
        sound = None if self.job.video is None else add_sound(video, self.job.video)
        self._with_room(lambda: manifest.save(record))
        return Results(video, record, manifest, silent=sound is False)

    def keep(self, told: Callable[[Kept], Awaitable[None]]) -> None:
        """Have a snapshot made before the next chunk, of a run that goes on.

        Args:
            told: called by `events` when all chunks before it were taken; not if the run ends
                first.

        Raises:
            ValueError: if nothing is made yet, or the device cannot.
        """
        if self._last is None:
            raise ValueError("nothing is made yet: wait for the first chunk")
        self.ticket.keep()
        self._keepers.append(told)

    def save_animation(self, suffix: str) -> Path:
        """After `save`: the video as a WebP or a GIF, by its suffix, made when it is first wanted.

        Raises:
            ValueError: if it left no video, or it is too long.
            NoRoomError: if the disk is full.
        """
        video, target = (self.results / f"{self.id}{it}" for it in (".mp4", suffix))
        if not video.exists():
            raise ValueError("this run left no video")
        if not target.exists():
            height, width = self.job.request.size
            part = target.with_name(f"{secrets.token_hex(8)}{suffix}")  # two may want it at once
            try:
                self._with_room(
                    lambda: write_animation(video, part, width=width, height=height, fps=self.fps)
                )
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
        return target

    @property
    def shortened(self) -> bool:
        """Whether the disk was full, so that the video's file ends before the run did."""
        return self.muxer.kept_count < self.muxer.frame_count

    @property
    def over(self) -> bool:
        """Whether it has ended and nobody watches any more."""
        return self._closed

    def cancel(self) -> None:
        """Give the device back, and let `events` end. Callable from any thread, repeatedly."""
        self.ticket.cancel()
        self._deliver(None)

    def close(self) -> None:
        """Nobody watches any more. Repeating is harmless."""
        if not self._closed:
            self._closed = True
            self.ticket.cancel()
            self._over(self)

    @property
    def expected_seconds(self) -> float | None:
        """How long the whole video is to be, if that is known."""
        continuation, seconds = self.job.continuation, self.job.request.seconds
        if continuation is not None:
            return continuation.manifest.video.seconds + continuation.seconds
        return None if seconds == math.inf else seconds

    def record(self) -> dict[str, Any]:
        """What the log keeps of the run: figures, and no words of the viewer's."""
        began, last = self.ticket.began, self._last
        line: dict[str, Any] = {
            "run": self.id,
            "model": self.job.request.model,
            "mode": self.job.request.mode,
            "seconds": last.seconds if last else 0.0,
            "chunks": last.index + 1 if last else 0,
            "first_frame_seconds": last.first_frame_seconds if last else None,
            "frames_per_second": last.times_playback * self.fps if last else None,
            "queued_seconds": None if began is None else began - self._asked,
            "outcome": self._outcome,
        }
        if self._error is not None:
            line["error"] = type(self._error).__name__
        return line

    def _callable(self, ended: Ended) -> Ended:
        """The same with the call that makes it again; without a snapshot if the video has a gap."""
        manifest, kept = ended.manifest, ended.snapshot_bytes
        if self._unsent:
            manifest = manifest.model_copy(update={"stopped": True, "stopped_by": "room"})
        call, why = self._call_of(manifest.request)
        if self.job.live is not None:
            call, why = None, "it followed a camera, whose pictures are not kept"
        elif manifest.strengths:
            call, why = None, "its strength was changed on the way, which no call can say"
        manifest = manifest.model_copy(update={"call": call, "no_call": why})
        kept = 0 if self.shortened else kept
        return dataclasses.replace(ended, manifest=manifest, snapshot_bytes=kept)

    def _deliver(self, event: Event | None) -> None:
        """Hand it to `events`, from the device's thread; `None` ends them without an event."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the event loop is closed
            self.ticket.cancel()


class Moment(Run):
    """The state of a run between two chunks, as a run that has ended there and left no files."""

    def __init__(self, run: Run, kept: Kept, job: Job, results: Path):
        manifest = kept.manifest.model_copy(update={"run": job.run})
        self.id, self.job, self.results = job.run, job, results
        self.fps, self.owner, self.client = run.fps, run.owner, run.client
        self.ended = run._callable(Ended(manifest, kept.snapshot_bytes))
        self.muxer = run.muxer.copy()

    @property
    def over(self) -> bool:
        return True

    def cancel(self) -> None:
        """Nothing is being made."""
