"""Asymmetric distribution matching: a causal few-step student, a bidirectional teacher.

The student makes videos; teacher and critic both judge a noisy copy of them; the student moves
from where the critic sees it towards where the teacher would have it, and the critic keeps
learning what the student makes (DMD2, arXiv 2405.14867; asymmetric, CausVid, arXiv 2412.07772,
section 4.3). By default the student is shown its own past through the real cache (Self-Forcing,
arXiv 2506.08009); `student_input="data"` is the paper's way, noisy chunks of real clips.

Beside it the student may go on learning from real clips how motions continue, which distribution
matching does not teach (`causvid.training.forcing`).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from causvid.generation.generator import Generator, seeded
from causvid.generation.geometry import LatentGrid
from causvid.generation.schedule import add_noise, clean_from_velocity
from causvid.model.attention import block_causal_mask
from causvid.model.transformer import CausalWanTransformer
from causvid.training.config import DmdConfig
from causvid.training.data import Begin, LatentCache, PromptFile
from causvid.training.forcing import TeacherForcing, last_chunks_mask
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
from causvid.training.model_stage import Average, descend, new_optimiser
from causvid.training.noise import normal
from causvid.training.ode import student_times
from causvid.training.precision import use_training_attention
from causvid.training.rollout import RolloutPlan, Switch, roll_out
from causvid.training.teacher_model import Conditioning, save_model
from causvid.training.trainer import Metrics


class DmdStage:
    """Student and critic in turns. `ema` holds the student's weights to keep.

    Args:
        generator: holds the student, and how it generates.
        teacher: frozen.
        critic: starts as a copy of the teacher.
        condition: how all three are given captions.
        data: captions; a `LatentCache` where clips are needed, too (`DmdConfig.needs_clips`).
        grids: sizes of rollouts from noise alone, drawn with equal chance; the generator's if none
            are given.
        earlier: see `TeacherForcing`; `None` without it.
    """

    def __init__(
        self,
        generator: Generator,
        teacher: CausalWanTransformer,
        critic: CausalWanTransformer,
        condition: Conditioning,
        data: LatentCache | PromptFile,
        config: DmdConfig,
        *,
        grids: Sequence[LatentGrid] = (),
        earlier: CausalWanTransformer | None = None,
        seed: int = 0,
    ):
        if config.needs_clips and not isinstance(data, LatentCache):
            raise ValueError(
                "these settings need clips, not prompts alone: leave out --prompts, or ask for "
                "--image-share 0 --teacher-forcing-weight 0 --student-input rollout"
            )
        self.forcing = None
        if config.teacher_forcing_weight and isinstance(data, LatentCache):
            shown = config.lessons, condition, data, generator.config
            self.forcing = TeacherForcing(*shown, earlier)
        self.generator = generator
        self.grids = list(grids) or [generator.grid]
        self.student: nn.Module = generator.transformer
        self.teacher = teacher.requires_grad_(False).eval()
        self.critic: nn.Module = critic
        self.condition = condition
        self.data = data
        self.config = config
        self.steps = config.steps
        self.seed = seed
        self.student_optimiser = new_optimiser(config.student_optimiser, self.student)
        self.critic_optimiser = new_optimiser(config.critic_optimiser, critic)

    def prepare(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        for model in (self.student, self.critic, self.teacher):
            use_training_attention(model, accelerator.device, accelerator.mixed_precision)
        # One by one: of those prepared together, only one would be sharded.
        self.student, self.student_optimiser = accelerator.prepare(
            self.student, self.student_optimiser
        )
        self.critic, self.critic_optimiser = accelerator.prepare(self.critic, self.critic_optimiser)
        # The rollout needs the module itself, not a wrapper that knows only `forward`.
        self.generator = replace(self.generator, transformer=accelerator.unwrap_model(self.student))
        self.teacher.to(accelerator.device)
        if self.forcing is not None:
            self.forcing.prepare(accelerator)
        self.ema = Average(self.student, self.config.student_optimiser.ema_decay)
        accelerator.register_for_checkpointing(self.ema, self.data)

    def save_average(self, folder: Path) -> None:
        with self.ema.applied():
            state = self.accelerator.get_state_dict(self.student)
            if self.accelerator.is_main_process:
                save_model(self.generator.transformer, state, folder)

    def refresh(self) -> None:
        self.data.open()

    def update(self, step: int) -> Metrics:
        config, accelerator = self.config, self.accelerator
        for optimiser, settings in (
            (self.student_optimiser, config.student_optimiser),
            (self.critic_optimiser, config.critic_optimiser),
        ):
            for group in optimiser.param_groups:
                group["lr"] = settings.rate_at(step, self.steps)
        key = (self.seed, step, accelerator.process_index)
        rng = seeded(*key)
        given = bool(torch.rand((), generator=rng) < config.image_share)
        switched = bool(torch.rand((), generator=rng) < config.switch_share)
        clips = None
        if (given or config.student_input == "data") and isinstance(self.data, LatentCache):
            begin: Begin = "picture" if given else "anywhere"
            batch = self.data.batch(key, frames=config.window, size=config.batch, begin=begin)
            clips, captions = batch.latents.to(accelerator.device), batch.captions
        else:
            captions = self.data.captions(key, config.batch)
        text, empty = self._embed(captions), self._embed([""] * config.batch)
        later_text = None
        if switched and config.student_input == "rollout":
            later_text = self._embed(self.data.captions((*key, 1), config.batch))

        # No autocast around the whole rollout: it caches lowered weights, and those that a pass
        # without gradients has cached would cut off the gradients of the next one. Every forward
        # pass has its own.
        generated = self._generate(clips, text, later_text, rng)
        text = text if later_text is None else later_text
        loss, gradient = self.student_loss(generated, text, empty, rng)
        accelerator.backward(loss)
        forcing: Metrics = {}
        if self.forcing is not None:
            forced = self.forcing.loss(self.student, (*key, 2), rng)
            accelerator.backward(config.teacher_forcing_weight * forced)
            forcing["teacher_forcing_loss"] = forced.detach()
        self._share_gradients()
        clip_norm = config.student_optimiser.clip_norm
        norm = descend(accelerator, self.student, self.student_optimiser, clip_norm)
        self.ema.step(self.ema.weights)

        generated = generated.detach()
        critic_loss = torch.zeros((), device=accelerator.device)
        for _ in range(config.critic_updates):
            loss_critic = self.critic_loss(generated, text, rng)
            accelerator.backward(loss_critic)
            clip_norm = config.critic_optimiser.clip_norm
            descend(accelerator, self.critic, self.critic_optimiser, clip_norm)
            critic_loss += loss_critic.detach() / config.critic_updates
        return {
            "loss": loss.detach(),
            "gradient": gradient.abs().mean(),
            "grad_norm": norm,
            "critic_loss": critic_loss,
            "latent_std": generated.std(),
            **forcing,
        }

    def student_loss(
        self, generated: Tensor, text: Tensor, empty: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The loss, and the gradient that it carries to `generated`."""
        with torch.no_grad():
            noisy, times = self._renoised(generated.detach(), rng)[:2]
            fake = self._clean(self.critic, noisy, times, text)
            real = self._clean(self.teacher, noisy, times, text)
            if self.config.guidance != 1:
                unconditional = self._clean(self.teacher, noisy, times, empty)
                real = guided(real, unconditional, self.config.guidance)
            gradient = distribution_matching_gradient(generated.detach(), real, fake)
            gradient = in_flicker_metric(gradient, self.config.flicker_weight)
        return distribution_matching_loss(generated, gradient), gradient

    def critic_loss(self, generated: Tensor, text: Tensor, rng: torch.Generator) -> Tensor:
        """Flow matching on what the student makes."""
        noisy, times, noise = self._renoised(generated, rng)
        velocity = self.critic(noisy, times, text, frame_mask=self._judge_mask(generated))
        loss = flow_matching_loss(velocity, generated, noise)
        if self.config.flicker_weight:
            counted = torch.ones_like(times, dtype=torch.bool)
            flicker = flicker_loss(velocity, generated, noise, counted)
            loss = loss + self.config.flicker_weight * flicker
        return loss

    def _generate(
        self, clips: Tensor | None, text: Tensor, later_text: Tensor | None, rng: torch.Generator
    ) -> Tensor:
        """The student's clean prediction `[b, f, c, h, w]` of what is judged, differentiable.

        Args:
            clips: real latents: what is noised, or the first chunks of image-to-video.
            later_text: the embeddings to which the prompt changes on the way.
        """
        if self.config.student_input == "data" and clips is not None:
            return self._from_data(clips, text, rng)
        config, pattern = self.config, self.generator.config.chunks
        chunks = config.rollout_chunks[_draw(len(config.rollout_chunks), rng)]
        switch = None
        if later_text is None:
            start = pattern.start(chunks) - config.window
            if start < 0:
                raise ValueError(
                    f"a rollout of {chunks} chunks has {pattern.start(chunks)} latent frames, "
                    f"fewer than the window of {config.window} that is judged"
                )
        else:
            # As many chunks under the new words as the judged window holds, all of them live.
            after = max(1, config.window // pattern.rest)
            handover = config.handovers[_draw(len(config.handovers), rng)]
            switch = Switch(max(1, chunks - after), handover)
            pure = switch.chunk + handover.chunks
            chunks = pure + after
            start = pattern.start(pure)
        live = sum(pattern.start(chunk) >= start for chunk in range(chunks))
        exit_step = _draw(len(self.generator.config.timesteps), rng)
        device = self.accelerator.device

        def noise(chunk: int, step: int, shape: tuple[int, ...]) -> Tensor:
            return normal(shape, rng, device)

        made = roll_out(
            replace(self.generator, grid=self._grid_of(clips, rng)),
            text,
            RolloutPlan(chunks, live, exit_step, switch),
            noise,
            first=None if clips is None else clips[:, : pattern.first],
            later_text=later_text,
        )
        return made[:, start:]

    def _grid_of(self, clips: Tensor | None, rng: torch.Generator) -> LatentGrid:
        """The size of a rollout: that of its clips, or any."""
        if clips is None:
            return self.grids[_draw(len(self.grids), rng) if len(self.grids) > 1 else 0]
        size = tuple(clips.shape[-2:])
        return next(g for g in self.grids if (g.latent_height, g.latent_width) == size)

    def _from_data(self, clean: Tensor, text: Tensor, rng: torch.Generator) -> Tensor:
        device, pattern = clean.device, self.generator.config.chunks
        times = torch.tensor(student_times(self.generator.config))
        drawn = torch.randint(len(times), clean.shape[:2], generator=rng)
        choice = same_within_chunks(drawn, pattern).to(device)
        noises = normal((len(times), *clean.shape), rng, device)
        noisy, sigma = from_data(clean, noises, times.to(device), choice)
        mask = block_causal_mask(pattern.sizes(clean.shape[1]))
        velocity = self.student(noisy, sigma, text, frame_mask=mask)
        return clean_from_velocity(noisy, velocity, per_frame(sigma))

    def _renoised(self, clean: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A noisy copy, its times `[b, f]` (one per clip), and the noise."""
        drawn = torch.randint(1000, clean.shape[:1], generator=rng)
        sigma = score_timesteps(drawn, self.config.score_shift) / 1000
        times = sigma[:, None].expand(clean.shape[:2]).to(clean.device)
        noise = normal(clean.shape, rng, clean.device)
        return add_noise(clean, noise, per_frame(times)), times, noise

    def _clean(self, model: nn.Module, noisy: Tensor, times: Tensor, text: Tensor) -> Tensor:
        with self.accelerator.autocast():
            velocity = model(noisy, times, text, frame_mask=self._judge_mask(noisy))
        return clean_from_velocity(noisy, velocity.float(), per_frame(times))

    def _judge_mask(self, judged: Tensor) -> Tensor | None:
        """Which frames teacher and critic see."""
        if self.config.teacher == "bidirectional":
            return None
        return last_chunks_mask(judged.shape[1], self.generator.config.chunks)

    def _embed(self, captions: list[str]) -> Tensor:
        (text,) = self.condition(captions, self.accelerator.device)
        return text

    def _share_gradients(self) -> None:
        """Average over processes by hand: the rollout goes past the data-parallel wrapper."""
        if self.accelerator.num_processes == 1 or self.accelerator.is_fsdp2:
            return  # sharded modules share them by themselves
        for parameter in self.student.parameters():
            if parameter.grad is not None:
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")


def _draw(options: int, rng: torch.Generator) -> int:
    return int(torch.randint(options, (), generator=rng))
