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
from causvid.training.data import Begin, LatentCache
from causvid.training.losses import per_frame, regression_loss
from causvid.training.model_stage import CaptionedStage
from causvid.training.noise import normal
from causvid.training.ode import student_times
from causvid.training.precision import use_training_attention
from causvid.training.teacher_model import Conditioning

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy latents `[b, f, c, h, w]`, times `[b, f]`, frame mask) → velocity."""


class TeacherForcing:
    """The loss of batches of clips, alone or beside another loss.

    Args:
        condition: how students are given captions.
        earlier: the student whose first chunks are kept.

    Raises:
        ValueError: if first chunks are to be kept, of no student.
    """

    def __init__(
        self,
        lessons: Lessons,
        condition: Conditioning,
        data: LatentCache,
        generation: GenerationConfig,
        earlier: nn.Module | None,
    ):
        if earlier is None and lessons.first_weight:
            raise ValueError("teacher forcing keeps first chunks: it needs the student before")
        self.lessons = lessons
        self.condition = condition
        self.data = data
        self.generation = generation
        self.earlier = None if earlier is None else earlier.requires_grad_(False).eval()

    def prepare(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        if self.earlier is not None:
            self.earlier.to(accelerator.device)
            use_training_attention(self.earlier, accelerator.device, accelerator.mixed_precision)

    def loss(self, student: nn.Module, key: tuple[int, ...], rng: torch.Generator) -> Tensor:
        """Of batches that depend on `key`, at noise from `rng`."""
        lessons, generation, chunks = self.lessons, self.generation, self.generation.chunks
        device = self.accelerator.device
        # Full windows as a stream sees them, and beginnings of scenes that fill none yet.
        begin: Begin = "sink" if generation.sink else "anywhere"
        size, window = lessons.batch, generation.window
        batches = [self.data.batch(key, frames=window, size=size, begin=begin, last=chunks.rest)]
        full = chunks.covering(window)
        if full > 2:
            key_of_beginnings = (*key, 1)
            end = int(np.random.default_rng(key_of_beginnings).integers(2, full))
            frames = chunks.start(end)
            batches.append(
                self.data.batch(key_of_beginnings, frames=frames, size=size, begin="scene")
            )
        losses = []
        for batch in batches:
            velocity = self._under(student, batch.captions)
            losses.append(forcing_loss(velocity, batch.latents.to(device), generation, rng))
        if self.earlier is not None and lessons.first_weight:
            first = self.data.batch(
                (*key, 2), frames=chunks.first, size=lessons.first_batch, begin="scene"
            )
            now, before = (self._under(model, first.captions) for model in (student, self.earlier))
            kept = first_chunk_loss(now, before, first.latents.to(device), generation, rng)
            losses.append(lessons.first_weight * kept)
        return torch.stack(losses).sum()

    def _under(self, model: nn.Module, captions: list[str]) -> Velocity:
        words = self.condition(captions, self.accelerator.device)

        def velocity(noisy: Tensor, times: Tensor, mask: Tensor) -> Tensor:
            with self.accelerator.autocast():
                return model(noisy, times, *words, frame_mask=mask)

        return velocity


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
    noise = normal(clean.shape, rng, clean.device)
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
    noise = normal((len(levels), *clips.shape), rng, device)
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
    return block_causal_mask(chunks.runs(frames))


class ForcingStage(CaptionedStage[ForcingConfig]):
    """Teacher forcing alone.

    Args:
        earlier: see `TeacherForcing`; `None` if no first chunks are kept.
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
        super().__init__(model, condition, data, config, seed=seed)
        self.forcing = TeacherForcing(config.lessons, condition, data, generation, earlier)

    def prepare(self, accelerator: Accelerator) -> None:
        super().prepare(accelerator)
        self.forcing.prepare(accelerator)

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        return self.forcing.loss(self.model, key, seeded(*key))
