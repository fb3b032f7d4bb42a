"""Flow matching on cached latents: the bidirectional teacher.

It is a text-to-video model, trained with its text encoder or without. Images come first, then ever
longer clips: appearance is learned from single latents at a fraction of the cost (measured: a clip
of nine costs nine times as much and teaches it no faster).
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from causvid.generation.generator import seeded
from causvid.generation.schedule import FlowSchedule, add_noise
from causvid.training.config import FlowConfig, Phase
from causvid.training.losses import flicker_loss, flow_matching_loss, per_frame
from causvid.training.model_stage import CaptionedStage
from causvid.training.noise import normal

Config = TypeVar("Config", bound=FlowConfig)

Velocity = Callable[..., Tensor]
"""(model, noisy latents `[b, f, c, h, w]`, times `[b, f]`, *words) → velocity."""


def _of_all_frames(model: nn.Module, noisy: Tensor, times: Tensor, *words: Tensor) -> Tensor:
    velocity: Tensor = model(noisy, times, *words)
    return velocity


class FlowStage(CaptionedStage[Config]):
    """What stages of flow matching share."""

    def phase_at(self, step: int) -> Phase:
        """The phase of a step. A budget of time keeps the phases' shares of all steps."""
        return self.config.phase_at(step * self.config.steps // self.steps)

    def with_dropout(self, captions: list[str], rng: torch.Generator) -> list[str]:
        """Captions, some of them empty."""
        dropped = torch.rand(len(captions), generator=rng) < self.config.caption_dropout
        return ["" if drop else text for text, drop in zip(captions, dropped, strict=True)]

    def flow_loss(
        self,
        clean: Tensor,
        sigma: Tensor,
        captions: list[str],
        rng: torch.Generator,
        predict: Velocity = _of_all_frames,
    ) -> Tensor:
        """Loss at levels `sigma` `[b, f]`; frames given clean (level 0) do not count."""
        device = self.accelerator.device
        noise = normal(clean.shape, rng, device)
        clean, times = clean.to(device), sigma.to(device)
        noisy = add_noise(clean, noise, per_frame(times))
        velocity = predict(self.model, noisy, times, *self.condition(captions, device))
        learned = times > 0
        loss = flow_matching_loss(velocity[learned], clean[learned], noise[learned])
        if self.config.flicker_weight and (learned[:, 1:] & learned[:, :-1]).any():
            flicker = flicker_loss(velocity, clean, noise, learned)
            loss = loss + self.config.flicker_weight * flicker
        return loss


class TeacherStage(FlowStage[FlowConfig]):
    """Bidirectional flow matching: all frames of a clip at one level.

    Its model is a `TeacherModel`, or a `CausalWanTransformer` if the text encoder is frozen.
    """

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        phase = self.phase_at(step)
        batch = self.data.batch(key, frames=phase.frames, size=phase.batch)
        rng = seeded(*key)
        captions = self.with_dropout(batch.captions, rng)
        # One stratum of levels per sample: the same distribution, less noise in the gradient.
        u = (torch.arange(phase.batch) + torch.rand(phase.batch, generator=rng)) / phase.batch
        sigma = FlowSchedule(self.config.shift).shifted(u)[:, None].expand(-1, phase.frames)
        return self.flow_loss(batch.latents, sigma, captions, rng)
