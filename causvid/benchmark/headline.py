"""The gain of distillation and causality: the student as it streams, against its own teacher.

The teacher makes all frames of a clip at once, in many steps of two passes each, one of them for
guidance; nothing can be shown before it has finished. The student is timed as a viewer has it.
Both make a video of the same length, with the same codec, on the same device, in turns: the
teacher pauses and a whole stream is made, so that both suffer from what else the machine does.

The teacher's attention grows with the square of the clip's length, the student's stays that of its
window, so the ratios depend on the length. They are therefore taken twice: at the length asked for
(the paper compares ten seconds, arXiv 2412.07772, table 1), and at the length that the teacher was
trained on, its cheapest.
"""

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from causvid.benchmark.timing import Stopwatch
from causvid.generation.generator import seeded_noise
from causvid.generation.schedule import FlowSchedule
from causvid.generation.source import to_frames
from causvid.model.cache import TextCache
from causvid.model.cpu import is_lowered, lower_transformer, use_onednn
from causvid.model.transformer import CausalWanTransformer
from causvid.pipeline import CausVidPipeline
from causvid.presets.preset import Preset
from causvid.training.teacher_model import TeacherModel, integrate, tokenise

PROMPT = "a red balloon rises over the sea at sunset"


@dataclass(frozen=True)
class Seconds:
    """Where the time of one video goes. `other` is what lies between the parts."""

    text: float
    denoise: float
    decode: float
    other: float = 0.0

    @property
    def total(self) -> float:
        return self.text + self.denoise + self.decode + self.other


@dataclass(frozen=True)
class Side:
    """One model's video.

    Attributes:
        latent_frames, pixel_frames: its length.
        passes_per_frame: passes of the transformer in which a latent frame took part.
        first_picture: seconds from the call to the first picture on the host.
        seconds: of the whole video; of the student, those of its median run.
        cpu_seconds: the same, of all threads of this process.
        runs: how many times it was made.
    """

    latent_frames: int
    pixel_frames: int
    passes_per_frame: int
    first_picture: float
    seconds: Seconds
    cpu_seconds: float
    runs: int

    @property
    def frames_per_second(self) -> float:
        return self.pixel_frames / self.seconds.total

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        seconds = {**asdict(self.seconds), "total": self.seconds.total}
        return {**asdict(self), "seconds": seconds, "frames_per_second": self.frames_per_second}


@dataclass(frozen=True)
class Race:
    """Student and teacher over one length."""

    student: Side
    teacher: Side

    @property
    def throughput_ratio(self) -> float:
        """Pictures per second, of the whole call."""
        return self.student.frames_per_second / self.teacher.frames_per_second

    @property
    def latency_ratio(self) -> float:
        """Time to the first picture."""
        return self.teacher.first_picture / self.student.first_picture

    @property
    def cpu_ratio(self) -> float:
        """Processor time per picture: comparable where others use the machine, too."""
        teacher = self.teacher.cpu_seconds / self.teacher.pixel_frames
        return teacher / (self.student.cpu_seconds / self.student.pixel_frames)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "throughput_ratio": self.throughput_ratio,
            "latency_ratio": self.latency_ratio,
            "cpu_ratio": self.cpu_ratio,
            "student": self.student.to_dict(),
            "teacher": self.teacher.to_dict(),
        }


@dataclass(frozen=True)
class TeacherConfig:
    """How the teacher samples.

    Args:
        steps: Euler steps, evenly spaced before the shift.
        guidance: usual scale; its value does not matter for time, unless it is 1.
    """

    steps: int = 50
    guidance: float = 1.5

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"the teacher needs at least one step, got {self.steps}")

    @property
    def passes(self) -> int:
        return self.steps * (1 if self.guidance == 1 else 2)


def load_teacher(preset: Preset, pipe: CausVidPipeline) -> TeacherModel:
    """The teacher that a preset ships beside its student.

    Raises:
        ValueError: if it ships none.
    """
    folder = None if preset.folder is None else Path(preset.folder) / "teacher"
    if folder is None or not folder.is_dir():
        raise ValueError(
            f"{preset.name!r} ships no teacher to compare with: choose a model that has one, such "
            "as 'pocket'"
        )
    transformer = CausalWanTransformer.from_pretrained(folder, torch_dtype=pipe.transformer.dtype)
    transformer.to(pipe.transformer.device).eval()
    use_onednn(transformer)
    if is_lowered(pipe.transformer):
        lower_transformer(transformer)
    return TeacherModel(transformer, pipe.text_encoder)


