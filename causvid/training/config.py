"""The settings of every stage, as data. Loads no torch: the command line lists them at once.

Docstrings describe the fields; `python -m causvid train STAGE --help` shows those texts.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from causvid.generation.cues import Handover
from causvid.generation.geometry import Size

StudentInput = Literal["rollout", "data"]
TeacherKind = Literal["bidirectional", "causal"]
WorldName = Literal["diorama", "wide"]
Past = Literal["clean", "noisy"]


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW or Muon with a linear warm-up and decay, and an average of the weights.

    Args:
        learning_rate: its highest value.
        warmup_steps: steps of the linear rise.
        decay_share: share of all steps, at the end, of the linear fall to zero.
        weight_decay: decoupled.
        betas: AdamW's.
        clip_norm: largest norm of the gradient.
        ema_decay: limit of the averaging decay, which grows as 1 - 3 / (step + 3).
        accumulation: micro-batches in a step, on every process.
        muon: whether the matrices of layers learn by Muon; `betas` are then of all else.
    """

    learning_rate: float
    warmup_steps: int = 50
    decay_share: float = 0.33
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    accumulation: int = 1
    muon: bool = False

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate of a step out of `steps`."""
        rise = (step + 1) / max(1, self.warmup_steps)
        fall = (steps - step) / max(1.0, steps * self.decay_share)
        return self.learning_rate * min(1.0, rise, fall)


@dataclass(frozen=True)
class CodecConfig:
    """The closed-form fit of the pocket codec, and the convolutions that are trained on top.

    Args:
        clips: clips drawn for the fit.
        frames: pixel frames of each, 1 + 4 k.
        latent_noise: standard deviation of noise on the normalised latents that the decoder is
            fitted to (`codec.fit_decoder`).
        latent_channels: channels of a latent.
        patch_size: pixels that one step of the network folds into channels.
        space_scales: further spatial strides.
        time_scales: frames that are made of one at each of them, 4 in all.
        shortcut_latents: latents that the linear decoder sees.
        shortcut_rank: its rank; 0 for full.
        motion: whether two channels hold how a picture moves, and the others what it is then.
        decoder_channels: widths of the convolutional decoder.
        decoder_blocks: its blocks at each scale.
        decoder_gain: scale of its last layer.
        leak: slope of its nonlinearity below zero.
    """

    clips: int = 300
    frames: int = 17
    latent_noise: float = 0.25
    latent_channels: int = 64
    patch_size: int = 2
    space_scales: tuple[int, ...] = (2, 2, 2)
    time_scales: tuple[int, ...] = (1, 2, 2)
    shortcut_latents: int = 2
    shortcut_rank: int = 192
    motion: bool = False
    decoder_channels: tuple[int, ...] = (128, 96, 64, 32)
    decoder_blocks: tuple[int, ...] = (2, 2, 1)
    decoder_gain: float = 0.03
    leak: float = 0.1

    @property
    def spatial_stride(self) -> int:
        return self.patch_size * math.prod(self.space_scales)


@dataclass(frozen=True)
class DecoderConfig:
    """The decoder stage.

    Args:
        optimiser: of the convolutions and the linear decoder.
        steps: updates.
        pool: clips drawn at once.
        pool_steps: steps that live on a pool.
        clips: clips per step.
        frames: pixel frames of each, 1 + 4 k; with no more than two latents the memory would never
            see what it holds in the middle of a stream.
        crop: height and width seen of each clip, multiples of the spatial stride.
        latent_noise: greatest standard deviation of noise on normalised latents, each clip draws
            its own. A diffusion model's latents are never exact; a decoder that has learned to see
            through noise shows less flicker and fewer seams.
        remade_share: share of clips decoded from a student's remakes, with its errors in place of
            noise (with --student).
        remake_batch: clips that the student remakes at once.
        shortcut_scale: learning rate of the linear decoder over that of the convolutions. Least
            squares rings around everything it cannot draw.
        absolute: weight of the mean absolute error.
        square: weight of the mean square error.
        gradient: weight of the error of gradients in space.
        change: weight of the error of changes in time.
        border: of gradients across the borders of latent cells, beside 1 for all others.
    """

    optimiser: OptimiserConfig
    steps: int = 16_000
    pool: int = 400
    pool_steps: int = 500
    clips: int = 2
    frames: int = 13
    crop: tuple[int, int] = (128, 80)
    latent_noise: float = 0.3
    remade_share: float = 0.4
    remake_batch: int = 8
    shortcut_scale: float = 0.3
    absolute: float = 1.0
    square: float = 40.0
    gradient: float = 3.0
    change: float = 2.0
    border: float = 6.0


@dataclass(frozen=True)
class WorldConfig:
    """What the rendered clips of a world show.

    Args:
        name: the diorama, or the wide world.
        captions: different captions stored with each clip.
        late_share: share of clips that begin when their scene has lasted for a while: a stream
            goes on where a clip ends.
        late_seconds: how long at most.
        turned_share: share of clips that change to a related scene, of which their captions
            speak, as a viewer changes a prompt.
        lost_share: share of the diorama's clips whose object comes into the picture on the way. In
            that world none is ever lost, but a stream may lose one.
        turn: index of the first latent that shows the other scene, or the object.
    """

    name: WorldName = "diorama"
    captions: int = 8
    late_share: float = 0.5
    late_seconds: float = 10.0
    turned_share: float = 0.4
    lost_share: float = 0.1
    turn: int = 5


@dataclass(frozen=True)
class DataConfig:
    """Shards of captioned, encoded clips.

    Args:
        clips: clips in a shard (of videos: videos).
        latents: latent frames of a clip.
        world: what is rendered where no videos are given.
        more_sizes: of pictures beside the recipe's own, WIDTHxHEIGHT; shards are of each in turn.
    """

    clips: int = 250
    latents: int = 9
    world: WorldConfig | None = None
    more_sizes: tuple[Size, ...] = ()


@dataclass(frozen=True)
class Phase:
    """A stretch of training on windows of one length, written FRAMESxBATCHxSTEPS."""

    frames: int
    batch: int
    steps: int

    @classmethod
    def parse(cls, text: str) -> "Phase":
        """
        Raises:
            ValueError: unless it is of the form 7x6x4000.
        """
        try:
            return cls(*map(int, text.split("x")))
        except (TypeError, ValueError):
            raise ValueError(f"{text!r} is not FRAMESxBATCHxSTEPS such as 7x6x4000") from None

    def __str__(self) -> str:
        return f"{self.frames}x{self.batch}x{self.steps}"


@dataclass(frozen=True)
class FlowConfig:
    """A flow-matching stage.

    Args:
        phases: windows of growing length: latent frames, clips per process, steps.
        optimiser: of the transformer (and of the text encoder where it is trained).
        shift: of the sampled noise levels; more than 1 favours high noise.
        caption_dropout: share of empty captions, for classifier-free guidance.
        flicker_weight: of the error's change from frame to frame, beside the flow-matching loss.
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


