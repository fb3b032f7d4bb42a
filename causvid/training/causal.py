"""A causal student before distribution matching: flow matching, then consistency.

`CausalStage` goes on with the teacher's weights under the block-causal mask. Each chunk is learned
from the clean ones before it, which is what the cache holds at inference (teacher forcing; Causal
Forcing, arXiv 2602.02214), or with every chunk at a noise level of its own (Diffusion Forcing,
arXiv 2407.01392; CausVid, arXiv 2412.07772, section 4.1).

`ConsistencyStage` makes a few-step student of that model without trajectories on disk: one step of
the causal teacher leads from a level to the next lower one, and the student's prediction here is to
be its averaged prediction there (Causal-Forcing++, arXiv 2605.15141).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from causvid.generation.config import GenerationConfig
from causvid.generation.generator import seeded
from causvid.generation.schedule import FlowSchedule, add_noise, clean_from_velocity
from causvid.model.attention import block_causal_mask, teacher_forcing_mask
from causvid.training.config import CausalConfig, ConsistencyConfig
from causvid.training.data import LatentCache
from causvid.training.losses import guided, per_frame, regression_loss
from causvid.training.model_stage import CaptionedStage
from causvid.training.noise import normal
from causvid.training.ode import teacher_grid
from causvid.training.precision import use_training_attention
from causvid.training.teacher import FlowStage
from causvid.training.teacher_model import Conditioning

_REMAKE_LEVELS = (0.3, 0.9)
"""From where a past is denoised again: so far up that it is the model's, not so far that it is
another."""


@dataclass(frozen=True)
class Lesson:
    """Clips as chunks, of which the last ones are made, each from the clean ones before it.

    Attributes:
        clean: `[b, f, c, h, w]`.
        captions: one a clip.
        sizes: latent frames of the chunks, f together.
        given: chunks at the start that are given only.
        late: bool `[b]`, clips whose scene had begun before: their first chunk is given, too. It is
            what a picture to go on from looks like, not what a prompt should start with.
        past: what is shown of the chunks before the last one, `[b, p, c, h, w]`.
    """

    clean: Tensor
    captions: list[str]
    sizes: tuple[int, ...]
    given: int
    late: Tensor
    past: Tensor

    @property
    def made(self) -> Tensor:
        """The chunks that are made, `[b, m, c, h, w]`."""
        return self.clean[:, sum(self.sizes[: self.given]) :]

    def per_chunk(self, draw: Callable[[tuple[int, int]], Tensor]) -> Tensor:
        """A number for every chunk that is made, repeated for its frames `[b, m]`.

        Args:
            draw: shape `(b, chunks)` → numbers.
        """
        sizes = torch.tensor(self.sizes[self.given :])
        return draw((len(self.clean), len(sizes))).repeat_interleave(sizes, dim=1)

    def only_given(self) -> Tensor:
        """bool `[b, m]`, the frames that are shown clean and not learned."""
        given = torch.zeros(self.made.shape[:2], dtype=torch.bool)
        if self.given == 0:
            given[:, : self.sizes[0]] = self.late[:, None]
        return given

    def velocity(self, model: nn.Module, noisy: Tensor, times: Tensor, *words: Tensor) -> Tensor:
        """What a model predicts of the chunks that are made, `[b, m, c, h, w]`.

        Args:
            noisy: these chunks; times: their levels `[b, m]`.
        """
        past = self.past.to(noisy)
        frames = torch.arange(self.clean.shape[1], device=noisy.device)
        shown: Tensor = model(
            torch.cat([past, noisy], dim=1),
            torch.cat([times.new_zeros(past.shape[:2]), times], dim=1),
            *words,
            frame_mask=teacher_forcing_mask(self.sizes, given=self.given),
            positions=torch.cat([frames[: past.shape[1]], frames[-noisy.shape[1] :]]),
        )
        return shown[:, past.shape[1] :]


def draw_lesson(
    data: LatentCache,
    generation: GenerationConfig,
    key: tuple[int, ...],
    *,
    frames: int,
    size: int,
    rolling: bool,
    past_noise: float,
) -> Lesson:
    """Clips for a lesson, which depend on `key` and the opened shards alone.

    Args:
        frames: latent frames of a clip.
        past_noise: standard deviation of the noise on the past.
        rolling: whether clips are what a stream sees later on, the first picture of a scene and
            then frames from anywhere: the last chunk alone is made. Others are beginnings.
    """
    chunks = generation.chunks
    if rolling:
        batch = data.batch(key, frames=frames, size=size, begin="sink", last=chunks.rest)
        sizes = chunks.runs(frames)
        given = len(sizes) - 1
    else:
        batch = data.batch(key, frames=frames, size=size, begin="picture")
        sizes, given = chunks.sizes(frames), 0
    past = batch.latents[:, : sum(sizes[:-1])]
    if past_noise:
        past = past + past_noise * normal(past.shape, seeded(*key, 1), past.device)
    return Lesson(batch.latents, batch.captions, sizes, given, batch.late, past)


def is_rolling(generation: GenerationConfig, step: int) -> bool:
    """Whether a step is about windows that have rolled: every other one, where there is a sink."""
    return generation.sink > 0 and step % 2 == 1


class CausalStage(FlowStage[CausalConfig]):
    """Causal flow matching.

    Windows start at a picture: a student's first chunk is always the start of a video, and the
    chunks after it know from their past where they are.
    """

    def __init__(
        self,
        model: nn.Module,
        condition: Conditioning,
        data: LatentCache,
        config: CausalConfig,
        generation: GenerationConfig,
        *,
        seed: int = 0,
    ):
        super().__init__(model, condition, data, config, seed=seed)
        self.generation = generation

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        phase, schedule = self.phase_at(step), FlowSchedule(self.config.shift)
        clean_past = self.config.past == "clean"
        rolling = clean_past and is_rolling(self.generation, step)
        lesson = draw_lesson(
            self.data,
            self.generation,
            key,
            frames=phase.frames,
            size=phase.batch,
            rolling=rolling,
            past_noise=self.config.past_noise,
        )
        rng = seeded(*key)
        if self.config.past_remakes:
            lesson = replace(lesson, past=self.remade_past(lesson, rng))
        captions = self.with_dropout(lesson.captions, rng)
        sigma = schedule.shifted(lesson.per_chunk(lambda shape: torch.rand(shape, generator=rng)))
        given = lesson.only_given()
        if clean_past:
            sigma = sigma.masked_fill(given, 0.0)
            return self.flow_loss(lesson.made, sigma, captions, rng, lesson.velocity)
        drawn = lesson.per_chunk(lambda shape: torch.rand(shape, generator=rng))
        given |= drawn < self.config.clean_share
        given[:, -lesson.sizes[-1] :] &= ~given.all(1, keepdim=True)  # something is left to learn
        sigma = sigma.masked_fill(given, 0.0)
        mask = block_causal_mask(lesson.sizes)

        def velocity(model: nn.Module, noisy: Tensor, times: Tensor, *words: Tensor) -> Tensor:
            predicted: Tensor = model(noisy, times, *words, frame_mask=mask)
            return predicted

        return self.flow_loss(lesson.clean, sigma, captions, rng, velocity)

    @torch.no_grad()
    def remade_past(self, lesson: Lesson, rng: torch.Generator) -> Tensor:
        """The past of a lesson as the model makes it from its own past, once or several times over.

        Without words: a past may show another scene than the caption speaks of.
        """
        device = self.accelerator.device
        past = lesson.past.to(device)
        remakes = int(torch.randint(self.config.past_remakes + 1, (), generator=rng))
        if len(lesson.sizes) < 3:  # nothing but the first chunk
            return past
        first, before = lesson.sizes[0], sum(lesson.sizes[:-2])
        words = self.condition([""] * len(past), device)
        low, high = _REMAKE_LEVELS
        for _ in range(remakes):
            shown = replace(
                lesson, clean=past, sizes=lesson.sizes[:-1], given=1, past=past[:, :before]
            )
            level = low + (high - low) * torch.rand(len(past), 1, generator=rng)
            sigma = level.expand(shown.made.shape[:2]).to(device)
            noisy = add_noise(shown.made, normal(shown.made.shape, rng, device), per_frame(sigma))
            velocity = shown.velocity(self.model, noisy, sigma, *words).float()
            made = clean_from_velocity(noisy, velocity, per_frame(sigma))
            past = torch.cat([past[:, :first], made], dim=1)
        return past


class ConsistencyStage(CaptionedStage[ConsistencyConfig]):
    """Consistency distillation of a causal model, chunk by chunk from their clean past.

    Args:
        model: begins as `teacher`.
        teacher: the causal model whose flow is followed; frozen.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: nn.Module,
        condition: Conditioning,
        data: LatentCache,
        config: ConsistencyConfig,
        generation: GenerationConfig,
        *,
        seed: int = 0,
    ):
        super().__init__(model, condition, data, config, seed=seed)
        self.teacher = teacher.requires_grad_(False).eval()
        self.generation = generation
        self.sigmas = teacher_grid(generation, config.levels)[0]

    def prepare(self, accelerator: Accelerator) -> None:
        super().prepare(accelerator)
        self.teacher.to(accelerator.device)
        use_training_attention(self.teacher, accelerator.device, accelerator.mixed_precision)

    def loss(self, step: int, key: tuple[int, ...]) -> Tensor:
        config, device = self.config, self.accelerator.device
        lesson = draw_lesson(
            self.data,
            self.generation,
            key,
            frames=self.generation.window,
            size=config.batch,
            rolling=is_rolling(self.generation, step),
            past_noise=config.past_noise,
        )
        rng = seeded(*key)
        row = lesson.per_chunk(lambda shape: torch.randint(config.levels, shape, generator=rng))
        high, low = (self.sigmas[rows].to(device) for rows in (row, row + 1))
        clean = lesson.made.to(device)
        noise = normal(clean.shape, rng, device)
        noisy = add_noise(clean, noise, per_frame(high))
        words = self.condition(lesson.captions, device)
        with torch.no_grad(), self.accelerator.autocast():
            velocity = lesson.velocity(self.teacher, noisy, high, *words).float()
            if config.guidance != 1:
                empty = self.condition([""] * len(clean), device)
                other = lesson.velocity(self.teacher, noisy, high, *empty).float()
                velocity = guided(velocity, other, config.guidance)
            lower = noisy + per_frame(low - high) * velocity
            with self.ema.applied():
                velocity = lesson.velocity(self.model, lower, low, *words).float()
            target = clean_from_velocity(lower, velocity, per_frame(low))
        velocity = lesson.velocity(self.model, noisy, high, *words).float()
        predicted = clean_from_velocity(noisy, velocity, per_frame(high))
        learned = high.masked_fill(lesson.only_given().to(device), 0.0)
        return regression_loss(predicted, target, learned)
