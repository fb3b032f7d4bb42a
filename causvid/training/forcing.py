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
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from causvid.generation.config import GenerationConfig
from causvid.generation.generator import seeded
from causvid.generation.geometry import ChunkPattern
from causvid.generation.schedule import add_noise, clean_from_velocity
from causvid.model.attention import block_causal_mask
from causvid.training.config import ForcingConfig, Lessons
from causvid.training.data import Batch, Begin, LatentCache
from causvid.training.losses import per_frame, regression_loss
from causvid.training.model_stage import ModelStage
from causvid.training.ode import student_times
from causvid.training.precision import use_training_attention
from causvid.training.teacher_model import Conditioning

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy latents `[b, f, c, h, w]`, times `[b, f]`, frame mask) → velocity."""

Student = Callable[[list[str]], Velocity]
"""Captions of clips → the velocity of a student under them."""


def lessons_loss(
    lessons: Lessons,
    student: Student,
    earlier: Student | None,
    data: LatentCache,
    key: tuple[int, ...],
    generation: GenerationConfig,
    rng: torch.Generator,
    device: torch.device,
) -> Tensor:
    """The loss of batches that depend on `key`, at noise from `rng`.

    Args:
        student: what is trained.
        earlier: the student whose first chunks are kept; `None` if none are.
    """

    def next_chunk(batch: Batch) -> Tensor:
        return forcing_loss(student(batch.captions), batch.latents.to(device), generation, rng)

    loss = next_chunk(forcing_batch(data, key, lessons.batch, generation))
    beginnings = beginning_batch(data, (*key, 1), lessons.batch, generation)
    if beginnings is not None:
        loss = loss + next_chunk(beginnings)
    if lessons.first_weight and earlier is not None:
        frames = generation.chunks.first
        first = data.batch((*key, 2), frames=frames, size=lessons.first_batch, begin="scene")
        both = student(first.captions), earlier(first.captions)
        kept = first_chunk_loss(*both, first.latents.to(device), generation, rng)
        loss = loss + lessons.first_weight * kept
    return loss


def forcing_batch(
    data: LatentCache, key: tuple[int, ...], size: int, generation: GenerationConfig
) -> Batch:
    """Full windows of real clips as a stream of `generation` sees them, see `LatentCache.batch`."""
    begin: Begin = "sink" if generation.sink else "anywhere"
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
    velocity: Velocity, clean: Tensor, generation: GenerationConfig, rng: torch.Generator
) -> Tensor:
    """Mean squared error of the last chunk's clean prediction, at levels drawn per clip.

    Args:
        velocity: of the student under the clips' captions.
        clean: `[b, f, c, h, w]`, f the window.
    """
    frames, rest = clean.shape[1], generation.chunks.rest
    levels = torch.tensor(student_times(generation)[:-1])
    times = levels[torch.randint(len(levels), clean.shape[:1], generator=rng)]
    times = times[:, None].repeat(1, frames)
    times[:, :-rest] = 0.0
    noise = torch.randn(clean.shape, generator=rng).to(clean.device)
    times = times.to(clean.device)
    noisy = add_noise(clean, noise, per_frame(times))
    mask = last_chunks_mask(frames, generation.chunks)
    predicted = clean_from_velocity(noisy, velocity(noisy, times, mask).float(), per_frame(times))
    return regression_loss(predicted, clean, times)


def first_chunk_loss(
    velocity: Velocity,
    earlier: Velocity,
    clips: Tensor,
    generation: GenerationConfig,
    rng: torch.Generator,
) -> Tensor:
    """Mean squared distance of two students' predictions, where sampling by the earlier one leads.

    Args:
        velocity, earlier: of the student as it is and as it was.
        clips: `[b, f, c, h, w]`, f the first chunk; their shape and device alone matter.
    """
    levels, device = student_times(generation)[:-1], clips.device
    noise = torch.randn((len(levels), *clips.shape), generator=rng).to(device)
    chosen = torch.randint(len(levels), clips.shape[:1], generator=rng).to(device)
    mask = block_causal_mask(clips.shape[1:2])
    states: list[Tensor] = []
    predictions: list[Tensor] = []
    with torch.no_grad():
        for step, level in enumerate(levels):
            noisy = noise[0] if step == 0 else add_noise(predictions[-1], noise[step], level)
            times = torch.full(noisy.shape[:2], level, device=device)
            states.append(noisy)
            predicted = earlier(noisy, times, mask).float()
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
    """Teacher forcing alone.

    Args:
        model: the student.
        condition: how it is given captions.
        earlier: the student before, or another whose first chunks are kept; not needed if none
            are (`Lessons.first_weight`).
    """

    def __init__(
        self,
        model: nn.Module,
        condition: Conditioning,
        data: LatentCache,
        config: ForcingConfig,
        generation: GenerationConfig,
        *,
        earlier: nn.Module | None,
        seed: int = 0,
    ):
        super().__init__(model, config.optimiser, steps=config.steps, seed=seed)
        self.config = config
        self.condition = condition
        self.data = data
        self.generation = generation
        self.earlier = None if earlier is None else earlier.requires_grad_(False).eval()

    def prepare(self, accelerator: Accelerator) -> None:
        super().prepare(accelerator)
        if self.earlier is not None:
            self.earlier.to(accelerator.device)
            use_training_attention(self.earlier, accelerator.device, accelerator.mixed_precision)
        accelerator.register_for_checkpointing(self.data)

    def refresh(self) -> None:
        self.data.open()

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        return lessons_loss(
            self.config.lessons,
            partial(self._under, self.model),
            None if self.earlier is None else partial(self._under, self.earlier),
            self.data,
            key,
            self.generation,
            seeded(*key),
            self.accelerator.device,
        )

    def _under(self, model: nn.Module, captions: list[str]) -> Velocity:
        words = self.condition(captions, self.accelerator.device)

        def velocity(noisy: Tensor, times: Tensor, mask: Tensor) -> Tensor:
            with self.accelerator.autocast():
                return model(noisy, times, *words, frame_mask=mask)

        return velocity
