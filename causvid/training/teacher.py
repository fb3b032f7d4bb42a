"""Flow matching on cached latents: the teacher, and its causal heir.

`TeacherStage` trains a bidirectional text-to-video model, text encoder included. Images come
first, then ever longer clips: appearance is learned from single latents at a fraction of the cost
(measured: a clip of nine costs nine times as much and teaches it no faster).

`CausalStage` goes on with the teacher's weights under the block-causal mask, every chunk at a noise
level of its own (Diffusion Forcing, arXiv 2407.01392; CausVid, arXiv 2412.07772, section 4.1).
"""

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from causvid.generation.geometry import ChunkPattern
from causvid.generation.schedule import add_noise
from causvid.model.attention import block_causal_mask
from causvid.training.data import LatentCache
from causvid.training.losses import (
    flicker_loss,
    flow_matching_loss,
    per_frame,
    same_within_chunks,
)
from causvid.training.precision import training_attention
from causvid.training.prompted import PromptedTransformer, Tokens, tokenise
from causvid.training.stage import ModelStage, OptimiserConfig, seeded


@dataclass(frozen=True)
class Phase:
    """A stretch of training on windows of one length."""

    frames: int
    batch: int
    steps: int


@dataclass(frozen=True)
class FlowConfig:
    """Settings of a flow-matching stage.

    Args:
        phases: windows of growing length.
        shift: of the sampled noise levels; more than 1 favours high noise.
        caption_dropout: share of empty captions, for classifier-free guidance.
        flicker_weight: of `flicker_loss` beside the flow matching loss.
    """

    phases: tuple[Phase, ...]
    optimiser: OptimiserConfig
    shift: float = 3.0
    caption_dropout: float = 0.1
    flicker_weight: float = 0.0

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> Phase:
        for phase in self.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        return self.phases[-1]

    def shifted(self, u: Tensor) -> Tensor:
        return self.shift * u / (1 + (self.shift - 1) * u)


class TeacherStage(ModelStage):
    """Bidirectional flow matching: all frames of a clip at one level."""

    def __init__(
        self,
        model: PromptedTransformer,
        tokenizer: PreTrainedTokenizerBase,
        data: LatentCache,
        config: FlowConfig,
        *,
        seed: int = 0,
    ):
        super().__init__(model, config.optimiser, steps=config.steps, seed=seed)
        self.config = config
        self.tokenizer = tokenizer
        self.data = data
        self.length = model.transformer.config.text_length

    def prepare(self, accelerator: Accelerator) -> None:
        super().prepare(accelerator)
        accelerator.register_for_checkpointing(self.data)

    def refresh(self) -> None:
        self.data.open()

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        phase = self.config.phase_at(step)
        batch = self.data.batch(key, frames=phase.frames, size=phase.batch)
        generator = seeded(*key)
        tokens = self.tokens(batch.captions, generator)
        # One stratum of levels per sample: the same distribution, less noise in the gradient.
        u = (torch.arange(phase.batch) + torch.rand(phase.batch, generator=generator)) / phase.batch
        sigma = self.config.shifted(u)[:, None].expand(-1, phase.frames)
        return self.flow_loss(batch.latents, sigma, tokens, generator)

    def tokens(self, captions: list[str], generator: torch.Generator) -> Tokens:
        """Captions as tokens, some of them dropped."""
        dropped = torch.rand(len(captions), generator=generator) < self.config.caption_dropout
        kept = ["" if drop else text for text, drop in zip(captions, dropped, strict=True)]
        return tokenise(self.tokenizer, kept, self.length)

    def flow_loss(
        self,
        clean: Tensor,
        sigma: Tensor,
        tokens: Tokens,
        generator: torch.Generator,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """Loss at levels `sigma` `[b, f]`; frames given clean (level 0) do not count."""
        device = self.accelerator.device
        noise = torch.randn(clean.shape, generator=generator).to(device)
        clean, times = clean.to(device), sigma.to(device)
        noisy = add_noise(clean, noise, per_frame(times))
        with training_attention(device, self.accelerator.mixed_precision):
            velocity = self.model(
                noisy, times, tokens.ids.to(device), tokens.mask.to(device), frame_mask
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
        model: PromptedTransformer,
        tokenizer: PreTrainedTokenizerBase,
        data: LatentCache,
        config: FlowConfig,
        *,
        chunks: ChunkPattern,
        clean_share: float = 0.3,
        seed: int = 0,
    ):
        super().__init__(model, tokenizer, data, config, seed=seed)
        self.chunks = chunks
        self.clean_share = clean_share

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        phase = self.config.phase_at(step)
        batch = self.data.batch(key, frames=phase.frames, size=phase.batch, begin="picture")
        generator = seeded(*key)
        tokens = self.tokens(batch.captions, generator)
        shape = (phase.batch, phase.frames)
        u = same_within_chunks(torch.rand(shape, generator=generator), self.chunks)
        drawn = same_within_chunks(torch.rand(shape, generator=generator), self.chunks)
        given = drawn < self.clean_share
        given[:, : self.chunks.first] |= batch.late[:, None]
        last = self.chunks.start(self.chunks.chunk_of(phase.frames - 1))
        given[:, last:] &= ~given.all(1, keepdim=True)  # something is left to learn
        sigma = self.config.shifted(u).masked_fill(given, 0.0)
        mask = block_causal_mask(self.chunks.sizes(phase.frames))
        return self.flow_loss(batch.latents, sigma, tokens, generator, mask)