@dataclass(frozen=True)
class CausalConfig(FlowConfig):
    """Causal flow matching.

    Args:
        past: what a chunk sees of those before it: the `clean` ones, as at inference, or `noisy`
            ones at levels of their own, as in the CausVid paper.
        clean_share: how often such a chunk of the past is clean.
        past_noise: standard deviation of noise on a clean past. A student's own past is never
            exact; one that has learned from exact pasts alone adds error to error.
        past_remakes: how often, at most, the model itself makes a clean past again, all but its
            first chunk: noised part of the way and denoised. Those are its own errors, and what
            they grow to (Resampling Forcing, arXiv 2512.15702).
    """

    past: Past = "clean"
    clean_share: float = 0.3
    past_noise: float = 0.0
    past_remakes: int = 0

    def __post_init__(self):
        for name in ("past_noise", "past_remakes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is 0 or more, got {getattr(self, name)}")
        if self.past_remakes and self.past != "clean":
            raise ValueError("past_remakes are of a clean past: ask for --past clean")
        if self.past not in get_args(Past):
            raise ValueError(f"past is 'clean' or 'noisy', got {self.past!r}")


@dataclass(frozen=True)
class ConsistencyConfig:
    """Consistency distillation of the causal model.

    Args:
        optimiser: of the student; its average is what the student is to agree with.
        steps: updates.
        batch: clips per process.
        levels: steps of the causal teacher from noise to a clip; the student's levels must be
            among them.
        guidance: of the teacher, 1 for none.
        past_noise: as of the causal stage.
    """

    optimiser: OptimiserConfig
    steps: int
    batch: int
    levels: int = 48
    guidance: float = 1.0
    past_noise: float = 0.0


@dataclass(frozen=True)
class TrajectoryConfig:
    """The teacher's trajectories from noise.

    Args:
        frames: latent frames of a clip.
        steps: Euler steps; the student's levels must be among them.
        guidance: of the teacher, 1 for none.
        batch: clips integrated together.
        count: clips in a shard.
    """

    frames: int = 7
    steps: int = 12
    guidance: float = 2.0
    batch: int = 8
    count: int = 64


@dataclass(frozen=True)
class OdeConfig:
    """Causal regression on trajectories.

    Args:
        optimiser: of the student.
        steps: updates.
        batch: trajectories per process.
        first_given: whether the first chunk is always shown clean, and not learned. A teacher
            whose windows may begin in the middle of a video has trajectories that do, too; a
            student's videos begin at their beginning, which the causal stage has taught it.
    """

    optimiser: OptimiserConfig
    steps: int
    batch: int
    first_given: bool = False


