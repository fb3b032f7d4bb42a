"""Chunk after chunk: each is denoised to its end before the next begins.

`ChunkSampler` is the loop of CausVid (arXiv 2412.07772, algorithm 2) and Self-Forcing, and the base
of the other samplers: it has one cache and the clean latents of the window. The pass that remembers
a chunk clean is made when the state is needed next, so that nobody waits for it to see the chunk.
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
        # A chunk that has left, its latents and prompt, until a pass remembers it: it is still open
        # in the caches.
        self._due: tuple[Tensor, TextCache] | None = None

    @property
    def cache(self) -> KVCache:
        """The first of the caches; its cursor stands after the last chunk that is remembered."""
        return self.caches[0]

    @property
    def begun(self) -> int:
        return self.generator.config.chunks.covering(self._left)

    @property
    def _left(self) -> int:
        """Latent frames of the chunks that have left."""
        return self.cache.cursor + (0 if self._due is None else self._due[0].shape[1])

    def next(
        self,
        chunk: int,
        text: TextCache,
        noise: StreamNoise,
        *,
        source: SourceChunk | None = None,
    ) -> Tensor | None:
        self.settle()
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
        self._keep(latents)
        if self._remembers(config, chunk):
            self._due = latents, text
        else:
            self._advance()
        return latents

    def take(self, latents: Tensor, text: TextCache) -> None:
        self.settle()
        self.cache.open(latents.shape[1])
        self._keep(latents)
        self._due = latents, text

    @torch.no_grad()
    def settle(self) -> None:
        if self._due is not None:
            latents, text = self._due
            self.generator.remember(latents, Memory(self.cache, text))
            self._advance()
            self._due = None

    def flush(self) -> None:
        self.settle()
        for cache in self.caches:
            cache.flush()

    def recache(self, text: TextCache, noise: StreamNoise) -> None:
        self.settle()
        if self.history is not None:
            self.generator.recache(self.history, Memory(self.cache, text))

    def tensors(self) -> dict[str, Tensor]:
        self.settle()
        state = {
            f"cache{number or ''}.{name}": tensor
            for number, cache in enumerate(self.caches)
            for name, tensor in cache.tensors().items()
        }
        return state if self.history is None else {**state, "history": self.history}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._due = None
        for number, cache in enumerate(self.caches):
            prefix = f"cache{number or ''}."
            cache.restore(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
        if "history" in state:
            self.history = state["history"].to(self.generator.device)

    @classmethod
    def passes(cls, config: GenerationConfig, chunk: int) -> list[Pass]:
        due = chunk and cls._remembers(config, chunk - 1)
        return [
            *([cls._pass(config, chunk - 1)] if due else []),
            *([cls._pass(config, chunk)] * len(config.levels(chunk))),
        ]

    @staticmethod
    def _pass(config: GenerationConfig, chunk: int) -> Pass:
        """One pass over `chunk`."""
        frames = config.chunks.frames(chunk)
        return Pass(frames, min(config.window, config.chunks.start(chunk) + frames))

    @staticmethod
    def _remembers(config: GenerationConfig, chunk: int) -> bool:
        """Whether a pass of its own remembers `chunk` clean."""
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

    def _advance(self) -> None:
        """Move on from the open chunk, which is remembered as it was last written."""
        for cache in self.caches:
            cache.advance()

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
