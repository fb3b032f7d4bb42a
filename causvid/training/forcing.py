"""Teacher forcing: the next chunk of a real clip, from its true past.

Under the block-causal mask a student sees, of a clip, what a stream would show it: the first
picture of the scene as the sink, the chunks that are still in the window, all clean, and one chunk
of noise at one of its few levels (Williams & Zipser 1989). Clips go on for longer than windows, so
this is where a student learns how motions continue when the window rolls. Distribution matching
does not teach it: it improves what a student draws where it draws it, and a chunk that begins
where the one before it began is, by itself, as likely as any. Some clips change their scene with
the last chunk and are captioned as after it, which is what a changed prompt is to do.

Before a window is full a stream is learned the same way, from the beginnings of scenes. Its first
chunk has no past and may be anything that the words allow; by regression it would be the mean of
that. It is kept as the student made it before (learning without forgetting, arXiv 1606.09282), at
the states that sampling goes through: a noisy real clip gives away what is to be drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from causvid.generation.config import GenerationConfig
from causvid.generation.geometry import ChunkPattern
from causvid.generation.schedule import add_noise, clean_from_velocity
from causvid.model.attention import block_causal_mask
from causvid.training.data import Batch, LatentCache
from causvid.training.losses import per_frame, regression_loss
from causvid.training.ode import student_times
from causvid.training.precision import training_attention
from causvid.training.prompted import PromptedTransformer, tokenise
from causvid.training.stage import ModelStage, OptimiserConfig, seeded

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy latents `[b, f, c, h, w]`, times `[b, f]`, frame mask) → velocity."""

Told = Callable[[list[str]], Velocity]
"""A student that is told, by a caption each, what the clips show."""


@dataclass(frozen=True)
class Lessons:
    """What a step of teacher forcing is made of.

    Args:
        batch: full windows; beginnings that fill no window are as many.
        first_weight, first_batch: of the regression of a stream's first chunk on what the student
            made of it before, and how many of them.
    """

    batch: int = 6
    first_weight: float = 2.0
    first_batch: int = 16

    def loss(
        self,
        now: Told,
        before: Told,
        data: LatentCache,
        key: tuple[int, ...],
        generation: GenerationConfig,
        draw: torch.Generator,
        device: torch.device,
    ) -> Tensor:
        """Of batches that depend on `key`, at noise from `draw`.

        Args:
            now, before: the student as it is, and the one whose first chunks are kept.
        """

        def next_chunk(batch: Batch) -> Tensor:
            clean = batch.latents.to(device)
            return forcing_loss(now(batch.captions), clean, generation, draw)

        loss = next_chunk(forcing_batch(data, key, self.batch, generation))
        begun = beginning_batch(data, (*key, 1), self.batch, generation)
        if begun is not None:
            loss = loss + next_chunk(begun)
        if self.first_weight:
            frames = generation.chunks.first
            first = data.batch((*key, 2), frames=frames, size=self.first_batch, begin="scene")
            clips = first.latents.to(device)
            voices = now(first.captions), before(first.captions)
            loss = loss + self.first_weight * first_chunk_loss(*voices, clips, generation, draw)
        return loss


@dataclass(frozen=True)
class ForcingConfig:
    """Settings of a stage of teacher forcing."""

    optimiser: OptimiserConfig
    steps: int
    lessons: Lessons = field(default_factory=Lessons)


def forcing_batch(
    data: LatentCache, key: tuple[int, ...], size: int, generation: GenerationConfig
) -> Batch:
    """Full windows of real clips as a stream of `generation` sees them, see `LatentCache.batch`."""
    begin = "sink" if generation.sink else "anywhere"
    last = generation.chunks.rest
    return data.batch(key, frames=generation.window, size=size, begin=begin, last=last)


def beginning_batch(
    data: LatentCache, key: tuple[int, ...], size: int, generation: GenerationConfig
) -> Batch | None:
    """Scenes from their beginning to a later chunk, drawn, at which the window is not yet full.

    None if it is full with the second chunk.
    """
    chunks = generation.chunks
    count = chunks.covering(generation.window) - 1
    if count < 2:
        return None
    ends = np.random.default_rng(key).integers(2, count, endpoint=True)
    return data.batch(key, frames=chunks.start(int(ends)), size=size, begin="scene")


