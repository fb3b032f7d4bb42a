"""What a run tells of itself: `ChunkInfo` for every chunk, and the `Manifest` beside the video.

Their JSON is public: `python -m causvid schema` writes its schema to `examples/schema`.
"""

import json
import platform
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import diffusers
import numpy as np
import torch
from pydantic import BeforeValidator, Field
from typing_extensions import Self

import causvid
from causvid.generation.chunk import FrameChunk, Looks
from causvid.generation.cues import Handover
from causvid.generation.stream import Stream
from causvid.model.cpu import arithmetic_of
from causvid.presets.preset import Preset
from causvid.serving.request import Record, Request

Reason = Literal["viewer", "time", "room", "failure"]

# A chunk has its pictures and its hand-over themselves.
Count = Annotated[int, BeforeValidator(lambda it: len(it) if isinstance(it, np.ndarray) else it)]
Written = Annotated[str, BeforeValidator(lambda it: str(it) if isinstance(it, Handover) else it)]


class ChunkTimings(Record):
    """Seconds spent on a chunk."""

    text: float = Field(description="encoding prompts")
    source: float = Field(description="reading and encoding the source of video-to-video")
    denoise: float
    decode: float
    total: float


class ChunkRecord(Record):
    """A chunk without its pictures."""

    index: int = Field(description="number of the chunk, from 0")
    first_frame: int = Field(description="its first picture in the video")
    frames: Count = Field(description="how many pictures it has")
    start: float = Field(description="when it begins, seconds")
    end: float = Field(description="when it ends, seconds")
    prompt: str = Field(description="the prompt in force")
    handover: Written | None = Field(description="how the prompt took over, if it did so here")
    strength: float | None = Field(
        description="video-to-video: the noise level that the source was raised to"
    )
    change: int | None = Field(
        None,
        description="the newest change in force, counted from 1 as the run received them",
    )
    source_time: float | None = Field(
        None,
        description="live: the time stamp of the newest picture that it is made from, seconds",
    )
    drift: Looks = Field(description="statistics against the first chunk's; 1 is unchanged")
    timings: ChunkTimings

    @classmethod
    def of(cls, chunk: FrameChunk, change: int | None = None) -> Self:
        record = cls.model_validate(chunk, from_attributes=True)
        return record.model_copy(update={"change": change})


class ChunkInfo(ChunkRecord):
    """A chunk, and how its run goes on."""

    run: str = Field(description="id of the run, to steer and extend it by")
    fps: int = Field(description="playback rate")
    seed: int = Field(description="of the noise")
    chunks: int | None = Field(description="how many there will be; null: unknown")
    seconds: float = Field(description="length of the video so far")
    first_frame_seconds: float = Field(description="from the start of the run to its first chunk")
    elapsed_seconds: float = Field(description="from the start of the run to this chunk")
    chunk_times_playback: float | None = Field(
        description="speed of this chunk alone; 1 keeps up with playback"
    )
    times_playback: float = Field(
        description="speed of the run, waiting for other viewers included"
    )
    done: Literal[False] = False


class ModelRecord(Record):
    """The weights, and how they generate."""

    name: str = Field(description="of the preset")
    repository: str | None = Field(description="on the Hugging Face Hub; null: a local folder")
    file: str | None
    revision: str | None = Field(description="commit; null: the newest")
    licence: str
    commercial_use: bool
    generation: dict[str, Any] = Field(description="a GenerationConfig")


class VideoRecord(Record):
    """The video as it was made."""

    width: int
    height: int
    fps: int
    frames: int
    seconds: float


class RunTimings(Record):
    """How fast it was made."""

    first_frame_seconds: float | None = Field(description="null: nothing was made")
    total_seconds: float
    frames_per_second: float
    times_playback: float


class Environment(Record):
    """What it was made with."""

    causvid: str
    torch: str
    diffusers: str
    python: str
    device: str
    dtype: str


class StrengthChange(Record):
    """Video-to-video left its source more or less from some time on."""

    start: float = Field(description="seconds of the video")
    strength: float | None = Field(description="from then on; null: as before")
    adaptive_strength: bool | None = Field(description="likewise")


class Call(Record):
    """A call of a public endpoint. A picture or a source video have to be added."""

    api_name: str
    parameters: dict[str, Any]


