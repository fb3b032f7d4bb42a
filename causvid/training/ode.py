"""Causal initialisation: the teacher's trajectories, and regression on them.

The teacher integrates its flow with guidance; the student, under the block-causal mask, learns to
jump from any of its few levels to the end of the trajectory (CausVid, arXiv 2412.07772, section
4.2). Guidance is thereby learned in, and the student needs one pass where the teacher takes two.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from causvid.generation.config import GenerationConfig
from causvid.generation.schedule import FlowSchedule, clean_from_velocity
from causvid.model.attention import block_causal_mask
from causvid.training.data import Clip, LatentCache, shard_path, write_shard
from causvid.training.losses import from_trajectory, per_frame, regression_loss, same_within_chunks
from causvid.training.precision import training_attention
from causvid.training.prompted import PromptedTransformer, sample, tokenise
from causvid.training.stage import ModelStage, OptimiserConfig, seeded

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrajectoryConfig:
    """How the teacher's trajectories are made.

    Args:
        frames: latent frames of a clip.
        steps: Euler steps; the student's levels must be among them.
        guidance: usual scale, 1 for none.
        batch: clips integrated together; `count` clips in a shard.
    """

    frames: int = 7
    steps: int = 12
    guidance: float = 2.0
    batch: int = 8
    count: int = 64


@dataclass(frozen=True)
class OdeConfig:
    """Settings of the regression.

    Args:
        first_given: whether the first chunk is always shown clean, and not learned. A teacher
            whose windows may begin in the middle of a video has trajectories that do, too; a
            student's videos begin at their beginning, which the causal stage has taught it.
    """

    optimiser: OptimiserConfig
    steps: int
    batch: int
    first_given: bool = False


def student_times(generator: GenerationConfig) -> tuple[float, ...]:
    """σ of the student's levels, noisiest first, then 0."""
    return (*(level.sigma for level in generator.levels(1)), 0.0)


def teacher_grid(generator: GenerationConfig, steps: int) -> tuple[Tensor, list[int]]:
    """The teacher's levels `[steps + 1]`, and where the student's are among them.

    Raises:
        ValueError: if one is not.
    """
    sigmas = torch.cat([FlowSchedule(generator.shift).sigmas(steps), torch.zeros(1)])
    rows = []
    for time in student_times(generator):
        row = int((sigmas - time).abs().argmin())
        if abs(float(sigmas[row]) - time) > 2e-3:
            raise ValueError(
                f"the student's level {time:.4f} is not on the teacher's grid of {steps} steps at "
                f"shift {generator.shift}: choose a multiple of the student's step count"
            )
        rows.append(row)
    return sigmas, rows


@torch.no_grad()
def write_trajectories(
    model: PromptedTransformer,
    tokenizer: PreTrainedTokenizerBase,
    data: LatentCache,
    folder: Path,
    index: int,
    config: TrajectoryConfig,
    generator: GenerationConfig,
    *,
    seed: int = 0,
) -> bool:
    """Write trajectory shard `index` unless it is there; returns whether it was written.

    Captions come from `data`, noise from (seed, index). Stored as clips whose latents are
    `[s, f, c, h, w]`, s the student's levels and the clean end.
    """
    path = shard_path(folder, index)
    if path.exists():
        return False
    sigmas, rows = teacher_grid(generator, config.steps)
    length = model.transformer.config.text_length
    empty = tokenise(tokenizer, [""] * config.batch, length)
    clips: list[Clip] = []
    for part in range(config.count // config.batch):
        key = (seed, index, part)
        drawn = data.batch(key, frames=config.frames, size=config.batch)
        noise = torch.randn(drawn.latents.shape, generator=seeded(*key))
        tokens = tokenise(tokenizer, drawn.captions, length)
        states = sample(model, noise, tokens, empty, sigmas, guidance=config.guidance)[rows]
        clips += [
            Clip(latents, (caption,))
            for latents, caption in zip(states.transpose(0, 1), drawn.captions, strict=True)
        ]
    write_shard(path, clips)
    logger.info("wrote %s", path)
    return True


class OdeStage(ModelStage):
    """Regression of the causal student on stored trajectories."""

    def __init__(
        self,
        model: PromptedTransformer,
        tokenizer: PreTrainedTokenizerBase,
        trajectories: LatentCache,
        config: OdeConfig,
        generator: GenerationConfig,
        *,
        seed: int = 0,
    ):
        super().__init__(model, config.optimiser, steps=config.steps, seed=seed)
        self.config = config
        self.tokenizer = tokenizer
        self.trajectories = trajectories
        self.chunks = generator.chunks
        self.times = torch.tensor(student_times(generator))
        self.length = model.transformer.config.text_length

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        device = self.accelerator.device
        levels = len(self.times)
        # A "clip" of the cache is a trajectory: its first axis counts levels, all are wanted.
        batch = self.trajectories.batch(key, frames=levels, size=self.config.batch)
        trajectory = batch.latents.to(device)
        shape = (trajectory.shape[0], trajectory.shape[2])
        generator = seeded(*key)
        drawn = torch.randint(0, levels, shape, generator=generator)
        if self.config.first_given:
            drawn[:, : self.chunks.first] = levels - 1
        choice = same_within_chunks(drawn, self.chunks).to(device)
        noisy, times = from_trajectory(trajectory, self.times.to(device), choice)
        tokens = tokenise(self.tokenizer, batch.captions, self.length)
        mask = block_causal_mask(self.chunks.sizes(shape[1]))
        with training_attention(device, self.accelerator.mixed_precision):
            velocity = self.model(noisy, times, tokens.ids.to(device), tokens.mask.to(device), mask)
        predicted = clean_from_velocity(noisy, velocity, per_frame(times))
        return regression_loss(predicted, trajectory[:, -1], times)
