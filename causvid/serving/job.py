"""One run: as data that can cross a process boundary, and as work that is done step by step.

A `Job` says what to make. A `Production` makes it: it opens the stream, reads the mailbox before
every chunk, keeps the manifest, and at the end leaves a snapshot behind that another job can go on
from. Neither knows who watches, nor with whom the device is shared.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from causvid.generation.stream import FrameChunk, Stream, StreamInterrupted
from causvid.pipeline import CausVidPipeline
from causvid.presets.catalogue import Preset
from causvid.serving.mailbox import Mailbox
from causvid.serving.record import ChunkInfo, Manifest, Reason, Recorder
from causvid.serving.request import Request


@dataclass(frozen=True)
class Continuation:
    """Going on from an earlier run.

    Args:
        snapshot: the stream as the earlier run left it.
        manifest: the earlier run's.
        seconds: how much longer.
        prompt: another prompt from here on, or `None` for the same.
        handover: how it takes over.
    """

    snapshot: Path
    manifest: Manifest
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
        limit: seconds after which an endless run ends.
    """

    run: str
    request: Request
    folder: Path
    image: np.ndarray | None = None
    video: Path | None = None
    continuation: Continuation | None = None
    snapshot_bytes: int = 0
    paced: bool = False
    limit: float = math.inf

    @property
    def mailbox_path(self) -> Path:
        return self.folder / "steer.json"

    @property
    def snapshot_path(self) -> Path:
        return self.folder / "end.safetensors"


@dataclass(frozen=True, eq=False)
class Made:
    """A finished chunk and what its viewer is told of it."""

    chunk: FrameChunk
    info: ChunkInfo


@dataclass(frozen=True)
class Ended:
    """The end of a run.

    Attributes:
        manifest: its request, sent again, gives the same video.
        snapshot_bytes: size of the state that another run can go on from; 0 if there is none.
    """

    manifest: Manifest
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
            self.stream = self._begin(pipeline)
        else:
            self.stream = self._go_on(pipeline, earlier)
        # After an extension, the record is of the whole video.
        self._recorder = Recorder(
            job.request, preset, self.stream, earlier.manifest if earlier else None
        )

    def idle(self, seconds: float) -> None:
        """Time that passed because nobody wanted a chunk yet does not count."""
        self._recorder.idle(seconds)

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
        self._recorder.add(chunk)
        return Made(chunk, self._recorder.info(chunk, self._job.run))

    def interrupt(self, reason: Reason = "viewer") -> None:
        """End within one pass of the transformer. Callable from any thread."""
        self._reason = reason
        self.stream.interrupt()

    def end(self) -> Ended:
        """Write down how it went, and leave a snapshot to go on from."""
        manifest = self._recorder.manifest(self._job.run, self._stopped_by)
        kept = 0
        if self.stream.position and self._job.snapshot_bytes:
            snapshot = self.stream.snapshot()
            if len(snapshot) <= self._job.snapshot_bytes:
                kept = self._job.snapshot_path.write_bytes(snapshot)
        return Ended(manifest, kept)

    def close(self) -> None:
        self.stream.close()

    def _begin(self, pipeline: CausVidPipeline) -> Stream:
        job = self._job
        stream = job.request.open(pipeline, image=job.image, video=job.video)
        if job.request.seconds == math.inf != job.limit:
            stream.chunk_count = stream.generator.timeline.chunk_count(job.limit)
        return stream

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
