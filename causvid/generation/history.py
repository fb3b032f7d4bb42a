"""Same-stage history: every denoising step has a cache of its own, and no chunk is passed clean.

At each step a chunk attends to the keys that earlier chunks wrote at the same step, so its past is
as noisy as itself: the pass that remembers a clean chunk is saved, and the steps of neighbouring
chunks could run side by side (StreamDiffusionV2, arXiv 2511.07399; trained for it: SAF, arXiv
2609.38114, which needs a clean sink, or videos freeze). Chunks that reach into the sink are
remembered clean, in all caches alike.
"""

from collections.abc import Iterable

import torch

from causvid.generation.chunkwise import ChunkSampler
from causvid.generation.config import GenerationConfig
from causvid.generation.generator import Generator, Memory, StreamNoise
from causvid.generation.schedule import Level, add_noise
from causvid.generation.source import SourceChunk
from causvid.model.cache import TextCache


class HistorySampler(ChunkSampler):
    """See `sampler.Sampler`.

    Video-to-video takes every step, at the level of its stage or at the source's strength if that
    is lower, so that no cache misses a chunk.

    Raises:
        ValueError: if chunk 0 has steps of its own and is not remembered clean.
    """

    def __init__(self, generator: Generator, batch: int = 1):
        super().__init__(generator, batch)
        config = generator.config
        if config.first_chunk_timesteps is not None and not config.sink:
            raise ValueError(
                "the history sampler has a cache for each step, so chunk 0 cannot have other steps "
                "than the rest: leave first_chunk_timesteps out, or use a sink"
            )
        more = (generator.new_cache(batch) for _ in config.timesteps[1:])
        self.caches = (self.cache, *more)

    def recache(self, text: TextCache, noise: StreamNoise) -> None:
        """Rebuild each step's past from the last clean latents, noised to that step's level by the
        noise it had; a sink that is rewritten is clean."""
        self.settle()
        config = self.generator.config
        if config.recache_past == "last":
            self.flush()
        assert self.history is not None, "there is a past to rebuild"
        for step, (level, cache) in enumerate(zip(config.levels(1), self.caches, strict=True)):
            first, count = cache.reopen(keep_sink=not config.recache_sink)
            clean = self.history[:, -count:]
            chunks = range(config.chunks.chunk_of(first), self.begun)
            drawn = torch.cat([noise(chunk, step) for chunk in chunks], dim=1)[:, -count:]
            sink = max(0, min(cache.sink_end - first, count))
            past = torch.cat(
                [clean[:, :sink], add_noise(clean[:, sink:], drawn[:, sink:], level.sigma)], dim=1
            )
            levels = [config.context_level] * sink + [level] * (count - sink)
            self.generator.predict_clean(past, levels, Memory(cache, text))
            cache.advance()

    @staticmethod
    def _remembers(config: GenerationConfig, chunk: int) -> bool:
        return config.chunks.start(chunk) < config.sink

    def _advance(self) -> None:
        self.cache.advance()
        for cache in self.caches[1:]:  # of a clean chunk and of a taken one, only the first knows
            if self._due is not None:
                cache.restore(self.cache.tensors())
            else:
                cache.advance()

    def _levels(self, chunk: int, source: SourceChunk | None) -> tuple[Level, ...]:
        levels = super()._levels(chunk, source)
        if source is None or self._remembers(self.generator.config, chunk):
            return levels
        first, *_ = levels
        later = self.generator.config.levels(chunk)[1:]
        return (first, *(level if level.sigma < first.sigma else first for level in later))

    def _memories(self, chunk: int, text: TextCache) -> Iterable[Memory]:
        if self._remembers(self.generator.config, chunk):
            return super()._memories(chunk, text)
        return [Memory(cache, text) for cache in self.caches]
