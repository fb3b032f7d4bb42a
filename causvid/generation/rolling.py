"""A rolling window of rising noise: several chunks are denoised jointly, one leaves clean a step.

The window holds as many chunks as there are steps, the oldest at the lowest level, the newest at
the highest. One pass takes all of them one step down; they see each other both ways, so that a
chunk is still corrected while those after it take shape. Then the oldest leaves and is remembered
clean, and noise enters at the end (Rolling Forcing, arXiv 2509.25161: five steps, a window of 21
latent frames, and the first chunk kept as a sink whose keys are rotated to the window's start).

At the start of a video the window fills: chunk k enters at pass k, and the first chunk leaves after
as many passes as there are steps. It never empties: the frames after a video's end are begun, so
that a longer video begins with a shorter one.

Words reach the whole window at once. A prompt is that of the chunk that enters, the first to be
made under it from noise to clean; the `config.lead` chunks before it end under it.
"""

from typing import ClassVar

import torch
from torch import Tensor

from causvid.generation.chunkwise import ChunkSampler, Pass
from causvid.generation.config import GenerationConfig
from causvid.generation.generator import Generator, Memory, StreamNoise
from causvid.generation.schedule import add_noise
from causvid.generation.source import SourceChunk
from causvid.model.cache import TextCache


class RollingSampler(ChunkSampler):
    """See `sampler.Sampler`. `config.window` counts the sink, the past and the rolling window.

    Raises:
        ValueError: if the window does not hold the sink and all chunks that are in the making, or
            chunk 0 has steps of its own.
    """

    takes_source: ClassVar[bool] = False

    def __init__(self, generator: Generator, batch: int = 1):
        config = generator.config
        if config.first_chunk_timesteps is not None:
            raise ValueError(
                "the rolling sampler takes all chunks through the same steps: leave "
                "first_chunk_timesteps out"
            )
        if config.window < config.least_window:
            raise ValueError(
                f"a window of {config.window} latent frames cannot hold a sink of {config.sink} "
                f"and the {len(config.timesteps)} chunks that the rolling sampler denoises at "
                f"once: use a window of at least {config.least_window}, or fewer steps"
            )
        super().__init__(generator, batch)
        shape = list(generator.chunk_shape(0, batch))
        shape[1] = 0
        self.held = torch.empty(shape, device=generator.device)
        """Noisy latents `[b, f, c, h, w]` of the chunks in the making, oldest first."""

    @property
    def begun(self) -> int:
        return self.generator.config.chunks.covering(self._left + self.held.shape[1])

    def next(
        self,
        chunk: int,
        text: TextCache,
        noise: StreamNoise,
        *,
        source: SourceChunk | None = None,
    ) -> Tensor | None:
        if source is not None:
            raise ValueError("the rolling sampler cannot start chunks from a source video")
        self.settle()
        config, cache = self.generator.config, self.cache
        memory = Memory(cache, text)
        levels = config.levels(chunk)
        oldest = config.chunks.covering(cache.cursor)
        frames = [config.chunks.frames(number) for number in range(oldest, chunk + 1)]
        leaving = frames[0] if len(frames) == len(levels) else 0

        noisy = torch.cat([self.held, noise(chunk, 0)], dim=1)
        cache.open(leaving, ahead=sum(frames) - leaving)
        steps = range(chunk - oldest, -1, -1)  # taken by each chunk so far
        by_frame = [levels[step] for step, n in zip(steps, frames, strict=True) for _ in range(n)]
        clean = self.generator.predict_clean(noisy, by_frame, memory)
        left, kept = clean.split([leaving, sum(frames) - leaving], dim=1)
        if leaving:
            cache.open(leaving)
            self._keep(left)
            self._due = left, text
            oldest, frames, steps = oldest + 1, frames[1:], steps[1:]
        self.held = torch.cat(
            [
                kept[:, :0],
                *(
                    add_noise(part, noise(oldest + i, steps[i] + 1), levels[steps[i] + 1].sigma)
                    for i, part in enumerate(kept.split(frames, dim=1))
                ),
            ],
            dim=1,
        )
        return left if leaving else None

    def tensors(self) -> dict[str, Tensor]:
        return {**super().tensors(), "held": self.held}

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        self.held = state["held"].to(self.generator.device)

    @classmethod
    def passes(cls, config: GenerationConfig, chunk: int) -> list[Pass]:
        places, ahead = len(config.timesteps), config.ahead
        past = min(config.chunks.start(chunk), config.window - ahead - config.chunks.frames(chunk))
        widths = [
            config.chunks.start(chunk + n) - config.chunks.start(chunk)
            for n in range(places if chunk else 1, places + 1)
        ]
        due = [cls._clean(config, chunk - 1)] if chunk else []
        return [*due, *(Pass(width, past + width) for width in widths)]

    @classmethod
    def _clean(cls, config: GenerationConfig, chunk: int) -> Pass:
        frames = config.chunks.frames(chunk)
        past = min(config.chunks.start(chunk), config.window - config.ahead - frames)
        return Pass(frames, past + frames)
