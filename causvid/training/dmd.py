"""Asymmetric distribution matching: a causal few-step student, a bidirectional teacher.

The student makes videos; teacher and critic both judge a noisy copy of them; the student moves
from where the critic sees it towards where the teacher would have it, and the critic keeps
learning what the student makes (DMD2, arXiv 2405.14867; asymmetric, CausVid, arXiv 2412.07772,
section 4.3). By default the student is shown its own past through the real cache (Self-Forcing,
arXiv 2506.08009); `student_input="data"` is the paper's way, noisy chunks of real clips.

Beside it the student may go on learning from real clips how motions continue, which distribution
matching does not teach (`causvid.training.forcing`).
"""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from causvid.generation.cues import Handover
from causvid.generation.generator import Generator
from causvid.generation.schedule import add_noise, clean_from_velocity
from causvid.model.attention import block_causal_mask
from causvid.model.transformer import CausalWanTransformer
from causvid.training.data import Batch, LatentCache
from causvid.training.forcing import Lessons, Velocity, last_chunks_mask
from causvid.training.losses import (
    distribution_matching_gradient,
    distribution_matching_loss,
    flicker_loss,
    flow_matching_loss,
    from_data,
    guided,
    in_flicker_metric,
    per_frame,
    same_within_chunks,
    score_timesteps,
)
from causvid.training.ode import student_times
from causvid.training.precision import training_attention
from causvid.training.prompted import PromptedTransformer, tokenise
from causvid.training.rollout import RolloutPlan, Switch, roll_out
from causvid.training.stage import OptimiserConfig, averaged, seeded
from causvid.training.trainer import Metrics

StudentInput = Literal["rollout", "data"]
TeacherKind = Literal["bidirectional", "causal"]


@dataclass(frozen=True)
class DmdConfig:
    """Settings of distribution matching.

    Args:
        student, critic: their optimisers.
        steps: student updates; each is followed by `critic_updates` of the critic.
        window: latent frames that teacher and critic judge: the last ones of a rollout.
        rollout_chunks: lengths of rollouts, drawn with equal chance. Longer ones than the window
            teach the student to live on its own past (sliding supervision).
        guidance: the teacher's, in the usual scale, 1 for none.
        score_shift: shift of the levels at which scores are compared.
        flicker_weight: of changes from frame to frame in the critic's error and in the student's
            gradient (see `flicker_loss`); 0 is distribution matching as published.
        teacher_forcing_weight, lessons: of teacher forcing, and what it asks for; 0 is distribution
            matching as published.
        image_share: share of rollouts whose first chunk is given (image-to-video).
        switch_share: share of rollouts whose words change on the way; what follows is judged,
            from the first chunk under nothing but the new words (LongLive, arXiv 2509.22622,
            section 3.3).
        handovers: how they change, drawn with equal chance.
        student_input: its own rollouts, or noisy data.
        teacher: whether teacher and critic see all frames of what they judge, or each chunk only
            its past (the symmetric set-up that the paper compares with, section 5.3).
    """

    student: OptimiserConfig
    critic: OptimiserConfig
    steps: int
    batch: int
    window: int = 7
    rollout_chunks: tuple[int, ...] = (3, 4, 5)
    critic_updates: int = 3
    guidance: float = 2.0
    score_shift: float = 3.0
    flicker_weight: float = 0.0
    teacher_forcing_weight: float = 0.0
    lessons: Lessons = field(default_factory=Lessons)
    image_share: float = 0.2
    switch_share: float = 0.25
    handovers: tuple[Handover, ...] = (
        Handover("swap"),
        Handover("recache"),
        Handover("flush"),
        Handover("blend", 1),
    )
    student_input: StudentInput = "rollout"
    teacher: TeacherKind = "bidirectional"

    def __post_init__(self):
        if self.teacher not in ("bidirectional", "causal"):
            raise ValueError(f"teacher is 'bidirectional' or 'causal', got {self.teacher!r}")
        if self.student_input not in ("rollout", "data"):
            raise ValueError(f"student_input is 'rollout' or 'data', got {self.student_input!r}")
        if self.teacher_forcing_weight < 0:
            raise ValueError(
                f"teacher_forcing_weight is 0 or more, got {self.teacher_forcing_weight}"
            )
        if self.critic_updates < 1 or not self.rollout_chunks:
            raise ValueError("distribution matching needs critic updates and rollout lengths")


