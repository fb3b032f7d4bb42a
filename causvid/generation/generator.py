"""The few-step loop for one chunk: noise → clean → renoise …, then remember it clean.

`Generator` is shared and stateless: weights, a configuration and a grid. What changes while a
viewer watches lives in the `Memory` handed in (CausVid, arXiv 2412.07772, algorithm 2; the same
loop trains the student in Self-Forcing, arXiv 2506.08009). `sampler` says who keeps that memory
and in which order chunks are denoised.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from causvid.generation.config import GenerationConfig
from causvid.generation.geometry import LatentGrid, Timeline
from causvid.generation.parameters import check_strength
from causvid.generation.schedule import CLEAN, Level, add_noise, clean_from_velocity, per_frame
from causvid.model.attention import Past
from causvid.model.cache import KVCache, TextCache
from causvid.model.cpu import product_dtype
from causvid.model.offload import execution_device, onload
from causvid.model.static import static_pass, storage_pool
from causvid.model.transformer import CausalWanTransformer

Cache = TypeVar("Cache", bound=Past, covariant=True)


@dataclass(frozen=True)
class Memory(Generic[Cache]):
    """What one pass sees besides its input: the past, and the prompt."""

    cache: Cache
    text: TextCache | Tensor  # embeddings `[b, text_length, text_dim]` where no keys are kept


NoiseSource = Callable[[int], Tensor]
"""Step → standard normal noise in the shape of the chunk; step 0 starts it."""

StreamNoise = Callable[[int, int], Tensor]
"""(chunk, step) → standard normal noise in the shape of that chunk."""


def seeded(*key: int) -> torch.Generator:
    """A source of random numbers on the CPU that depends on `key`, of 0 or more each, alone."""
    state = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


def seeded_noise(
    seed: int, chunk: int, step: int, shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """Standard normal float32 noise that depends on nothing but (seed, chunk, step) and shape.

    Drawn on the CPU: the same seed means the same video on every device, and the first ten
    seconds of a minute are the ten-second video.
    """
    noise = torch.randn(shape, generator=seeded(seed % 2**64, chunk, step))
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
    """

    transformer: CausalWanTransformer
    config: GenerationConfig
    grid: LatentGrid

    @property
    def device(self) -> torch.device:
        """Where chunks are made, and where memory must lie."""
        return execution_device(self.transformer)

    @property
    def timeline(self) -> Timeline:
        return Timeline(self.grid, self.config.chunks, self.config.fps, self.config.lead)

    def new_cache(self, batch: int = 1) -> KVCache:
        """An empty cache of this model, size and window."""
        model = self.transformer.config
        return KVCache(
            num_layers=model.num_layers,
            batch=batch,
            heads=model.num_attention_heads,
            head_dim=model.attention_head_dim,
            grid=self.grid.tokens,
            window=self.config.window,
            sink=self.config.sink,
            sink_rotation=self.config.sink_rotation,
            sink_decay=self.config.sink_decay,
            ahead=self.config.ahead,
            device=self.device,
            dtype=product_dtype(self.transformer),
            pool=storage_pool(self.transformer),
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
        check_strength(strength)
        time = max(strength - self.config.source_time_offset / 1000, 0.0)
        remaining = [level for level in self.config.levels(chunk) if level.sigma < strength]
        return (Level(time, strength), *remaining)

    def encode_text(self, prompt_embeds: Tensor) -> TextCache:
        """Keys and values of prompt embeddings `[b, text_length, text_dim]`."""
        onload(self.transformer)
        return self.transformer.encode_text(prompt_embeds.to(self.device))

    def predict_clean(
        self, noisy: Tensor, level: Level | Sequence[Level], memory: Memory[Past]
    ) -> Tensor:
        """One pass over the open chunk `[b, f, c, h, w]` → its clean latents.

        Args:
            level: of all frames, or one for each of them.
        """
        device = noisy.device
        cache, text = memory.cache, memory.text
        if type(cache) is KVCache and isinstance(text, TextCache) and not torch.is_grad_enabled():
            static = static_pass(self.transformer)
            if static is not None:
                levels = [level] if isinstance(level, Level) else level
                return static.predict_clean(noisy, levels, text, cache)
        # times are float64, as they reach the model on a scale of 1000
        sigma: float | Tensor
        if isinstance(level, Level):
            times = torch.full(noisy.shape[:2], level.time, dtype=torch.float64, device=device)
            sigma = level.sigma
        else:
            times = per_frame([it.time for it in level], torch.float64, device)
            times = times.expand(noisy.shape[:2])
            sigma = per_frame([it.sigma for it in level], noisy.dtype, device)[:, None, None, None]
        velocity = self.transformer(noisy, times, memory.text, memory=memory.cache)
        return clean_from_velocity(noisy, velocity.to(noisy.dtype), sigma)

    def denoise(
        self,
        levels: tuple[Level, ...],
        noise: NoiseSource,
        memory: Memory[KVCache],
        *,
        source: Tensor | None = None,
    ) -> Tensor:
        """Make the open chunk, and leave it in the open cache; the caller advances.

        Args:
            levels: visited noise levels, noisiest first.
            noise: standard normal noise for the start (step 0) and for each renoising.
            memory: an opened cache and the prompt.
            source: clean latents `[b, f, c, h, w]` to start from instead of pure noise (SDEdit,
                arXiv 2108.01073).

        Returns:
            Clean latents `[b, f, c, h, w]`, float32.
        """
        x = self.refine(levels, noise, repeat(memory), source=source)
        self.remember(x, memory)
        return x

    def refine(
        self,
        levels: tuple[Level, ...],
        noise: NoiseSource,
        memories: Iterable[Memory[KVCache]],
        *,
        source: Tensor | None = None,
    ) -> Tensor:
        """`denoise` without the pass that remembers the chunk; each step has its own memory."""
        x = noise(0)
        if source is not None:
            x = add_noise(source, x, levels[0].sigma)
        visited = zip(pairwise((*levels, CLEAN)), memories, strict=False)
        for step, ((level, next_level), memory) in enumerate(visited, start=1):
            x = self.predict_clean(x, level, memory)
            if next_level.sigma:
                x = add_noise(x, noise(step), next_level.sigma)
        return x

    def remember(self, clean: Tensor, memory: Memory[KVCache]) -> None:
        """Write clean latents of the open chunk to the cache, at the context level."""
        self.predict_clean(clean, self.config.context_level, memory)

    def recache(self, history: Tensor, memory: Memory[KVCache]) -> None:
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
