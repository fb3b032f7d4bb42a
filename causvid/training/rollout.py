"""The student's own videos, with gradients where they are wanted (Self-Forcing, arXiv 2506.08009).

The loop is the generator's: the same cache, levels, renoising and clean pass as in a viewer's
stream. Each chunk stops at a randomly chosen step, whose prediction is its result; only that pass
carries gradients, and none flow through the cache.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from causvid.cache import GradientMemory, TextCache
from causvid.generator import Generator, Memory
from causvid.schedule import add_noise

RolloutNoise = Callable[[int, int, tuple[int, ...]], Tensor]
"""(chunk, step, shape) → standard normal noise."""


@dataclass(frozen=True)
class RolloutPlan:
    """What one rollout does.

    Args:
        chunks: how many chunks are made.
        live: the last so many of them carry gradients.
        exit_step: the step, from 0, whose prediction is a chunk's result.
    """

    chunks: int
    live: int
    exit_step: int

    def __post_init__(self):
        if not 0 <= self.live <= self.chunks or self.chunks < 1 or self.exit_step < 0:
            raise ValueError(f"a rollout needs 0 ≤ live ≤ chunks and exit_step ≥ 0, got {self}")


def roll_out(
    generator: Generator,
    text: Tensor,
    plan: RolloutPlan,
    noise: RolloutNoise,
    *,
    first: Tensor | None = None,
) -> Tensor:
    """Generate clips chunk by chunk through a fresh cache.

    Args:
        text: prompt embeddings `[b, n, d]`.
        first: clean latents of chunk 0 `[b, f, c, h, w]`, taken as they are (image-to-video).

    Returns:
        Clean latents `[b, f, c, h, w]` of all chunks; the live ones are differentiable.

    Raises:
        ValueError: if the exit step is not a step of every chunk.
    """
    batch = text.shape[0]
    cache = generator.new_cache(batch)
    with torch.no_grad():
        silent = generator.transformer.encode_text(text)
    live_text = generator.transformer.encode_text(text) if plan.live else silent
    made = []
    for chunk in range(plan.chunks):
        cache.open(generator.config.chunks.frames(chunk))
        memory = Memory(cache, silent)
        if chunk == 0 and first is not None:
            clean = first
        else:
            levels = generator.config.levels(chunk)
            if plan.exit_step >= len(levels):
                raise ValueError(
                    f"exit step {plan.exit_step} of chunk {chunk}, which has {len(levels)} steps"
                )
            clean = _make_chunk(generator, chunk, plan, noise, memory, live_text)
        with torch.no_grad():
            generator.remember(clean.detach(), memory)
        cache.advance()
        made.append(clean)
    return torch.cat(made, dim=1)


def _make_chunk(
    generator: Generator,
    chunk: int,
    plan: RolloutPlan,
    noise: RolloutNoise,
    memory: Memory,
    live_text: TextCache,
) -> Tensor:
    """The open chunk as predicted at the exit step."""
    levels = generator.config.levels(chunk)
    shape = generator.chunk_shape(chunk, memory.text.keys[0].shape[0])
    x = noise(chunk, 0, shape)
    with torch.no_grad():
        for step in range(plan.exit_step):
            clean = generator.predict_clean(x, levels[step], memory)
            x = add_noise(clean, noise(chunk, step + 1, shape), levels[step + 1].sigma)
    if chunk < plan.chunks - plan.live:
        with torch.no_grad():
            return generator.predict_clean(x, levels[plan.exit_step], memory)
    live = Memory(GradientMemory(memory.cache), live_text)
    return generator.predict_clean(x, levels[plan.exit_step], live)
