"""What a viewer asks for, and the manifest that lets anyone get it again.

A `Request` holds every parameter of a run in JSON-ready form; the app, the API and the command
line fill one in and open a stream with it. A `Manifest` is kept while the stream runs and ends as
the JSON beside the video.
"""

import dataclasses
import math
import platform
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import diffusers
import torch

import causvid
from causvid.generation.prompts import PromptSchedule
from causvid.generation.stream import FrameChunk, Stream
from causvid.model.codec import Decoder
from causvid.model.lowering import arithmetic_of
from causvid.pipeline import CausVidPipeline, ImageInput, VideoInput
from causvid.presets.catalogue import Preset

Mode = Literal["text", "image", "video"]

MANIFEST_VERSION = 1


@dataclass(frozen=True)
class Request:
    """Every parameter of a run; the same request on the same weights gives the same frames.

    Args:
        model: preset name.
        mode: what the video starts from: noise, an image or a video.
        prompts: the prompt schedule, a single prompt being a schedule of one cue.
        seconds: length; `None` for the whole source of video-to-video, infinite for no end.
        seed: of the noise.
        height, width: pixels; `None` for the size the model was trained at.
        strength, adaptive_strength: video-to-video: how far to leave the source.
        steps, window, sink: `None` for the model's own.
        decoder: `"full"` or `"tiny"`.
    """

    model: str
    prompts: PromptSchedule
    mode: Mode = "text"
    seconds: float | None = 5.0
    seed: int = 0
    height: int | None = None
    width: int | None = None
    strength: float = 0.7
    adaptive_strength: bool = False
    steps: int | None = None
    window: int | None = None
    sink: int | None = None
    decoder: Decoder = "full"

    def open(
        self,
        pipeline: CausVidPipeline,
        *,
        image: ImageInput | None = None,
        video: VideoInput | None = None,
    ) -> Stream:
        """The stream asked for.

        Raises:
            ValueError: if the input that the mode needs is missing, or a parameter does not fit.
        """
        given = {"text": image is None and video is None, "image": image, "video": video}
        if given[self.mode] is None or given[self.mode] is False:
            wanted = "neither image nor video" if self.mode == "text" else f"one {self.mode}"
            raise ValueError(f"{self.mode}-to-video takes {wanted}")
        names = {f.name for f in dataclasses.fields(self)} - {"model", "mode", "prompts"}
        options = {name: getattr(self, name) for name in names}
        return pipeline.stream(self.prompts, image=image, video=video, **options)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict`'s inverse."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["prompts"] = self.prompts.to_dict()
        if self.seconds == math.inf:
            values["seconds"] = "endless"
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Request":
        """
        Raises:
            ValueError: on unknown or missing names.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown request parameters: {', '.join(unknown)}")
        if missing := sorted({"model", "prompts"} - set(values)):
            raise ValueError(f"missing request parameters: {', '.join(missing)}")
        values = dict(values, prompts=PromptSchedule.parse(values["prompts"]))
        if values.get("seconds") == "endless":
            values["seconds"] = math.inf
        return cls(**values)


@dataclass
class Manifest:
    """The record of a run.

    Args:
        request: what was asked for.
        preset: the model it was asked of.
        stream: the stream that carries it out.
    """

    request: Request
    preset: Preset
    stream: Stream
    started: float = field(default_factory=time.perf_counter)
    first_frame_seconds: float | None = None
    chunks: list[dict[str, Any]] = field(default_factory=list)
    _elapsed: float = 0.0

    def record(self, chunk: FrameChunk) -> None:
        """Note a finished chunk; call it when its frames are there."""
        self._elapsed = time.perf_counter() - self.started
        if self.first_frame_seconds is None:
            self.first_frame_seconds = self._elapsed
        self.chunks.append(describe(chunk))

    @property
    def frames(self) -> int:
        return sum(chunk["frames"] for chunk in self.chunks)

    @property
    def frames_per_second(self) -> float:
        """Frames finished per second of wall time, from the request on."""
        return self.frames / self._elapsed if self._elapsed else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The manifest: JSON-ready."""
        grid, config = self.stream.generator.grid, self.stream.generator.config
        request = dataclasses.replace(self.request, prompts=self.stream.schedule)
        weights = self.preset.weights
        return {
            "version": MANIFEST_VERSION,
            "request": request.to_dict(),
            "model": {
                "name": self.preset.name,
                "repository": weights.repo if weights else None,
                "file": weights.path if weights else None,
                "revision": weights.commit if weights else None,
                "licence": self.preset.licence.name,
                "commercial_use": self.preset.licence.commercial_use,
                "generation": config.to_dict(),
            },
            "video": {
                "width": grid.width,
                "height": grid.height,
                "fps": config.fps,
                "frames": self.frames,
                "seconds": self.frames / config.fps,
            },
            "timings": {
                "first_frame_seconds": self.first_frame_seconds,
                "total_seconds": self._elapsed,
                "frames_per_second": self.frames_per_second,
                "times_playback": self.frames_per_second / config.fps,
            },
            "chunks": self.chunks,
            "environment": {
                "causvid": causvid.__version__,
                "torch": torch.__version__,
                "diffusers": diffusers.__version__,
                "python": platform.python_version(),
                "device": str(self.stream.generator.device),
                "dtype": arithmetic_of(self.stream.generator.transformer),
            },
        }


def describe(chunk: FrameChunk) -> dict[str, Any]:
    """A chunk without its pictures, JSON-ready."""
    return {
        "index": chunk.index,
        "first_frame": chunk.first_frame,
        "frames": len(chunk.frames),
        "start": chunk.start,
        "end": chunk.end,
        "prompt": chunk.prompt,
        "handover": None if chunk.handover is None else str(chunk.handover),
        "strength": chunk.strength,
        "drift": dataclasses.asdict(chunk.drift),
        "timings": {**dataclasses.asdict(chunk.timings), "total": chunk.timings.total},
    }
