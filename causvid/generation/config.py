"""What is generated, as data that travels with the weights."""

import dataclasses
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

from causvid.generation.geometry import ChunkPattern, Size

if TYPE_CHECKING:  # torch is loaded by `levels`, not by whoever lists settings
    from causvid.generation.schedule import Level

SamplerName = Literal["chunk", "recompute", "rolling", "history"]


@dataclass(frozen=True)
class GenerationConfig:
    """What is generated, apart from the weights it travels with.

    Device, dtype and compilation are how it is generated, and belong to whoever loads it.

    Args:
        timesteps: the step list in 0 … 1000, noisiest first, as published; no trailing 0.
        shift: timestep shift of the noise schedule.
        warp: whether `timesteps` count rows of the shifted table, or are times themselves.
        first_chunk_timesteps: another step list for chunk 0 (Causal-Forcing++ needs more steps
            where there is no past to lean on).
        sampler: in which order chunks are denoised, and what is remembered of them: `"chunk"`
            after chunk, each remembered clean (CausVid, Self-Forcing); `"recompute"`, the same
            with the past encoded anew before every chunk; `"rolling"` window of rising noise
            (Rolling Forcing); same-stage `"history"` without a clean pass (StreamDiffusionV2,
            SAF). See `sampler`.
        chunks: latent frames per chunk.
        window: latent frames visible to a pass, its own and the sink included.
        sink: latent frames at the start of the video that stay visible for ever.
        sink_rotation: whether the sink follows the window (`"renewed"`) or keeps its place.
        sink_decay: in (0, 1): frames that leave the window are blended into the sink, which keeps
            this share of itself each time (Reward Forcing); `None` leaves the sink as it is.
        recache_sink: whether a recache hand-over also rewrites the sink.
        recache_past: what it keeps of the rest: the whole `"window"` (LongLive), or the `"last"`
            frame, as `flush` does, for models that would go on with the motion of their past.
        context_timestep: time of the pass that leaves a finished chunk in the cache.
        source_time_offset: video-to-video: subtracted from the time (0 … 1000) that the model is
            told at the first step (StreamDiffusionV2 uses 100).
        height, width: the picture size the weights were trained for, pixels.
        more_sizes: further ones that they were trained for, as far as that is known.
        fps: playback rate the weights were trained for.
    """

    timesteps: tuple[float, ...] = (1000.0, 750.0, 500.0, 250.0)
    shift: float = 5.0
    warp: bool = True
    first_chunk_timesteps: tuple[float, ...] | None = None
    sampler: SamplerName = "chunk"
    chunks: ChunkPattern = ChunkPattern(first=3, rest=3)  # noqa: RUF009 (frozen)
    window: int = 21
    sink: int = 0
    sink_rotation: Literal["renewed", "absolute"] = "renewed"
    sink_decay: float | None = None
    recache_sink: bool = False
    recache_past: Literal["window", "last"] = "window"
    context_timestep: float = 0.0
    source_time_offset: float = 0.0
    height: int = 480
    width: int = 832
    more_sizes: tuple[Size, ...] = ()
    fps: int = 16

    def __post_init__(self):
        for name in ("timesteps", "first_chunk_timesteps"):
            steps = getattr(self, name)
            if steps is None and name == "first_chunk_timesteps":
                continue
            steps = tuple(float(t) for t in steps)
            object.__setattr__(self, name, steps)
            falling = all(a > b for a, b in pairwise(steps))
            if not steps or not falling or steps[0] > 1000 or steps[-1] <= 0:
                raise ValueError(
                    f"{name} must fall from at most 1000 to above 0, got {list(steps)}"
                )
        if self.sampler not in get_args(SamplerName):
            *others, last = map(repr, get_args(SamplerName))
            raise ValueError(f"sampler is {', '.join(others)} or {last}, got {self.sampler!r}")
        if self.recache_past not in ("window", "last"):
            raise ValueError(f"recache_past is 'window' or 'last', got {self.recache_past!r}")
        if self.sink_decay is not None and (
            not 0 < self.sink_decay < 1 or self.sink_rotation != "renewed"
        ):
            raise ValueError(
                f"sink_decay lies between 0 and 1 and needs a sink_rotation of 'renewed', got "
                f"{self.sink_decay} and {self.sink_rotation!r}"
            )
        largest = max(self.chunks.first, self.chunks.rest)
        if not 0 <= self.sink <= self.window - largest:
            raise ValueError(
                f"a window of {self.window} latent frames cannot hold a sink of {self.sink} and a "
                f"chunk of {largest}"
            )

    def levels(self, chunk: int) -> "tuple[Level, ...]":
        """Noise levels visited in `chunk`, noisiest first, the clean end not included."""
        from causvid.generation.schedule import FlowSchedule

        first = self.first_chunk_timesteps if chunk == 0 else None
        return FlowSchedule(self.shift).levels(first or self.timesteps, warp=self.warp)

    @property
    def lead(self) -> int:
        """How many chunks the sampler begins after a chunk before it leaves."""
        return len(self.timesteps) - 1 if self.sampler == "rolling" else 0

    @property
    def ahead(self) -> int:
        """Latent frames of the longest run of chunks that are begun and held back."""
        start = self.chunks.start
        return max(start(self.lead), start(self.lead + 1) - self.chunks.first)

    @property
    def least_window(self) -> int:
        """The smallest `window` that the sampler can work with, no past in view."""
        return self.sink + max(self.chunks.first, self.chunks.rest) + self.ahead

    @property
    def context_level(self) -> "Level":
        from causvid.generation.schedule import Level

        return Level(self.context_timestep / 1000, self.context_timestep / 1000)

    def with_steps(self, steps: int) -> "GenerationConfig":
        """The same with `steps` evenly spaced (warped) steps, unless it has that many already."""
        if not 1 <= steps <= 50:
            raise ValueError(f"the number of steps must lie in 1 … 50, got {steps}")
        if steps == len(self.timesteps):
            return self
        spaced = tuple(1000.0 * (steps - i) / steps for i in range(steps))
        return dataclasses.replace(self, timesteps=spaced, warp=True, first_chunk_timesteps=None)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict, `from_dict`'s inverse; without `sink_decay` and `more_sizes` where
        there are none, so that it can be read by versions that did not know them."""
        values = dataclasses.asdict(self) | {"more_sizes": [str(it) for it in self.more_sizes]}
        for name in ("sink_decay", "more_sizes"):
            if not values[name]:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "GenerationConfig":
        """
        Raises:
            ValueError: on unknown names, or values that do not fit together.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(
                f"unknown generation settings {', '.join(unknown)}; known are "
                f"{', '.join(sorted(known))}"
            )
        values = dict(values)
        if isinstance(values.get("chunks"), dict):
            values["chunks"] = ChunkPattern(**values["chunks"])
        if "more_sizes" in values:
            values["more_sizes"] = tuple(Size.parse(str(it)) for it in values["more_sizes"])
        return cls(**values)
