"""One run: as data that can cross a process boundary, and as work that is done step by step.

A `Job` says what to make. A `Production` makes it, on the side that has the device: it opens the
stream, steers it, keeps the record, and at the end leaves a snapshot that another job can go on
from. Neither knows who watches, nor with whom the device is shared.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from causvid.generation.chunk import FrameChunk
from causvid.generation.live import LiveFeed
from causvid.generation.stream import Stream, StreamInterrupted
from causvid.media import lacks_room
from causvid.pipeline import CausVidPipeline
from causvid.presets.preset import Preset
from causvid.serving.record import ChunkInfo, Manifest, Reason, Recorder
from causvid.serving.request import Request

OpenModel = Callable[[str], tuple[CausVidPipeline, Preset]]
"""Name of a model → loaded pipeline and preset."""


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


@dataclass(frozen=True)
class Change:
    """What is to be different from the next chunk on; `None` stays as it is.

    Args:
        prompt, handover: what to show, and how it takes over.
        strength, adaptive_strength: of video-to-video, see `Request`.
    """

    prompt: str | None = None
    handover: str = "recache"
    strength: float | None = None
    adaptive_strength: bool | None = None

    @property
    def parts(self) -> set[str]:
        """The names of what it changes."""
        names = ("prompt", "strength", "adaptive_strength")
        return {name for name in names if getattr(self, name) is not None}


@dataclass(frozen=True, eq=False)
class Job:
    """What a run is to make; picklable, unless it is live.

    Args:
        run: its id, not to be guessed by strangers.
        request: every parameter.
        folder: for everything that the run leaves behind.
        image: image-to-video: the picture, uint8 `[h, w, 3]`, of the video's size.
        video: video-to-video: the file.
        live: video-to-video: pictures that come while it is made.
        continuation: set if it goes on from an earlier run.
        snapshot_bytes: the largest state to leave behind; 0 for none.
        paced: whether somebody watches while it is made; then there is no hurry to be far ahead.
        client: where it was asked for, if anybody else may wait for the device, too.
        limit: seconds after which a run ends that has no other end, or that of a source only.
    """

    run: str
    request: Request
    folder: Path
    image: np.ndarray | None = None
    video: Path | None = None
    live: LiveFeed | None = None
    continuation: Continuation | None = None
    snapshot_bytes: int = 0
    paced: bool = False
    client: str | None = None
    limit: float = math.inf

    @property
    def snapshot_path(self) -> Path:
        return self.folder / "end.safetensors"


@dataclass(frozen=True, eq=False)
class Made:
    """A finished chunk and what its viewer is told of it.

    Attributes:
        so_far: the record up to here, where its maker may be ended before it can tell it.
    """

    chunk: FrameChunk
    info: ChunkInfo
    so_far: "Ended | None" = None


@dataclass(frozen=True)
class Kept:
    """The state between two chunks of a run that goes on.

    Attributes:
        manifest: of what is made so far.
        snapshot: the state's file.
        snapshot_bytes: its size; 0 if it was too large, and there is none.
    """

    manifest: Manifest
    snapshot: Path
    snapshot_bytes: int


@dataclass(frozen=True)
class Ended:
    """The end of a run.

    Attributes:
        manifest: its request, sent again, gives the same video.
        snapshot_bytes: size of the state that another run can go on from; 0 if there is none.
        source_over: there is none, as the source that it followed is at its end.
    """

    manifest: Manifest
    snapshot_bytes: int = 0
    source_over: bool = False

    @property
    def continuable(self) -> bool:
        return self.snapshot_bytes > 0


@dataclass(frozen=True, eq=False)
class Failed:
    """The run broke.

    Attributes:
        error: a `ValueError` if its request was to blame.
        ended: the record of what was made before, if anything was.
    """

    error: Exception
    ended: Ended | None = None


Event = Made | Kept | Ended | Failed


class SourceOver(ValueError):
    """A run cannot go on, as it followed its source to the end."""

    def __init__(self, manifest: Manifest):
        super().__init__(
            f"the source is at its end after {manifest.video.seconds:.1f} s: begin with a longer "
            "one, or with the last picture of this video"
        )


class Production:
    """A job being carried out; `steer` and `interrupt` may be called from any thread.

    Only `step` runs the model. `open` and `end`, which read and write files and load weights, may
    be called by another thread than `step`, one after the other.

    Args:
        changed: called from another thread when `ready` may have become true.
    """

    def __init__(self, open_model: OpenModel, job: Job, changed: Callable[[], None] = lambda: None):
        self.job = job
        self._open_model = open_model
        self._changed = changed
        self._stream: Stream | None = None
        self._recorder: Recorder | None = None
        self._asked: deque[tuple[Change, int]] = deque()  # changes not in use, and their numbers
        self._changes: deque[tuple[int, int]] = deque()  # first chunk and number, in order
        self._change: int | None = None  # number of the newest that is in force
        self._interrupted: Reason | None = None
        self._stopped_by: Reason | None = None
        self._kept = True

    def open(self) -> None:
        """Load the model, open the stream, and begin to read its source.

        Raises:
            ValueError: if the request does not fit the model.
        """
        self._opened()

    @property
    def ready(self) -> bool:
        """Whether the next `step` would not wait for anything but the model."""
        return self._stream is not None and self._stream.ready

    def step(self, idle: float = 0.0) -> Made | None:
        """The next chunk; `None` at the end, or if `interrupt` was called.

        Args:
            idle: seconds since the last step in which nobody wanted a chunk; they do not count.

        Raises:
            ValueError: as `open`; if the source cannot be read further, or was at its end before.
        """
        stream, recorder = self._opened()
        recorder.idle(idle)
        self._use_changes(stream, recorder)
        try:
            chunk = stream.step()
        except StreamInterrupted:
            self._stopped_by = self._interrupted
            self._settle(stream)
            return None
        if chunk is None:
            going_on = self.job.continuation
            if going_on and recorder.frames == going_on.manifest.video.frames:
                raise SourceOver(going_on.manifest)
            self._settle(stream)
            return None
        while self._changes and self._changes[0][0] <= chunk.index:
            self._change = max(self._change or 0, self._changes.popleft()[1])
        recorder.add(chunk, self._change)
        return Made(chunk, recorder.info(self.job.run))

    def steer(self, change: Change, number: int) -> None:
        """Change something from the next chunk on. What is replaced before is never used."""
        self._asked.append((change, number))

    def _use_changes(self, stream: Stream, recorder: Recorder) -> None:
        newest: dict[str, tuple[Change, int]] = {}
        while self._asked:
            change, number = self._asked.popleft()
            newest |= dict.fromkeys(change.parts, (change, number))
        if "prompt" in newest:
            change, number = newest.pop("prompt")
            assert change.prompt is not None
            self._changes.append((stream.steer(change.prompt, change.handover), number))
        if newest:
            values = {name: getattr(change, name) for name, (change, _) in newest.items()}
            strength, adaptive = values.get("strength"), values.get("adaptive_strength")
            first = stream.leave_source(strength, adaptive)
            self._changes.append((first, max(number for _, number in newest.values())))
            recorder.left_source(first, strength, adaptive)

    def interrupt(self, reason: Reason = "viewer", *, kept: bool = True) -> None:
        """End between two layers.

        Args:
            kept: whether what was made is to be gone on from, which may take one pass.
        """
        self._interrupted, self._kept = reason, kept
        if self._stream is not None:
            self._stream.interrupt()

    def end(self) -> Ended:
        """Write down how it went, and leave a snapshot to go on from."""
        stream, recorder = self._opened()
        manifest = recorder.manifest(self.job.run, self._stopped_by)
        if self._stopped_by is None and stream.source_over:
            return Ended(manifest, source_over=True)
        return Ended(manifest, self._save(stream, self.job.snapshot_path))

    def settle(self) -> None:
        """Before `keep`: make the pass that a snapshot needs."""
        self._settle(self._opened()[0])

    def keep(self) -> Kept:
        """Leave a snapshot between two chunks, to go on from in another run, too."""
        stream, recorder = self._opened()
        path = self.job.folder / f"after-{stream.position}.safetensors"
        return Kept(recorder.manifest(self.job.run), path, self._save(stream, path))

    def _save(self, stream: Stream, path: Path) -> int:
        """How many bytes were written; 0 if it is too large, or there is no room."""
        if not stream.position or not self.job.snapshot_bytes:
            return 0
        snapshot = stream.snapshot()
        if len(snapshot) > self.job.snapshot_bytes:
            return 0
        try:
            return path.write_bytes(snapshot)
        except OSError as error:
            if not lacks_room(error):
                raise
            path.unlink(missing_ok=True)
            return 0

    def _settle(self, stream: Stream) -> None:
        """So that the snapshot at the end, taken by another thread, needs no model."""
        if self.job.snapshot_bytes and self._kept:
            stream.settle()

    def failed(self, error: Exception) -> Failed:
        """How it went if `error` ended it."""
        try:
            return Failed(error, self.so_far())
        except Exception:  # the record itself may be what broke; its viewer is told in any case
            return Failed(error)

    def so_far(self) -> Ended | None:
        """The record of what was made if a failure ends it now; `None` if nothing was."""
        recorder = self._recorder
        if recorder is None or not recorder.frames:
            return None
        return Ended(recorder.manifest(self.job.run, "failure"))

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _opened(self) -> tuple[Stream, Recorder]:
        if self._stream is None or self._recorder is None:
            job, earlier = self.job, self.job.continuation
            pipeline, preset = self._open_model(job.request.model)
            stream = _open(pipeline, job)
            # After an extension, the record is of the whole video.
            before = earlier.manifest if earlier else None
            self._recorder = Recorder(job.request, preset, stream, before)
            stream.prefetch(self._changed)
            self._stream = stream
            if self._interrupted:
                stream.interrupt()
        return self._stream, self._recorder


def _open(pipeline: CausVidPipeline, job: Job) -> Stream:
    request, earlier = job.request, job.continuation
    if earlier is None:
        stream = request.open(pipeline, image=job.image, video=job.live or job.video)
        if request.seconds in (None, math.inf) and job.limit != math.inf:
            stream.chunk_count = stream.generator.timeline.chunk_count(job.limit)
        return stream
    source = job.live or job.video
    stream = pipeline.resume(earlier.snapshot, video=source, decoder=request.decoder)
    timeline = stream.generator.timeline
    stream.chunk_count = max(
        stream.position + 1, timeline.chunk_count(stream.seconds + earlier.seconds)
    )
    if earlier.prompt is not None:
        stream.steer(earlier.prompt, earlier.handover)
    return stream
