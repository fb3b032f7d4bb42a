"""Causal initialisation: the teacher's trajectories, and regression on them.

The teacher integrates its flow with guidance; the student, under the block-causal mask, learns to
jump from any of its few levels to the end of the trajectory (CausVid, arXiv 2412.07772, section
4.2). Guidance is thereby learned in, and the student needs one pass where the teacher takes two.
"""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from causvid.generation.config import GenerationConfig
from causvid.generation.generator import seeded
from causvid.generation.geometry import LatentGrid
from causvid.generation.schedule import FlowSchedule, clean_from_velocity
from causvid.model.attention import block_causal_mask
from causvid.model.transformer import CausalWanTransformer
from causvid.training.config import OdeConfig, TrajectoryConfig
from causvid.training.data import Clip, LatentCache, PromptFile, shard_path, write_shard
from causvid.training.losses import from_trajectory, per_frame, regression_loss, same_within_chunks
from causvid.training.model_stage import CaptionedStage
from causvid.training.teacher_model import Conditioning, sample

logger = logging.getLogger(__name__)


def student_times(generation: GenerationConfig) -> tuple[float, ...]:
    """σ of the student's levels, noisiest first, then 0."""
    return (*(level.sigma for level in generation.levels(1)), 0.0)


def teacher_grid(generation: GenerationConfig, steps: int) -> tuple[Tensor, list[int]]:
    """The teacher's levels `[steps + 1]`, and where the student's are among them.

    Raises:
        ValueError: if one is not.
    """
    sigmas = torch.cat([FlowSchedule(generation.shift).sigmas(steps), torch.zeros(1)])
    rows = []
    for time in student_times(generation):
        row = int((sigmas - time).abs().argmin())
        if abs(float(sigmas[row]) - time) > 2e-3:
            raise ValueError(
                f"the student's level {time:.4f} is not on the teacher's grid of {steps} steps at "
                f"shift {generation.shift}: choose a multiple of the student's step count"
            )
        rows.append(row)
    return sigmas, rows


@torch.no_grad()
def write_trajectories(
    transformer: CausalWanTransformer,
    condition: Conditioning,
    data: LatentCache | PromptFile,
    folder: Path,
    index: int,
    config: TrajectoryConfig,
    generation: GenerationConfig,
    grid: LatentGrid,
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
    sigmas, rows = teacher_grid(generation, config.steps)
    device, channels = transformer.device, transformer.config.in_channels
    shape = (config.batch, config.frames, channels, grid.latent_height, grid.latent_width)
    (empty,) = condition([""] * config.batch, device)
    clips: list[Clip] = []
    for part in range(config.count // config.batch):
        key = (seed, index, part)
        captions = data.captions(key, config.batch)
        noise = torch.randn(shape, generator=seeded(*key))
        (text,) = condition(captions, device)
        states = sample(transformer, noise, text, empty, sigmas, guidance=config.guidance)[rows]
        clips += [
            Clip(latents, (caption,))
            for latents, caption in zip(states.transpose(0, 1), captions, strict=True)
        ]
    write_shard(path, clips)
    logger.info("wrote %s", path)
    return True


class OdeStage(CaptionedStage[OdeConfig]):
    """Regression of the causal student on stored trajectories."""

    def __init__(
        self,
        model: nn.Module,
        condition: Conditioning,
        data: LatentCache,
        config: OdeConfig,
        generation: GenerationConfig,
        *,
        seed: int = 0,
    ):
        super().__init__(model, condition, data, config, seed=seed)
        self.chunks = generation.chunks
        self.times = torch.tensor(student_times(generation))

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        device = self.accelerator.device
        levels = len(self.times)
        # A "clip" of the cache is a trajectory: its first axis counts levels, all are wanted.
        batch = self.data.batch(key, frames=levels, size=self.config.batch)
        trajectory = batch.latents.to(device)
        shape = (trajectory.shape[0], trajectory.shape[2])
        rng = seeded(*key)
        drawn = torch.randint(0, levels, shape, generator=rng)
        if self.config.first_given:
            drawn[:, : self.chunks.first] = levels - 1
        choice = same_within_chunks(drawn, self.chunks).to(device)
        noisy, times = from_trajectory(trajectory, self.times.to(device), choice)
        mask = block_causal_mask(self.chunks.sizes(shape[1]))
        words = self.condition(batch.captions, device)
        velocity = self.model(noisy, times, *words, frame_mask=mask)
        predicted = clean_from_velocity(noisy, velocity, per_frame(times))
        return regression_loss(predicted, trajectory[:, -1], times)
