"""One run: as data that can cross a process boundary, and as work that is done step by step.

A `Job` says what to make. A `Production` makes it: it opens the stream, reads the mailbox before
every chunk, keeps the manifest, and at the end leaves a snapshot behind that another job can go on
from. Neither knows who watches, nor with whom the device is shared.
"""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from causvid.generation.prompts import PromptSchedule
from causvid.generation.stream import FrameChunk, Stream, StreamInterrupted
from causvid.pipeline import CausVidPipeline
from causvid.presets.catalogue import Preset
from causvid.serving.mailbox import Mailbox
from causvid.serving.record import call_of
from causvid.serving.request import Manifest, Request, describe

Reason = Literal["viewer", "time"]
"""Why a run was ended early: it was stopped, or the device was lent for no longer."""


@dataclass(frozen=True)
class Continuation:
    """Going on from an earlier run.

    Args:
        snapshot: the stream as the earlier run left it.
        chunks: descriptions of the chunks that it made.
        timings: the timings in its manifest.
        seconds: how much longer.
        prompt: another prompt from here on, or `None` for the same.
        handover: how it takes over.
    """

    snapshot: Path
    chunks: tuple[dict[str, Any], ...]
    timings: dict[str, float]
    seconds: float
    prompt: str | None = None
    handover: str = "recache"


@dataclass(frozen=True, eq=False)
class Job:
    """What a run is to make; picklable.

    Args:
        run: its id, not to be guessed by strangers.
        request: every parameter.
        folder: for everything that the run leaves behind.
        image: image-to-video: the picture, uint8 `[h, w, 3]`, of the video's size.
        video: video-to-video: the file.
        continuation: set if it goes on from an earlier run.
        snapshot_bytes: the largest state to leave behind; 0 for none.
        paced: whether somebody watches while it is made; then there is no hurry to be far ahead.
        endless: whether it goes on until it is stopped; the request's length is then a limit.
    """

    run: str
    request: Request
    folder: Path
    image: np.ndarray | None = None
    video: Path | None = None
    continuation: Continuation | None = None
    snapshot_bytes: int = 0
    paced: bool = False
    endless: bool = False

    @property
    def mailbox_path(self) -> Path:
        return self.folder / "steer.json"

    @property
    def snapshot_path(self) -> Path:
        return self.folder / "end.safetensors"


@dataclass(frozen=True, eq=False)
class Made:
    """A finished chunk and its `info`, JSON-ready."""

    chunk: FrameChunk
    info: dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """The end of a run.

    Attributes:
        manifest: JSON-ready; its request, sent again, gives the same video.
        stopped_by: why it was ended early; `None` if it was not.
        snapshot_bytes: size of the state that another run can go on from; 0 if there is none.
    """

    manifest: dict[str, Any]
    stopped_by: Reason | None = None
    snapshot_bytes: int = 0

    @property
    def continuable(self) -> bool:
        return self.snapshot_bytes > 0


@dataclass(frozen=True, eq=False)
class Failed:
    """The run broke; `error` is a `ValueError` if its request was to blame."""

    error: Exception


Event = Made | Ended | Failed


class Production:
    """A job being carried out. Not for several threads, except `interrupt`.

    Raises:
        ValueError: if the request does not fit the model.
    """

    def __init__(self, pipeline: CausVidPipeline, preset: Preset, job: Job):
        self._job = job
        self._mailbox = Mailbox(job.mailbox_path)
        self._reason: Reason = "viewer"
        self._stopped_by: Reason | None = None
        earlier = job.continuation
        if earlier is None:
            self.stream = job.request.open(pipeline, image=job.image, video=job.video)
        else:
            self.stream = self._go_on(pipeline, earlier)
        self._manifest = Manifest(job.request, preset, self.stream)
        if earlier is not None:  # the record is of the whole video
            self._manifest.chunks.extend(earlier.chunks)
            self._manifest.started -= earlier.timings["total_seconds"]
            self._manifest.first_frame_seconds = earlier.timings["first_frame_seconds"]

    def idle(self, seconds: float) -> None:
        """Time that passed because nobody wanted a chunk yet does not count."""
        self._manifest.started += seconds

    def step(self) -> Made | None:
        """The next chunk; `None` at the end, or if `interrupt` was called."""
        letter = self._mailbox.collect()
        if letter is not None:
            self.stream.steer(letter.prompt, letter.handover)
        try:
            chunk = self.stream.step()
        except StreamInterrupted:
            self._stopped_by = self._reason
            return None
        if chunk is None:
            return None
        self._manifest.record(chunk)
        return Made(chunk, self._info(chunk))

    def interrupt(self, reason: Reason = "viewer") -> None:
        """End within one pass of the transformer. Callable from any thread."""
        self._reason = reason
        self.stream.interrupt()

    def end(self) -> Ended:
        """Write down how it went, and leave a snapshot to go on from."""
        request = _as_made(self._job.request, self.stream)
        self._manifest.request = request
        manifest = self._manifest.to_dict()
        manifest["request"] = request.to_dict()  # with the cues that lie inside the video only
        manifest |= {
            "run": self._job.run,
            "stopped": self._stopped_by is not None,
            "stopped_by": self._stopped_by,
            "done": True,
            "call": call_of(request),
        }
        kept = 0
        if self.stream.position and self._job.snapshot_bytes:
            snapshot = self.stream.snapshot()
            if len(snapshot) <= self._job.snapshot_bytes:
                kept = self._job.snapshot_path.write_bytes(snapshot)
        return Ended(manifest, self._stopped_by, kept)

    def close(self) -> None:
        self.stream.close()

    def _go_on(self, pipeline: CausVidPipeline, continuation: Continuation) -> Stream:
        stream = pipeline.resume(
            continuation.snapshot, video=self._job.video, decoder=self._job.request.decoder
        )
        timeline = stream.generator.timeline
        stream.chunk_count = max(
            stream.position + 1, timeline.chunk_count(stream.seconds + continuation.seconds)
        )
        if continuation.prompt is not None:
            stream.steer(continuation.prompt, continuation.handover)
        return stream

    def _info(self, chunk: FrameChunk) -> dict[str, Any]:
        manifest, config = self._manifest, self.stream.generator.config
        made = sum(part["frames"] for part in manifest.chunks)
        elapsed = time.perf_counter() - manifest.started
        recent = manifest.chunks[-1]["timings"]["total"]
        return {
            "run": self._job.run,
            **describe(chunk),
            "fps": config.fps,
            "seed": self.stream.seed,
            "chunks": self.stream.chunk_count,
            "seconds": made / config.fps,
            "first_frame_seconds": manifest.first_frame_seconds,
            "elapsed_seconds": elapsed,
            "chunk_times_playback": len(chunk.frames) / config.fps / recent if recent else None,
            "times_playback": manifest.frames_per_second / config.fps,
            "done": False,
        }


def _as_made(request: Request, stream: Stream) -> Request:
    """The request that gives this very video: with its length, and the cues that took effect."""
    timeline, count = stream.generator.timeline, stream.position
    if not count:
        return request
    snapped = stream.schedule.snapped(timeline)
    cues = tuple(cue.cue for cue in snapped.cues if cue.chunk < count)
    seconds = timeline.duration(count)
    return dataclasses.replace(request, prompts=PromptSchedule(cues), seconds=seconds)
