"""Teacher forcing: the next chunk of a real clip, from its true past.

Under the block-causal mask a student sees, of a clip, what a stream would show it: the first
picture of the scene as the sink, the chunks that are still in the window, all clean, and one chunk
of noise at one of its few levels (Williams & Zipser 1989). Clips go on for longer than windows, so
this is where a student learns how motions continue when the window rolls. Distribution matching
does not teach it: it improves what a student draws where it draws it, and a chunk that begins
where the one before it began is, by itself, as likely as any. Some clips change their scene with
the last chunk and are captioned as after it, which is what a changed prompt is to do.

What comes before a window is full is not asked for, and would be forgotten. It is kept by
regression on what the student said before (learning without forgetting, arXiv 1606.09282).
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
from causvid.training.losses import per_frame, regression_loss, same_within_chunks
from causvid.training.ode import student_times
from causvid.training.precision import training_attention
from causvid.training.prompted import PromptedTransformer, tokenise
from causvid.training.stage import ModelStage, OptimiserConfig, seeded

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy latents `[b, f, c, h, w]`, times `[b, f]`, frame mask) → velocity."""


@dataclass(frozen=True)
class ForcingConfig:
    """Settings of a stage of teacher forcing.

    Args:
        keep_weight: of the regression on what the student said before, of a stream's first chunks.
    """

    optimiser: OptimiserConfig
    steps: int
    batch: int
    keep_weight: float = 1.0


def forcing_batch(
    data: LatentCache, key: tuple[int, ...], size: int, generation: GeneratorConfig
) -> Batch:
    """Windows of real clips as a stream of `generation` would see them, see `LatentCache.batch`."""
    begin = "sink" if generation.sink else "anywhere"
    last = generation.chunks.rest
    return data.batch(key, frames=generation.window, size=size, begin=begin, last=last)


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
        generation: GeneratorConfig,
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
        draw = seeded(*key)
        batch = forcing_batch(self.data, key, self.config.batch, self.generation)
        velocity = self._told(self.model, batch.captions)
        clean = batch.latents.to(self.accelerator.device)
        loss = forcing_loss(velocity, clean, self.generation, draw)
        if self.config.keep_weight:
            loss = loss + self.config.keep_weight * self._kept(key, draw)
        return loss

    def _kept(self, key: tuple[int, ...], draw: torch.Generator) -> Tensor:
        """How far the chunks before a full window are from what they were, squared."""
        chunks, device = self.generation.chunks, self.accelerator.device
        frames = self.generation.window - chunks.rest
        batch = self.data.batch((*key, 1), frames=frames, size=self.config.batch, begin="scene")
        levels = torch.tensor(student_times(self.generation))
        drawn = torch.randint(len(levels), batch.latents.shape[:2], generator=draw)
        times = levels[same_within_chunks(drawn, chunks)].to(device)
        noise = torch.randn(batch.latents.shape, generator=draw).to(device)
        noisy = add_noise(batch.latents.to(device), noise, per_frame(times))
        mask = block_causal_mask(chunks.sizes(frames))
        with torch.no_grad():
            before = self._told(self.known, batch.captions)(noisy, times, mask)
        now = self._told(self.model, batch.captions)(noisy, times, mask)
        error = (now - before).float() * per_frame(times)  # of the clean prediction
        return error.square().mean()

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