def race(
    pipe: CausVidPipeline,
    teacher: TeacherModel,
    config: TeacherConfig,
    *,
    latent_frames: int,
    rounds: int = 5,
) -> Race:
    """Make the same length of video both ways.

    Args:
        latent_frames: the length; the student fills its last chunk.
        rounds: streams of the student, spread over the one run of the teacher.
    """
    rounds = min(rounds, config.steps)
    unseen = (f"{PROMPT}, take {number}" for number in itertools.count(1))
    _student(pipe, next(unseen), latent_frames=1)
    warm_up = TeacherConfig(steps=1, guidance=config.guidance)
    _Teacher(pipe, teacher, warm_up, latent_frames, next(unseen)).advance(1)

    clip = _Teacher(pipe, teacher, config, latent_frames, next(unseen))
    runs = []
    for turn in range(rounds):
        runs.append(_student(pipe, next(unseen), latent_frames))
        clip.advance((turn + 1) * config.steps // rounds)
    chosen = sorted(runs, key=lambda run: run.seconds.total)[len(runs) // 2]
    student = Side(
        latent_frames=chosen.latent_frames,
        pixel_frames=chosen.pixel_frames,
        passes_per_frame=chosen.passes_per_frame,
        first_picture=median(run.first_picture for run in runs),
        seconds=chosen.seconds,
        cpu_seconds=median(run.cpu_seconds for run in runs),
        runs=len(runs),
    )
    return Race(student, clip.finish())


def _student(pipe: CausVidPipeline, prompt: str, latent_frames: int) -> Side:
    config = pipe.generation
    chunks = config.chunks.covering(latent_frames)
    watch = Stopwatch(pipe.transformer.device)
    pictures, first_picture = 0, 0.0
    text = denoise = decode = 0.0
    with watch:
        seconds = pipe.generator().timeline.duration(chunks)
        with pipe.stream(prompt, seconds=seconds) as stream:
            for chunk in stream:
                first_picture = first_picture or watch.lap
                pictures += len(chunk.frames)
                text += chunk.timings.text
                denoise += chunk.timings.denoise
                decode += chunk.timings.decode
    return Side(
        latent_frames=config.chunks.start(chunks),
        pixel_frames=pictures,
        passes_per_frame=len(config.timesteps) + 1,  # the last one remembers the clean chunk
        first_picture=first_picture,
        seconds=Seconds(text, denoise, decode, watch.wall - text - denoise - decode),
        cpu_seconds=watch.cpu,
        runs=1,
    )


class _Teacher:
    """One clip of the teacher, made in as many stretches as one likes."""

    def __init__(
        self,
        pipe: CausVidPipeline,
        model: TeacherModel,
        config: TeacherConfig,
        latent_frames: int,
        prompt: str,
    ):
        self.pipe = pipe
        self.config = config
        self.latent_frames = latent_frames
        self._device = model.transformer.device
        self._text, self._denoise, self._decode = (Stopwatch(self._device) for _ in range(3))
        self._taken = 0
        self._clean: Tensor | None = None
        with self._text, torch.inference_mode():
            text = self._encode(model, prompt)
        self._states = self._integrate(model.transformer, text)

    def advance(self, steps: int) -> None:
        """Go on until `steps` steps are taken."""
        with self._denoise, torch.inference_mode():
            for _ in range(self._taken, steps):
                self._clean = next(self._states)
        self._taken = steps

    def finish(self) -> Side:
        """Decode the clip."""
        codec = self.pipe.codec()
        with self._decode, torch.inference_mode():
            frames = to_frames(codec.decode(self._clean, codec.start()))
        seconds = Seconds(self._text.wall, self._denoise.wall, self._decode.wall)
        return Side(
            latent_frames=self.latent_frames,
            pixel_frames=len(frames),
            passes_per_frame=self.config.passes,
            first_picture=seconds.total,
            seconds=seconds,
            cpu_seconds=self._text.cpu + self._denoise.cpu + self._decode.cpu,
            runs=1,
        )

    def _encode(self, model: TeacherModel, prompt: str) -> TextCache:
        prompts = [prompt] if self.config.guidance == 1 else [prompt, ""]
        tokens = tokenise(self.pipe.tokenizer, prompts, model.transformer.config.text_length)
        embeds = model.embed(tokens.ids.to(self._device), tokens.mask.to(self._device))
        return model.transformer.encode_text(embeds)

    def _integrate(self, transformer: CausalWanTransformer, text: TextCache) -> Iterator[Tensor]:
        grid = self.pipe.generator().grid
        channels = transformer.config.in_channels
        shape = (1, self.latent_frames, channels, grid.latent_height, grid.latent_width)
        noise = seeded_noise(0, 0, 0, shape, self._device)
        sigmas = FlowSchedule(self.pipe.generation.shift).sigmas(self.config.steps)
        sigmas = torch.cat([sigmas, torch.zeros(1)])
        return integrate(transformer, noise, text, sigmas, guidance=self.config.guidance)