@dataclass(frozen=True)
class Lessons:
    """Batches of teacher forcing.

    Args:
        batch: full windows per process; beginnings that fill no window are as many.
        first_weight: weight of the regression of a stream's first chunk on the earlier student's.
        first_batch: first chunks per process.
    """

    batch: int = 6
    first_weight: float = 2.0
    first_batch: int = 16


@dataclass(frozen=True)
class ForcingConfig:
    """Teacher forcing.

    Args:
        optimiser: of the student.
        steps: updates.
        lessons: what a step is made of.
    """

    optimiser: OptimiserConfig
    steps: int
    lessons: Lessons = field(default_factory=Lessons)


@dataclass(frozen=True)
class DmdConfig:
    """Distribution matching.

    Args:
        student_optimiser: of the student.
        critic_optimiser: of the critic.
        steps: student updates, each followed by those of the critic.
        batch: videos per process.
        window: latent frames that teacher and critic judge: the last ones of a rollout.
        rollout_chunks: lengths of rollouts, drawn with equal chance. Longer ones than the window
            teach the student to live on its own past (sliding supervision).
        critic_updates: critic updates per step.
        guidance: the teacher's, 1 for none.
        score_shift: shift of the levels at which scores are compared.
        flicker_weight: of changes from frame to frame in the critic's error and in the student's
            gradient; 0 is distribution matching as published.
        teacher_forcing_weight: of teacher forcing on real clips; 0 is distribution matching alone.
        lessons: its batches.
        image_share: share of rollouts whose first chunk is given (image-to-video).
        switch_share: share of rollouts whose prompt changes on the way; judged are the chunks under
            nothing but the new prompt (LongLive, arXiv 2509.22622, section 3.3).
        handovers: how prompts change, drawn with equal chance.
        student_input: the student's own rollouts, or noisy clips as in the CausVid paper.
        teacher: whether teacher and critic see all frames of what they judge, or each chunk only
            its past; the causal teacher is the one that the stage `causal` has left.
    """

    student_optimiser: OptimiserConfig
    critic_optimiser: OptimiserConfig
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
        if self.teacher not in get_args(TeacherKind):
            raise ValueError(f"teacher is 'bidirectional' or 'causal', got {self.teacher!r}")
        if self.student_input not in get_args(StudentInput):
            raise ValueError(f"student_input is 'rollout' or 'data', got {self.student_input!r}")
        if self.teacher_forcing_weight < 0:
            raise ValueError(
                f"teacher_forcing_weight is 0 or more, got {self.teacher_forcing_weight}"
            )
        if self.critic_updates < 1 or not self.rollout_chunks:
            raise ValueError("distribution matching needs critic updates and rollout lengths")

    @property
    def needs_clips(self) -> bool:
        """Whether real clips are drawn, and not captions alone."""
        return bool(self.student_input == "data" or self.image_share or self.teacher_forcing_weight)


@dataclass(frozen=True)
class JudgeConfig:
    """The judge of the pocket world.

    Args:
        optimiser: of the classifier.
        steps: updates.
        pool: clips drawn at once.
        pool_steps: steps that live on a pool.
        batch: clips per step.
        tempo: the clock's rate varies by up to this share.
        blur: largest standard deviation of the blur, in pixels at the judge's size.
        noise: largest standard deviation of noise per pixel.
        cell_noise: largest standard deviation of noise per coarse cell.
        tone: largest change of brightness, of contrast and of each colour channel.
    """

    optimiser: OptimiserConfig
    steps: int = 3_600
    pool: int = 512
    pool_steps: int = 64
    batch: int = 32
    tempo: float = 0.15
    blur: float = 1.6
    noise: float = 0.12
    cell_noise: float = 0.08
    tone: float = 0.12


@dataclass(frozen=True)
class SegmenterConfig:
    """The segmenter of the wide world.

    Args:
        optimiser: of the network.
        steps: updates.
        pool: scenes drawn at once, three pictures of each.
        pool_steps: steps that live on a pool.
        batch: pictures per step.
        count_weight: of the loss of the counts, beside that of the masks.
        blur: largest share of a blur over three pixels.
        noise: largest standard deviation of noise per pixel.
        cell_noise: largest standard deviation of noise per coarse cell.
        tone: largest change of contrast and of each colour channel.
    """

    optimiser: OptimiserConfig
    steps: int = 20_000
    pool: int = 160
    pool_steps: int = 80
    batch: int = 16
    count_weight: float = 0.5
    blur: float = 1.0
    noise: float = 0.1
    cell_noise: float = 0.08
    tone: float = 0.12
