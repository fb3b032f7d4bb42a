"""Teacher forcing: the next chunk of a real clip, from its true past.

Under the block-causal mask a student sees, of a clip, what a stream would show it: the first
picture of the scene as the sink, the chunks that are still in the window, all clean, and one chunk
of noise at one of its few levels (Williams & Zipser 1989). Clips go on for longer than windows, so
this is where a student learns how motions continue when the window rolls. Distribution matching
does not teach it: it improves what a student draws where it draws it, and a chunk that begins
where the one before it began is, by itself, as likely as any.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from causvid.attention import block_causal_mask
from causvid.generator import GeneratorConfig
from causvid.geometry import ChunkPattern
from causvid.schedule import add_noise, clean_from_velocity
from causvid.training.data import Batch, LatentCache
from causvid.training.losses import per_frame, regression_loss
from causvid.training.ode import student_times
from causvid.training.precision import training_attention
from causvid.training.prompted import PromptedTransformer, tokenise
from causvid.training.stage import ModelStage, OptimiserConfig, seeded

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy latents `[b, f, c, h, w]`, times `[b, f]`, frame mask) → velocity."""


@dataclass(frozen=True)
class ForcingConfig:
    """Settings of a stage of nothing but teacher forcing."""

    optimiser: OptimiserConfig
    steps: int
    batch: int


def forcing_batch(
    data: LatentCache, key: tuple[int, ...], size: int, generation: GeneratorConfig
) -> Batch:
    """Windows of real clips as a stream of `generation` would see them, see `LatentCache.batch`."""
    begin = "sink" if generation.sink else "anywhere"
    return data.batch(key, frames=generation.window, size=size, begin=begin)


def forcing_loss(
    velocity: Velocity, clean: Tensor, generation: GeneratorConfig, draw: torch.Generator
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


def last_chunks_mask(frames: int, chunks: ChunkPattern) -> Tensor:
    """The block-causal mask of frames that end with a chunk, but need not begin with one."""
    whole, part = divmod(frames, chunks.rest)
    return block_causal_mask((part,) * (part > 0) + (chunks.rest,) * whole)


class ForcingStage(ModelStage):
    """Teacher forcing alone, for a student that is to learn, or has forgotten, how things go on."""

    def __init__(
        self,
        model: PromptedTransformer,
        tokenizer: PreTrainedTokenizerBase,
        data: LatentCache,
        config: ForcingConfig,
        generation: GeneratorConfig,
        *,
        seed: int = 0,
    ):
        super().__init__(model, config.optimiser, steps=config.steps, seed=seed)
        self.config = config
        self.tokenizer = tokenizer
        self.data = data
        self.generation = generation
        self.length = model.transformer.config.text_length

    def prepare(self, accelerator: Accelerator) -> None:
        super().prepare(accelerator)
        accelerator.register_for_checkpointing(self.data)

    def refresh(self) -> None:
        self.data.open()

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        device = self.accelerator.device
        batch = forcing_batch(self.data, key, self.config.batch, self.generation)
        ids, shown = tokenise(self.tokenizer, batch.captions, self.length)

        def velocity(noisy: Tensor, times: Tensor, mask: Tensor) -> Tensor:
            with training_attention(device, self.accelerator.mixed_precision):
                return self.model(noisy, times, ids.to(device), shown.to(device), mask)

        return forcing_loss(velocity, batch.latents.to(device), self.generation, seeded(*key))
