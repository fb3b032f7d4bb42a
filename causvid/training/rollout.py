"""The student's own videos, with gradients where they are wanted (Self-Forcing, arXiv 2506.08009).

The loop is the generator's: the same cache, levels, renoising and clean pass as in a viewer's
stream. Each chunk stops at a randomly chosen step, whose prediction is its result; only that pass
carries gradients, and none flow through the cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from causvid.generation.cues import Handover
from causvid.generation.generator import Generator, Memory
from causvid.generation.schedule import add_noise
from causvid.model.cache import GradientMemory, KVCache, TextCache

RolloutNoise = Callable[[int, int, tuple[int, ...]], Tensor]
"""(chunk, step, shape) → standard normal noise."""


@dataclass(frozen=True)
class Switch:
    """Another prompt from `chunk` on, taken over as in a viewer's stream."""

    chunk: int
    handover: Handover


@dataclass(frozen=True)
class RolloutPlan:
    """What one rollout does.

    Args:
        chunks: how many chunks are made.
        live: gradient-carrying chunks, at the end of the rollout.
        exit_step: the step, from 0, whose prediction is a chunk's result.
        switch: when the prompt changes, if it does.
    """

    chunks: int
    live: int
    exit_step: int
    switch: Switch | None = None

    def __post_init__(self):
        if not 0 <= self.live <= self.chunks or self.chunks < 1 or self.exit_step < 0:
            raise ValueError(f"a rollout needs 0 ≤ live ≤ chunks and exit_step ≥ 0, got {self}")
        if self.switch is not None and not 0 < self.switch.chunk < self.chunks:
            raise ValueError(f"the prompt can change at chunks 1 to {self.chunks - 1}, got {self}")

    def is_live(self, chunk: int) -> bool:
        return chunk >= self.chunks - self.live


def roll_out(
    generator: Generator,
    text: Tensor,
    plan: RolloutPlan,
    noise: RolloutNoise,
    *,
    first: Tensor | None = None,
    later_text: Tensor | None = None,
) -> Tensor:
    """Generate clips chunk by chunk through a fresh cache.

    Args:
        text: prompt embeddings `[b, n, d]`.
        first: clean latents of chunk 0 `[b, f, c, h, w]`, taken as they are (image-to-video).
        later_text: the embeddings that take over at `plan.switch`.

    Returns:
        Clean latents `[b, f, c, h, w]` of all chunks; the live ones are differentiable.

    Raises:
        ValueError: if the exit step is not a step of every chunk, or `later_text` and
            `plan.switch` are not given together.
    """
    if (plan.switch is None) != (later_text is None):
        raise ValueError("a switch needs the text of the later prompt, and that text a switch")
    cache = generator.new_cache(text.shape[0])
    made: list[Tensor] = []
    current, prompt = text, _Prompt.of(generator, text, live=plan.live > 0)
    for chunk in range(plan.chunks):
        if plan.switch is not None and later_text is not None and chunk >= plan.switch.chunk:
            wanted = _mixed(text, later_text, plan.switch, chunk)
            if wanted is not current:
                current, prompt = wanted, _Prompt.of(generator, wanted, live=plan.live > 0)
            if chunk == plan.switch.chunk:
                _hand_over(generator, plan.switch.handover, made, Memory(cache, prompt.fixed))
        cache.open(generator.config.chunks.frames(chunk))
        memory = Memory(cache, prompt.fixed)
        if chunk == 0 and first is not None:
            clean = first
        else:
            levels = generator.config.levels(chunk)
            if plan.exit_step >= len(levels):
                raise ValueError(
                    f"exit step {plan.exit_step} of chunk {chunk}, which has {len(levels)} steps"
                )
            shape = generator.chunk_shape(chunk, text.shape[0])
            clean = _make_chunk(generator, chunk, shape, plan, noise, memory, prompt.live)
        with torch.no_grad():
            generator.remember(clean.detach(), memory)
        cache.advance()
        made.append(clean)
    return torch.cat(made, dim=1)


class _Prompt(NamedTuple):
    """One prompt's keys and values for passes without gradients, and for those with.

    A model whose layers are sharded has them together within its own passes only, so there it is
    the embeddings, from which every pass makes keys and values anew.
    """

    fixed: TextCache | Tensor
    live: TextCache | Tensor

    @classmethod
    def of(cls, generator: Generator, text: Tensor, *, live: bool) -> "_Prompt":
        if isinstance(generator.transformer, FSDPModule):
            return cls(text, text)
        with torch.no_grad():
            fixed = generator.transformer.encode_text(text)
        return cls(fixed, generator.transformer.encode_text(text) if live else fixed)


def _mixed(text: Tensor, later_text: Tensor, switch: Switch, chunk: int) -> Tensor:
    """The embeddings in force during `chunk`, which is not before the switch."""
    weight = switch.handover.weight(chunk - switch.chunk)
    return later_text if weight == 1 else torch.lerp(text, later_text, weight)


@torch.no_grad()
def _hand_over(
    generator: Generator, handover: Handover, made: list[Tensor], memory: Memory
) -> None:
    if handover.kind == "flush" and isinstance(memory.cache, KVCache):
        memory.cache.flush()
    elif handover.kind == "recache":
        history = torch.cat([clean.detach() for clean in made], dim=1)
        generator.recache(history, memory)


def _make_chunk(
    generator: Generator,
    chunk: int,
    shape: tuple[int, ...],
    plan: RolloutPlan,
    noise: RolloutNoise,
    memory: Memory,
    live_text: TextCache | Tensor,
) -> Tensor:
    """The open chunk as predicted at the exit step."""
    levels = generator.config.levels(chunk)
    x = noise(chunk, 0, shape)
    with torch.no_grad():
        for step in range(plan.exit_step):
            clean = generator.predict_clean(x, levels[step], memory)
            x = add_noise(clean, noise(chunk, step + 1, shape), levels[step + 1].sigma)
    if not plan.is_live(chunk) or not isinstance(memory.cache, KVCache):
        with torch.no_grad():
            return generator.predict_clean(x, levels[plan.exit_step], memory)
    live = Memory(GradientMemory(memory.cache), live_text)
    return generator.predict_clean(x, levels[plan.exit_step], live)
