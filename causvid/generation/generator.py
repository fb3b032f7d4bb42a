"""The few-step loop for one chunk: noise → clean → renoise …, then remember it clean.

`Generator` is shared and stateless: weights, a configuration and a grid. What changes while a
viewer watches lives in the `Memory` handed in (CausVid, arXiv 2412.07772, algorithm 2; the same
loop trains the student in Self-Forcing, arXiv 2506.08009).
"""

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from causvid.generation.geometry import ChunkPattern, LatentGrid, Timeline
from causvid.generation.schedule import CLEAN, FlowSchedule, Level, add_noise, clean_from_velocity
from causvid.model.cache import GradientMemory, KVCache, SinkRotation, TextCache
from causvid.model.offload import execution_device, onload
from causvid.model.onednn import onednn_linear
from causvid.model.transformer import CausalWanTransformer


@dataclass(frozen=True)
class GeneratorConfig:
    """What is generated, apart from the weights it travels with.

    Device, dtype and compilation are how it is generated, and belong to whoever loads it.

    Args:
        timesteps: the step list in 0 … 1000, noisiest first, as published; no trailing 0.
        shift: timestep shift of the noise schedule.
        warp: whether `timesteps` count rows of the shifted table, or are times themselves.
        first_chunk_timesteps: another step list for chunk 0 (Causal-Forcing++ needs more steps
            where there is no past to lean on).
        chunks: latent frames per chunk.
        window: latent frames visible to a chunk, itself and the sink included.
        sink: latent frames at the start of the video that stay visible for ever.
        sink_rotation: whether the sink follows the window (`"renewed"`) or keeps its place.
        recache_sink: whether a recache hand-over also rewrites the sink.
        recache_past: what it keeps of the rest: the whole `"window"` (LongLive), or the `"last"`
            frame, as `flush` does, for models that would go on with the motion of their past.
        context_timestep: time of the pass that leaves a finished chunk in the cache.
        source_time_offset: video-to-video: subtracted from the time (0 … 1000) that the model is
            told at the first step (StreamDiffusionV2 uses 100).
        height, width: the picture size the weights were trained for, pixels.
        fps: playback rate the weights were trained for.
    """

    timesteps: tuple[float, ...] = (1000.0, 750.0, 500.0, 250.0)
    shift: float = 5.0
    warp: bool = True
    first_chunk_timesteps: tuple[float, ...] | None = None
    chunks: ChunkPattern = ChunkPattern(first=3, rest=3)  # noqa: RUF009 (frozen)
    window: int = 21
    sink: int = 0
    sink_rotation: SinkRotation = "renewed"
    recache_sink: bool = False
    recache_past: Literal["window", "last"] = "window"
    context_timestep: float = 0.0
    source_time_offset: float = 0.0
    height: int = 480
    width: int = 832
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
        if self.recache_past not in ("window", "last"):
            raise ValueError(f"recache_past is 'window' or 'last', got {self.recache_past!r}")
        largest = max(self.chunks.first, self.chunks.rest)
        if not 0 <= self.sink <= self.window - largest:
            raise ValueError(
                f"a window of {self.window} latent frames cannot hold a sink of {self.sink} and a "
                f"chunk of {largest}"
            )

    def levels(self, chunk: int) -> tuple[Level, ...]:
        """Noise levels visited in `chunk`, noisiest first, the clean end not included."""
        first = chunk == 0 and self.first_chunk_timesteps is not None
        timesteps = self.first_chunk_timesteps if first else self.timesteps
        return FlowSchedule(self.shift).levels(timesteps, warp=self.warp)

    @property
    def context_level(self) -> Level:
        return Level(self.context_timestep / 1000, self.context_timestep / 1000)

    def with_steps(self, steps: int) -> "GeneratorConfig":
        """The same with `steps` evenly spaced (warped) steps, unless it has that many already."""
        if not 1 <= steps <= 50:
            raise ValueError(f"the number of steps must lie in 1 … 50, got {steps}")
        if steps == len(self.timesteps):
            return self
        spaced = tuple(1000.0 * (steps - i) / steps for i in range(steps))
        return dataclasses.replace(self, timesteps=spaced, warp=True, first_chunk_timesteps=None)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict, `from_dict`'s inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "GeneratorConfig":
        """
        Raises:
            ValueError: on unknown names, or values that do not fit together.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(
                f"unknown generator settings {', '.join(unknown)}; known are "
                f"{', '.join(sorted(known))}"
            )
        values = dict(values)
        if isinstance(values.get("chunks"), dict):
            values["chunks"] = ChunkPattern(**values["chunks"])
        return cls(**values)


class Memory(NamedTuple):
    """What one pass sees besides its input: the past, and the prompt."""

    cache: KVCache | GradientMemory
    text: TextCache | Tensor  # embeddings `[b, text_length, text_dim]` where none are kept


NoiseSource = Callable[[int], Tensor]
"""Step → standard normal noise in the shape of the chunk; step 0 starts it."""


def seeded_noise(
    seed: int, chunk: int, step: int, shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """Standard normal float32 noise that depends on nothing but (seed, chunk, step) and shape.

    Drawn on the CPU: the same seed means the same video on every device, and the first ten
    seconds of a minute are the ten-second video.
    """
    state = np.random.SeedSequence((seed % 2**64, chunk, step)).generate_state(2, np.uint32)
    generator = torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))
    noise = torch.randn(shape, generator=generator)
    if device.type == "cuda":  # from pageable memory the copy would wait for the GPU
        return noise.pin_memory().to(device, non_blocking=True)
    return noise.to(device)


@dataclass(frozen=True)
class Generator:
    """Denoises chunks with shared weights.

    Args:
        transformer: the causal transformer.
        config: what is generated.
        grid: the size of what is generated.
        compiled: whether the transformer's layers are, and have their own linear layers.
    """

    transformer: CausalWanTransformer
    config: GeneratorConfig
    grid: LatentGrid
    compiled: bool = False

    @property
    def device(self) -> torch.device:
        """Where chunks are made, and where memory must lie."""
        return execution_device(self.transformer)

    @property
    def timeline(self) -> Timeline:
        return Timeline(self.grid, self.config.chunks, self.config.fps)

    def new_cache(self, batch: int = 1) -> KVCache:
        """An empty cache of this model, size and window."""
        model = self.transformer.config
        return KVCache(
            num_layers=model.num_layers,
            batch=batch,
            heads=model.num_attention_heads,
            head_dim=model.attention_head_dim,
            tokens_per_frame=self.grid.tokens_per_frame,
            window=self.config.window,
            sink=self.config.sink,
            sink_rotation=self.config.sink_rotation,
            device=self.device,
            dtype=self.transformer.dtype,
        )

    def chunk_shape(self, chunk: int, batch: int = 1) -> tuple[int, int, int, int, int]:
        """Latent shape `(b, f, c, h, w)` of `chunk`."""
        return (
            batch,
            self.config.chunks.frames(chunk),
            self.transformer.config.in_channels,
            self.grid.latent_height,
            self.grid.latent_width,
        )

    def source_levels(self, strength: float, chunk: int) -> tuple[Level, ...]:
        """Levels visited when a source is noised to σ = `strength` and denoised from there.

        Args:
            strength: in (0, 1]; 1 ignores the source.
        """
        if not 0 < strength <= 1:
            raise ValueError(f"strength must lie in (0, 1], got {strength}")
        time = max(strength - self.config.source_time_offset / 1000, 0.0)
        remaining = [level for level in self.config.levels(chunk) if level.sigma < strength]
        return (Level(time, strength), *remaining)

    def encode_text(self, prompt_embeds: Tensor) -> TextCache:
        """Keys and values of prompt embeddings `[b, text_length, text_dim]`."""
        onload(self.transformer)
        return self.transformer.encode_text(prompt_embeds.to(self.device))

    def predict_clean(self, noisy: Tensor, level: Level, memory: Memory) -> Tensor:
        """One pass over the open chunk `[b, f, c, h, w]` at `level` → its clean latents."""
        # float64, as the time reaches the model on a scale of 1000
        times = torch.full(noisy.shape[:2], level.time, dtype=torch.float64, device=noisy.device)
        with nullcontext() if self.compiled else onednn_linear(noisy.device):
            velocity = self.transformer(noisy, times, memory.text, memory=memory.cache)
        return clean_from_velocity(noisy, velocity.to(noisy.dtype), level.sigma)

    def denoise(
        self,
        levels: tuple[Level, ...],
        noise: NoiseSource,
        memory: Memory,
        *,
        source: Tensor | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Make the open chunk, and leave it in the open cache; the caller advances.

        Args:
            levels: visited noise levels, noisiest first.
            noise: standard normal noise for the start (step 0) and for each renoising.
            memory: an opened cache and the prompt.
            source: clean latents `[b, f, c, h, w]` to start from instead of pure noise (SDEdit,
                arXiv 2108.01073).
            check: called before every pass; may raise to abandon the chunk.

        Returns:
            Clean latents `[b, f, c, h, w]`, float32.
        """
        x = noise(0)
        if source is not None:
            x = add_noise(source, x, levels[0].sigma)
        for step, (level, following) in enumerate(pairwise((*levels, CLEAN)), start=1):
            check()
            x = self.predict_clean(x, level, memory)
            if following.sigma:
                x = add_noise(x, noise(step), following.sigma)
        check()
        self.remember(x, memory)
        return x

    def remember(self, clean: Tensor, memory: Memory) -> None:
        """Write clean latents of the open chunk to the cache, at the context level."""
        self.predict_clean(clean, self.config.context_level, memory)

    def recache(self, history: Tensor, memory: Memory) -> None:
        """Rebuild the keys and values of the past under the words of `memory`, in one pass
        (LongLive, arXiv 2509.22622, section 3.2).

        Args:
            history: clean latents `[b, f, c, h, w]` of the last frames, at least as many as are
                remembered.
            memory: a cache between two chunks, and the new prompt.
        """
        if self.config.recache_past == "last":
            memory.cache.flush()
        oldest = memory.cache.cursor - history.shape[1]
        first, count = memory.cache.reopen(keep_sink=not self.config.recache_sink)
        self.remember(history[:, first - oldest : first - oldest + count], memory)
        memory.cache.advance()
