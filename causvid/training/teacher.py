"""Flow matching on cached latents: the teacher, and the causal student made from it.

`TeacherStage` trains a bidirectional text-to-video model, with its text encoder or without. Images
come first, then ever longer clips: appearance is learned from single latents at a fraction of the
cost (measured: a clip of nine costs nine times as much and teaches it no faster).

`CausalStage` goes on with the teacher's weights under the block-causal mask, every chunk at a noise
level of its own (Diffusion Forcing, arXiv 2407.01392; CausVid, arXiv 2412.07772, section 4.1).
"""

import torch
from torch import Tensor, nn

from causvid.generation.generator import seeded
from causvid.generation.geometry import ChunkPattern
from causvid.generation.schedule import FlowSchedule, add_noise
from causvid.model.attention import block_causal_mask
from causvid.training.config import FlowConfig
from causvid.training.data import LatentCache
from causvid.training.losses import (
    flicker_loss,
    flow_matching_loss,
    per_frame,
    same_within_chunks,
)
from causvid.training.model_stage import CaptionedStage
from causvid.training.teacher_model import Conditioning


class TeacherStage(CaptionedStage[FlowConfig]):
    """Bidirectional flow matching: all frames of a clip at one level.

    Its model is a `TeacherModel`, or a `CausalWanTransformer` if the text encoder is frozen.
    """

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        phase = self.config.phase_at(step)
        batch = self.data.batch(key, frames=phase.frames, size=phase.batch)
        rng = seeded(*key)
        captions = self.with_dropout(batch.captions, rng)
        # One stratum of levels per sample: the same distribution, less noise in the gradient.
        u = (torch.arange(phase.batch) + torch.rand(phase.batch, generator=rng)) / phase.batch
        sigma = FlowSchedule(self.config.shift).shifted(u)[:, None].expand(-1, phase.frames)
        return self.flow_loss(batch.latents, sigma, captions, rng)

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
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """Loss at levels `sigma` `[b, f]`; frames given clean (level 0) do not count."""
        device = self.accelerator.device
        noise = torch.randn(clean.shape, generator=rng).to(device)
        clean, times = clean.to(device), sigma.to(device)
        noisy = add_noise(clean, noise, per_frame(times))
        velocity = self.model(
            noisy, times, *self.condition(captions, device), frame_mask=frame_mask
        )
        learned = times > 0
        loss = flow_matching_loss(velocity[learned], clean[learned], noise[learned])
        if self.config.flicker_weight and (learned[:, 1:] & learned[:, :-1]).any():
            flicker = flicker_loss(velocity, clean, noise, learned)
            loss = loss + self.config.flicker_weight * flicker
        return loss


class CausalStage(TeacherStage):
    """Block-causal flow matching: every chunk at its own level, some of them clean.

    Windows start at a picture: a student's first chunk is always the start of a video, and the
    chunks after it know from their past where they are. Of a clip whose scene had begun before,
    the first chunk is always given: it is what a picture to go on from looks like, not what a
    prompt should start with.

    Args:
        chunks: how frames fall into chunks.
        clean_share: how often a chunk is given clean, as the cache holds the past at inference.
    """

    def __init__(
        self,
        model: nn.Module,
        condition: Conditioning,
        data: LatentCache,
        config: FlowConfig,
        *,
        chunks: ChunkPattern,
        clean_share: float = 0.3,
        seed: int = 0,
    ):
        super().__init__(model, condition, data, config, seed=seed)
        self.chunks = chunks
        self.clean_share = clean_share

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        phase = self.config.phase_at(step)
        batch = self.data.batch(key, frames=phase.frames, size=phase.batch, begin="picture")
        rng = seeded(*key)
        captions = self.with_dropout(batch.captions, rng)
        shape = (phase.batch, phase.frames)
        u = same_within_chunks(torch.rand(shape, generator=rng), self.chunks)
        drawn = same_within_chunks(torch.rand(shape, generator=rng), self.chunks)
        given = drawn < self.clean_share
        given[:, : self.chunks.first] |= batch.late[:, None]
        last = self.chunks.start(self.chunks.chunk_of(phase.frames - 1))
        given[:, last:] &= ~given.all(1, keepdim=True)  # something is left to learn
        sigma = FlowSchedule(self.config.shift).shifted(u).masked_fill(given, 0.0)
        mask = block_causal_mask(self.chunks.sizes(phase.frames))
        return self.flow_loss(batch.latents, sigma, captions, rng, mask)