def forcing_loss(
    velocity: Velocity, clean: Tensor, generation: GenerationConfig, draw: torch.Generator
) -> Tensor:
    """Mean squared error of the last chunk's clean prediction, at levels drawn per clip.

    Args:
        velocity: the student, told what the clips show.
        clean: `[b, f, c, h, w]`, f the window.
    """
    frames, rest = clean.shape[1], generation.chunks.rest
    levels = torch.tensor(student_times(generation)[:-1])
    times = levels[torch.randint(len(levels), clean.shape[:1], generator=draw)]
    times = times[:, None].repeat(1, frames)
    times[:, :-rest] = 0.0
    noise = torch.randn(clean.shape, generator=draw).to(clean.device)
    times = times.to(clean.device)
    noisy = add_noise(clean, noise, per_frame(times))
    mask = last_chunks_mask(frames, generation.chunks)
    predicted = clean_from_velocity(noisy, velocity(noisy, times, mask).float(), per_frame(times))
    return regression_loss(predicted, clean, times)


def first_chunk_loss(
    velocity: Velocity,
    before: Velocity,
    clips: Tensor,
    generation: GenerationConfig,
    draw: torch.Generator,
) -> Tensor:
    """Mean squared distance of two students' predictions, where sampling by the earlier one leads.

    Args:
        velocity, before: the student as it is and as it was.
        clips: `[b, f, c, h, w]`, f the first chunk; their shape and device alone matter.
    """
    levels, device = student_times(generation)[:-1], clips.device
    noise = torch.randn((len(levels), *clips.shape), generator=draw).to(device)
    chosen = torch.randint(len(levels), clips.shape[:1], generator=draw).to(device)
    mask = block_causal_mask(clips.shape[1:2])
    states, predictions = [], []
    with torch.no_grad():
        for step, level in enumerate(levels):
            noisy = noise[0] if step == 0 else add_noise(predictions[-1], noise[step], level)
            times = torch.full(noisy.shape[:2], level, device=device)
            states.append(noisy)
            predicted = before(noisy, times, mask).float()
            predictions.append(clean_from_velocity(noisy, predicted, level))
    each = torch.arange(len(chosen), device=device)
    noisy, wanted = (torch.stack(steps)[chosen, each] for steps in (states, predictions))
    times = torch.tensor(levels, device=device)[chosen][:, None].expand(noisy.shape[:2])
    predicted = clean_from_velocity(noisy, velocity(noisy, times, mask).float(), per_frame(times))
    return regression_loss(predicted, wanted, times)


def last_chunks_mask(frames: int, chunks: ChunkPattern) -> Tensor:
    """The block-causal mask of frames that end with a chunk, but need not begin with one."""
    whole, part = divmod(frames, chunks.rest)
    return block_causal_mask((part,) * (part > 0) + (chunks.rest,) * whole)


class ForcingStage(ModelStage):
    """Teacher forcing alone, for a student that is to learn, or has forgotten, how things go on.

    Args:
        known: the student before, or another whose first chunks are to be kept.
    """

    def __init__(
        self,
        model: PromptedTransformer,
        tokenizer: PreTrainedTokenizerBase,
        data: LatentCache,
        config: ForcingConfig,
        generation: GenerationConfig,
        *,
        known: PromptedTransformer,
        seed: int = 0,
    ):
        super().__init__(model, config.optimiser, steps=config.steps, seed=seed)
        self.config = config
        self.tokenizer = tokenizer
        self.data = data
        self.generation = generation
        self.known = known.requires_grad_(False).eval()
        self.length = model.transformer.config.text_length

    def prepare(self, accelerator: Accelerator) -> None:
        super().prepare(accelerator)
        self.known.to(accelerator.device)
        accelerator.register_for_checkpointing(self.data)

    def refresh(self) -> None:
        self.data.open()

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        return self.config.lessons.loss(
            partial(self._told, self.model),
            partial(self._told, self.known),
            self.data,
            key,
            self.generation,
            seeded(*key),
            self.accelerator.device,
        )

    def _told(self, model: torch.nn.Module, captions: list[str]) -> Velocity:
        device = self.accelerator.device
        ids, shown = tokenise(self.tokenizer, captions, self.length)

        def velocity(noisy: Tensor, times: Tensor, mask: Tensor) -> Tensor:
            with (
                self.accelerator.autocast(),
                training_attention(device, self.accelerator.mixed_precision),
            ):
                return model(noisy, times, ids.to(device), shown.to(device), mask)

        return velocity
