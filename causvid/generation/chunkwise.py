"""Chunk after chunk: each is denoised to its end before the next begins.

`ChunkSampler` is the loop of CausVid (arXiv 2412.07772, algorithm 2) and Self-Forcing, and the base
of the other samplers: it has one cache and the clean latents of the window.
"""

from collections.abc import Iterable
from functools import partial
from itertools import repeat
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from causvid.generation.config import GenerationConfig
from causvid.generation.generator import Generator, Memory, StreamNoise
from causvid.generation.schedule import Level
from causvid.generation.source import SourceChunk
from causvid.model.cache import KVCache, TextCache


class Pass(NamedTuple):
    """What one pass of the transformer costs, in latent frames."""

    frames: int
    """Frames that pass through."""
    visible: int
    """Frames that they attend to, themselves included."""


class ChunkSampler:
    """Every chunk is remembered by a pass over its clean latents; see `sampler.Sampler`."""

    takes_source: ClassVar[bool] = True

    def __init__(self, generator: Generator, batch: int = 1):
        self.generator = generator
        self.caches: tuple[KVCache, ...] = (generator.new_cache(batch),)
        self.history: Tensor | None = None  # the last `window` clean latents

    @property
    def cache(self) -> KVCache:
        """The first of the caches; its cursor stands after the last chunk that left."""
        return self.caches[0]

    @property
    def begun(self) -> int:
        return self.generator.config.chunks.covering(self.cache.cursor)

    def next(
        self,
        chunk: int,
        text: TextCache,
        noise: StreamNoise,
        *,
        source: SourceChunk | None = None,
    ) -> Tensor | None:
        self._recall(chunk, text)
        config = self.generator.config
        for cache in self.caches:
            cache.open(config.chunks.frames(chunk))
        latents = self.generator.refine(
            self._levels(chunk, source),
            partial(noise, chunk),
            self._memories(chunk, text),
            source=None if source is None else source.latents,
        )
        if self._remembers(config, chunk):
            self.generator.remember(latents, Memory(self.cache, text))
        for cache in self.caches:
            cache.advance()
        self._keep(latents)
        return latents

    def take(self, latents: Tensor, text: TextCache) -> None:
        self.cache.open(latents.shape[1])
        self.generator.remember(latents, Memory(self.cache, text))
        self.cache.advance()
        self._keep(latents)

    def flush(self) -> None:
        for cache in self.caches:
            cache.flush()

    def recache(self, text: TextCache, noise: StreamNoise) -> None:
        if self.history is not None:
            self.generator.recache(self.history, Memory(self.cache, text))

    def tensors(self) -> dict[str, Tensor]:
        state = {
            f"cache{number or ''}.{name}": tensor
            for number, cache in enumerate(self.caches)
            for name, tensor in cache.tensors().items()
        }
        return state if self.history is None else {**state, "history": self.history}

    def restore(self, state: dict[str, Tensor]) -> None:
        for number, cache in enumerate(self.caches):
            prefix = f"cache{number or ''}."
            cache.restore(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
        if "history" in state:
            self.history = state["history"].to(self.generator.device)

    @classmethod
    def passes(cls, config: GenerationConfig, chunk: int) -> list[Pass]:
        frames = config.chunks.frames(chunk)
        visible = min(config.window, config.chunks.start(chunk) + frames)
        return [Pass(frames, visible)] * (len(config.levels(chunk)) + cls._remembers(config, chunk))

    @staticmethod
    def _remembers(config: GenerationConfig, chunk: int) -> bool:
        """Whether a last pass remembers `chunk` clean."""
        return True

    def _recall(self, chunk: int, text: TextCache) -> None:
        """What comes before a chunk is opened."""

    def _levels(self, chunk: int, source: SourceChunk | None) -> tuple[Level, ...]:
        if source is None:
            return self.generator.config.levels(chunk)
        return self.generator.source_levels(source.strength, chunk)

    def _memories(self, chunk: int, text: TextCache) -> Iterable[Memory]:
        """What each step sees."""
        return repeat(Memory(self.cache, text))

    def _keep(self, latents: Tensor) -> None:
        past = latents if self.history is None else torch.cat([self.history, latents], dim=1)
        self.history = past[:, -self.generator.config.window :]


class RecomputeSampler(ChunkSampler):
    """Before every chunk the frames that it will see are encoded anew, in one pass over their clean
    latents: keys do not carry what has left the window (Krea Realtime 14B).

    Raises:
        ValueError: if the configuration has a sink.
    """

    def __init__(self, generator: Generator, batch: int = 1):
        if generator.config.sink:
            raise ValueError(
                f"the recompute sampler keeps no sink, got one of {generator.config.sink} latent "
                f"frames: use sink=0, or the chunk sampler"
            )
        super().__init__(generator, batch)

    def _recall(self, chunk: int, text: TextCache) -> None:
        if self.history is not None:
            config = self.generator.config
            context = config.window - config.chunks.frames(chunk)
            _, frames = self.cache.reopen(keep_sink=True, frames=context)
            self.generator.remember(self.history[:, -frames:], Memory(self.cache, text))
            self.cache.advance()

    @classmethod
    def passes(cls, config: GenerationConfig, chunk: int) -> list[Pass]:
        steps = super().passes(config, chunk)
        context = min(config.window - config.chunks.frames(chunk), config.chunks.start(chunk))
        return [Pass(context, context), *steps] if context else steps

    @staticmethod
    def _remembers(config: GenerationConfig, chunk: int) -> bool:
        return False