class DmdStage:
    """Student and critic in turns. `ema` holds the student's weights to keep.

    Args:
        generator: holds the student, and how it generates.
        teacher: frozen; its text encoder serves all three models.
        critic: starts as a copy of the teacher's transformer.
        data: captions, first frames, and clips for `student_input="data"`.
        known: the student before, or another whose first chunks are kept by teacher forcing; not
            needed without it.
    """

    def __init__(
        self,
        generator: Generator,
        teacher: PromptedTransformer,
        critic: CausalWanTransformer,
        tokenizer: PreTrainedTokenizerBase,
        data: LatentCache,
        config: DmdConfig,
        *,
        known: CausalWanTransformer | None = None,
        seed: int = 0,
    ):
        if known is None and config.teacher_forcing_weight and config.lessons.first_weight:
            raise ValueError("teacher forcing keeps first chunks: it needs the student before")
        self.known = None if known is None else known.requires_grad_(False).eval()
        self.generator = generator
        self.student: nn.Module = generator.transformer
        self.teacher = teacher.requires_grad_(False).eval()
        self.critic: nn.Module = critic
        self.tokenizer = tokenizer
        self.data = data
        self.config = config
        self.steps = config.steps
        self.seed = seed
        self.length = teacher.transformer.config.text_length
        self.student_optimiser = config.student.optimiser(self.student)
        self.critic_optimiser = config.critic.optimiser(critic)

    def prepare(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        # One by one: of those prepared together, only one would be sharded.
        self.student, self.student_optimiser = accelerator.prepare(
            self.student, self.student_optimiser
        )
        self.critic, self.critic_optimiser = accelerator.prepare(self.critic, self.critic_optimiser)
        # The rollout needs the module itself, not a wrapper that knows only `forward`.
        self.generator = replace(self.generator, transformer=accelerator.unwrap_model(self.student))
        for frozen in (self.teacher, self.known):
            if frozen is not None:
                frozen.to(accelerator.device)
        self.ema = self.config.student.average(self.student)
        accelerator.register_for_checkpointing(self.ema, self.data)

    def save_average(self, folder: Path) -> None:
        """The student in the teacher's layout, with the teacher's text encoder."""
        model = PromptedTransformer(self.generator.transformer, self.teacher.text_encoder)
        with averaged(self.ema, self.student):
            state = self.accelerator.get_state_dict(self.student)
            if self.accelerator.is_main_process:
                words = self.teacher.text_encoder.state_dict()
                model.save(
                    folder, {**_under("transformer", state), **_under("text_encoder", words)}
                )

    def refresh(self) -> None:
        self.data.open()

    def update(self, step: int) -> Metrics:
        config, accelerator = self.config, self.accelerator
        for optimiser, settings in (
            (self.student_optimiser, config.student),
            (self.critic_optimiser, config.critic),
        ):
            for group in optimiser.param_groups:
                group["lr"] = settings.rate_at(step, self.steps)
        key = (self.seed, step, accelerator.process_index)
        draw = seeded(*key)
        given = bool(torch.rand((), generator=draw) < config.image_share)
        switched = bool(torch.rand((), generator=draw) < config.switch_share)
        begin = "picture" if given else "anywhere"
        batch = self.data.batch(key, frames=config.window, size=config.batch, begin=begin)
        text, empty = self._embed(batch.captions), self._embed([""] * config.batch)
        following = None
        if switched and config.student_input == "rollout":
            others = self.data.batch((*key, 1), frames=1, size=config.batch)
            following = self._embed(others.captions)

        # No autocast around the whole rollout: it caches lowered weights, and those that a pass
        # without gradients has cached would cut off the gradients of the next one. Every forward
        # pass has its own.
        with self._attention():
            generated = self._generate(batch, text, following, draw, given)
        text = text if following is None else following
        loss, gradient = self.student_loss(generated, text, empty, draw)
        accelerator.backward(loss)
        forcing: Metrics = {}
        if config.teacher_forcing_weight:
            forced = self.teacher_forcing_loss((*key, 2), draw)
            accelerator.backward(config.teacher_forcing_weight * forced)
            forcing["teacher_forcing_loss"] = forced.item()
        self._share_gradients()
        norm = accelerator.clip_grad_norm_(self.student.parameters(), config.student.clip_norm)
        self.student_optimiser.step()
        self.student_optimiser.zero_grad()
        self.ema.step(self.student.parameters())

        generated = generated.detach()
        critic_loss = 0.0
        for _ in range(config.critic_updates):
            loss_critic = self.critic_loss(generated, text, draw)
            accelerator.backward(loss_critic)
            accelerator.clip_grad_norm_(self.critic.parameters(), config.critic.clip_norm)
            self.critic_optimiser.step()
            self.critic_optimiser.zero_grad()
            critic_loss += loss_critic.item() / config.critic_updates
        return {
            "loss": loss.item(),
            "gradient": gradient.abs().mean().item(),
            "grad_norm": float(norm),
            "critic_loss": critic_loss,
            "latent_std": generated.std().item(),
            **forcing,
        }

    def student_loss(
        self, generated: Tensor, text: Tensor, empty: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The loss, and the gradient that it carries to `generated`."""
        with torch.no_grad():
            noisy, times = self._renoised(generated.detach(), draw)[:2]
            fake = self._clean(self.critic, noisy, times, text)
            real = self._clean(self.teacher.transformer, noisy, times, text)
            if extra := self.config.guidance - 1:
                unconditional = self._clean(self.teacher.transformer, noisy, times, empty)
                real = guided(real, unconditional, extra)
            gradient = distribution_matching_gradient(generated.detach(), real, fake)
            gradient = in_flicker_metric(gradient, self.config.flicker_weight)
        return distribution_matching_loss(generated, gradient), gradient

    def critic_loss(self, generated: Tensor, text: Tensor, draw: torch.Generator) -> Tensor:
        """Flow matching on what the student makes."""
        noisy, times, noise = self._renoised(generated, draw)
        with self._attention():
            velocity = self.critic(noisy, times, text, frame_mask=self._judge_mask(generated))
        loss = flow_matching_loss(velocity, generated, noise)
        if self.config.flicker_weight:
            counted = torch.ones_like(times, dtype=torch.bool)
            flicker = flicker_loss(velocity, generated, noise, counted)
            loss = loss + self.config.flicker_weight * flicker
        return loss

    def teacher_forcing_loss(self, key: tuple[int, ...], draw: torch.Generator) -> Tensor:
        """Of a batch that depends on `key`, see `causvid.training.forcing`."""
        return self.config.lessons.loss(
            partial(self._told, self.student),
            partial(self._told, self.known),
            self.data,
            key,
            self.generator.config,
            draw,
            self.accelerator.device,
        )

    def _told(self, model: nn.Module, captions: list[str]) -> Velocity:
        text = self._embed(captions)

        def velocity(noisy: Tensor, times: Tensor, mask: Tensor) -> Tensor:
            with self._attention():
                return model(noisy, times, text, frame_mask=mask)

        return velocity

    def _generate(
        self,
        batch: Batch,
        text: Tensor,
        following: Tensor | None,
        draw: torch.Generator,
        given: bool,
    ) -> Tensor:
        """The student's clean prediction `[b, f, c, h, w]` of what is judged, differentiable.

        `given`: whether a rollout's first chunk is the batch's, as in image-to-video.
        `following`: the embeddings to which the words change on the way.
        """
        if self.config.student_input == "data":
            return self._from_data(batch, text, draw)
        config, pattern = self.config, self.generator.config.chunks
        chunks = config.rollout_chunks[_draw(len(config.rollout_chunks), draw)]
        switch = None
        if following is None:
            start = pattern.start(chunks) - config.window
            if start < 0:
                raise ValueError(
                    f"a rollout of {chunks} chunks has {pattern.start(chunks)} latent frames, "
                    f"fewer than the window of {config.window} that is judged"
                )
        else:
            # As many chunks under the new words as the judged window holds, all of them live.
            after = max(1, config.window // pattern.rest)
            handover = config.handovers[_draw(len(config.handovers), draw)]
            switch = Switch(max(1, chunks - after), handover)
            pure = switch.chunk + handover.chunks
            chunks = pure + after
            start = pattern.start(pure)
        live = sum(pattern.start(chunk) >= start for chunk in range(chunks))
        exit_step = _draw(len(self.generator.config.timesteps), draw)
        device = self.accelerator.device

        def noise(chunk: int, step: int, shape: tuple[int, ...]) -> Tensor:
            return torch.randn(shape, generator=draw).to(device)

        made = roll_out(
            self.generator,
            text,
            RolloutPlan(chunks, live, exit_step, switch),
            noise,
            first=batch.latents[:, : pattern.first].to(device) if given else None,
            following=following,
        )
        return made[:, start:]

    def _from_data(self, batch: Batch, text: Tensor, draw: torch.Generator) -> Tensor:
        device, pattern = self.accelerator.device, self.generator.config.chunks
        clean = batch.latents
        times = torch.tensor(student_times(self.generator.config))
        drawn = torch.randint(len(times), clean.shape[:2], generator=draw)
        choice = same_within_chunks(drawn, pattern)
        noises = torch.randn((len(times), *clean.shape), generator=draw)
        noisy, sigma = from_data(clean, noises, times, choice)
        noisy, sigma = noisy.to(device), sigma.to(device)
        mask = block_causal_mask(pattern.sizes(clean.shape[1]))
        velocity = self.student(noisy, sigma, text, frame_mask=mask)
        return clean_from_velocity(noisy, velocity, per_frame(sigma))

    def _renoised(self, clean: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A noisy copy, its times `[b, f]` (one per clip), and the noise."""
        drawn = torch.randint(1000, clean.shape[:1], generator=draw)
        sigma = score_timesteps(drawn, self.config.score_shift) / 1000
        times = sigma[:, None].expand(clean.shape[:2]).to(clean.device)
        noise = torch.randn(clean.shape, generator=draw).to(clean.device)
        return add_noise(clean, noise, per_frame(times)), times, noise

    def _clean(self, model: nn.Module, noisy: Tensor, times: Tensor, text: Tensor) -> Tensor:
        with self.accelerator.autocast(), self._attention():
            velocity = model(noisy, times, text, frame_mask=self._judge_mask(noisy))
        return clean_from_velocity(noisy, velocity.float(), per_frame(times))

    def _judge_mask(self, judged: Tensor) -> Tensor | None:
        """Which frames teacher and critic see."""
        if self.config.teacher == "bidirectional":
            return None
        return last_chunks_mask(judged.shape[1], self.generator.config.chunks)

    @torch.no_grad()
    def _embed(self, captions: list[str]) -> Tensor:
        device = self.accelerator.device
        tokens = tokenise(self.tokenizer, captions, self.length)
        return self.teacher.embed(tokens.ids.to(device), tokens.mask.to(device))

    def _attention(self):
        return training_attention(self.accelerator.device, self.accelerator.mixed_precision)

    def _share_gradients(self) -> None:
        """Average over processes by hand: the rollout goes past the data-parallel wrapper."""
        if self.accelerator.num_processes == 1 or self.accelerator.is_fsdp2:
            return  # sharded modules share them by themselves
        for parameter in self.student.parameters():
            if parameter.grad is not None:
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")


def _under(part: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}.{name}": tensor for name, tensor in state.items()}


def _draw(options: int, draw: torch.Generator) -> int:
    return int(torch.randint(options, (), generator=draw))