class Manifest(Record):
    """The record of a run: its request, sent again, gives the same video, unless `strengths` says
    that it was changed on the way."""

    version: Literal[1] = 1
    request: Request = Field(
        description="every parameter, prompts with all that was steered; the length is the video's"
    )
    model: ModelRecord
    video: VideoRecord
    timings: RunTimings
    chunks: tuple[ChunkRecord, ...]
    environment: Environment
    strengths: tuple[StrengthChange, ...] = Field(
        (), description="changes of the request's strength on the way"
    )
    run: str | None = Field(None, description="id of the run; null: of the command line")
    stopped: bool = Field(False, description="whether it was ended early")
    stopped_by: Reason | None = Field(
        None,
        description="what ended it: the `viewer`, `time` where a GPU is lent for so long only, "
        "`room` that a disk did not have, or a `failure`",
    )
    done: Literal[True] = True
    call: Call | None = Field(
        default=None,
        description="the call of the API that gives the same video; null: see `no_call`",
    )
    no_call: str | None = Field(
        default=None, description="why one call does not give this video; null: no API was there"
    )

    def save(self, path: Path) -> None:
        values = self.model_dump(mode="json")
        text = json.dumps(values, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


class Recorder:
    """Keeps the record of a run while its stream is advanced.

    Args:
        request: what was asked for.
        preset: the model it was asked of.
        stream: the stream that carries it out.
        earlier: the record of the run that the stream goes on from.
    """

    def __init__(
        self, request: Request, preset: Preset, stream: Stream, earlier: Manifest | None = None
    ):
        self._request, self._preset, self._stream = request, preset, stream
        self._chunks = list(earlier.chunks) if earlier else []
        self._strengths = list(earlier.strengths) if earlier else []
        self._started = time.perf_counter() - (earlier.timings.total_seconds if earlier else 0.0)
        self._first = earlier.timings.first_frame_seconds if earlier else None
        self._elapsed = 0.0

    def idle(self, seconds: float) -> None:
        """Time that passed because nobody wanted a chunk yet does not count."""
        self._started += seconds

    def add(self, chunk: FrameChunk, change: int | None = None) -> None:
        """Note a finished chunk, and the change of prompt in force; call it when its frames are
        there."""
        self._elapsed = time.perf_counter() - self._started
        if self._first is None:
            self._first = self._elapsed
        self._chunks.append(ChunkRecord.of(chunk, change))

    def left_source(self, chunk: int, strength: float | None, adaptive: bool | None) -> None:
        """Note another strength from `chunk` on."""
        start = self._stream.generator.timeline.start_time(chunk)
        change = StrengthChange(start=start, strength=strength, adaptive_strength=adaptive)
        self._strengths.append(change)

    @property
    def frames(self) -> int:
        return sum(chunk.frames for chunk in self._chunks)

    @property
    def frames_per_second(self) -> float:
        """Frames finished per second of wall time, from the request on."""
        return self.frames / self._elapsed if self._elapsed else 0.0

    def info(self, run: str) -> ChunkInfo:
        """Of the chunk that was added last."""
        fps, chunk = self._stream.generator.config.fps, self._chunks[-1]
        recent = chunk.timings.total
        return ChunkInfo(
            **dict(chunk),
            run=run,
            fps=fps,
            seed=self._stream.seed,
            chunks=self._stream.chunk_count,
            seconds=self.frames / fps,
            first_frame_seconds=self._first or 0.0,
            elapsed_seconds=time.perf_counter() - self._started,
            chunk_times_playback=chunk.frames / fps / recent if recent else None,
            times_playback=self.frames_per_second / fps,
        )

    def manifest(self, run: str | None = None, stopped_by: Reason | None = None) -> Manifest:
        generator = self._stream.generator
        grid, config = generator.grid, generator.config
        weights, licence = self._preset.weights, self._preset.licence
        return Manifest(
            request=self._as_made(),
            model=ModelRecord(
                name=self._preset.name,
                repository=weights.repo if weights else None,
                file=weights.path if weights else None,
                revision=weights.commit if weights else None,
                licence=licence.name,
                commercial_use=licence.commercial_use,
                generation=config.to_dict(),
            ),
            video=VideoRecord(
                width=grid.width,
                height=grid.height,
                fps=config.fps,
                frames=self.frames,
                seconds=self.frames / config.fps,
            ),
            timings=RunTimings(
                first_frame_seconds=self._first,
                total_seconds=self._elapsed,
                frames_per_second=self.frames_per_second,
                times_playback=self.frames_per_second / config.fps,
            ),
            chunks=tuple(self._chunks),
            environment=Environment(
                causvid=causvid.__version__,
                torch=torch.__version__,
                diffusers=diffusers.__version__,
                python=platform.python_version(),
                device=str(generator.device),
                dtype=arithmetic_of(generator.transformer),
            ),
            strengths=tuple(self._strengths),
            run=run,
            stopped=stopped_by is not None,
            stopped_by=stopped_by,
        )

    def _as_made(self) -> Request:
        """The request that gives this very video: its length, and the cues that took effect."""
        stream, timeline = self._stream, self._stream.generator.timeline
        if not stream.position:
            return self._request
        begun = stream.position + timeline.lead
        snapped = stream.schedule.snapped(timeline)
        cues = tuple(cue.cue for cue in snapped.cues if cue.chunk < begun)
        return self._request.model_copy(
            update={
                "prompts": type(stream.schedule)(cues),
                "seconds": timeline.duration(stream.position),
            }
        )
