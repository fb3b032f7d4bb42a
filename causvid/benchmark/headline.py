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

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from causvid.benchmark.pieces import unseen_prompts
from causvid.benchmark.timing import Stopwatch
from causvid.generation.generator import Generator, Memory, seeded_noise
from causvid.generation.geometry import ChunkPattern
from causvid.generation.schedule import FlowSchedule, Level, velocity_from_clean
from causvid.generation.source import to_frames
from causvid.model.cache import TextCache
from causvid.model.cpu import is_lowered, lower_transformer, use_onednn
from causvid.model.transformer import CausalWanTransformer
from causvid.pipeline import CausVidPipeline
from causvid.presets.folder import TEACHER, check_teacher
from causvid.presets.preset import Preset
from causvid.training.teacher_model import TeacherModel, integrate, tokenise

TEACHER_STEPS = 50


@dataclass(frozen=True)
class Side:
    """One model's video.

    Attributes:
        latent_frames, pixel_frames: its length.
        passes_per_frame: passes of the transformer in which a latent frame took part.
        first_picture: seconds from the call to the first picture on the host.
        seconds: of its text, denoise, decode, of what lies between them, other, and of the whole
            video, total; of the student, those of its median run.
        cpu_seconds: the same, of all threads of this process.
        runs: how many times it was made.
    """

    latent_frames: int
    pixel_frames: int
    passes_per_frame: int
    first_picture: float
    seconds: dict[str, float]
    cpu_seconds: float
    runs: int

    @property
    def frames_per_second(self) -> float:
        return self.pixel_frames / self.seconds["total"]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**asdict(self), "frames_per_second": self.frames_per_second}


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


def load_teacher(preset: Preset, pipe: CausVidPipeline) -> TeacherModel:
    """The teacher that a preset ships beside its student.

    Raises:
        ValueError: if it ships none, or one that is damaged.
    """
    folder = None if preset.folder is None else preset.folder / TEACHER
    if preset.folder is None or folder is None or not folder.is_dir():
        raise ValueError(
            f"{preset.name!r} ships no teacher to compare with: choose a model that has one, such "
            "as 'pocket'"
        )
    with preset.cured():
        check_teacher(preset.folder)
    transformer = CausalWanTransformer.from_pretrained(folder, torch_dtype=pipe.transformer.dtype)
    transformer.to(pipe.transformer.device).eval()
    use_onednn(transformer)
    if is_lowered(pipe.transformer):
        lower_transformer(transformer)
    return TeacherModel(transformer, pipe.text_encoder)


def race(
    pipe: CausVidPipeline,
    teacher: TeacherModel,
    *,
    latent_frames: int,
    steps: int = TEACHER_STEPS,
    guidance: float = 1.5,
    rounds: int = 5,
) -> Race:
    """Make the same length of video both ways.

    Args:
        latent_frames: the length; the student fills its last chunk.
        steps: of the teacher, evenly spaced before the shift.
        guidance: the teacher's; its value does not matter for time, unless it is 1.
        rounds: streams of the student, spread over the one run of the teacher.
    """
    rounds = min(rounds, steps)
    unseen = unseen_prompts()
    _student(pipe, next(unseen), latent_frames=1)
    _Teacher(pipe, teacher, next(unseen), latent_frames, 1, guidance).advance(1)

    clip = _Teacher(pipe, teacher, next(unseen), latent_frames, steps, guidance)
    runs = []
    for turn in range(rounds):
        runs.append(_student(pipe, next(unseen), latent_frames))
        clip.advance((turn + 1) * steps // rounds)
    student = replace(
        sorted(runs, key=lambda run: run.seconds["total"])[len(runs) // 2],
        first_picture=median(run.first_picture for run in runs),
        cpu_seconds=median(run.cpu_seconds for run in runs),
        runs=len(runs),
    )
    return Race(student, clip.finish())


def _student(pipe: CausVidPipeline, prompt: str, latent_frames: int) -> Side:
    config = pipe.generation
    chunks = config.chunks.covering(latent_frames)
    watch = Stopwatch(pipe.transformer.device)
    pictures, first_picture = 0, 0.0
    spent = dict.fromkeys(("text", "denoise", "decode"), 0.0)
    with watch:
        seconds = pipe.generator().timeline.duration(chunks)
        with pipe.stream(prompt, seconds=seconds) as stream:
            for chunk in stream:
                first_picture = first_picture or watch.lap
                pictures += len(chunk.frames)
                for part in spent:
                    spent[part] += getattr(chunk.timings, part)
    other = watch.wall - sum(spent.values())
    return Side(
        latent_frames=config.chunks.start(chunks),
        pixel_frames=pictures,
        passes_per_frame=len(config.timesteps) + 1,  # the last one remembers the clean chunk
        first_picture=first_picture,
        seconds={**spent, "other": other, "total": watch.wall},
        cpu_seconds=watch.cpu,
        runs=1,
    )


def _velocity(
    transformer: CausalWanTransformer, pipe: CausVidPipeline, latent_frames: int, batch: int
) -> Callable[[Tensor, Tensor, TextCache], Tensor]:
    """The teacher's passes as the student's are made: its whole clip is one chunk of a cache."""
    config = replace(
        pipe.generation,
        chunks=ChunkPattern(latent_frames, latent_frames),
        window=latent_frames,
        sink=0,
        sink_decay=None,
        sampler="chunk",
    )
    maker = Generator(transformer, config, pipe.generator().grid)
    cache = maker.new_cache(batch)

    def velocity(latents: Tensor, times: Tensor, text: TextCache) -> Tensor:
        sigma = float(times[0, 0])
        cache.open(latents.shape[1])
        clean = maker.predict_clean(latents, Level(sigma, sigma), Memory(cache, text))
        return velocity_from_clean(latents, clean, sigma)

    return velocity


class _Teacher:
    """One clip of the teacher, made in as many stretches as one likes."""

    def __init__(
        self,
        pipe: CausVidPipeline,
        model: TeacherModel,
        prompt: str,
        latent_frames: int,
        steps: int,
        guidance: float,
    ):
        transformer, grid = model.transformer, pipe.generator().grid
        device, config = transformer.device, transformer.config
        prompts = [prompt] if guidance == 1 else [prompt, ""]
        shape = (1, latent_frames, config.in_channels, grid.latent_height, grid.latent_width)
        sigmas = torch.cat([FlowSchedule(pipe.generation.shift).sigmas(steps), torch.zeros(1)])
        self._codec, self._latent_frames = pipe.codec(), latent_frames
        self._passes = steps * len(prompts)
        self._watches = {part: Stopwatch(device) for part in ("text", "denoise", "decode")}
        with self._watches["text"], torch.inference_mode():
            tokens = tokenise(pipe.tokenizer, prompts, config.text_length)
            text = transformer.encode_text(model.embed(*(part.to(device) for part in tokens)))
        noise = seeded_noise(0, 0, 0, shape, device)
        velocity = _velocity(transformer, pipe, latent_frames, batch=len(prompts))
        self._states = integrate(velocity, noise, text, sigmas, guidance=guidance)
        self._taken, self._clean = 0, noise

    def advance(self, steps: int) -> None:
        """Go on until `steps` steps are taken."""
        with self._watches["denoise"], torch.inference_mode():
            for _ in range(self._taken, steps):
                self._clean = next(self._states)
        self._taken = steps

    def finish(self) -> Side:
        """Decode the clip."""
        with self._watches["decode"], torch.inference_mode():
            frames = to_frames(self._codec.decode(self._clean, self._codec.start()))
        seconds = {part: watch.wall for part, watch in self._watches.items()}
        total = sum(seconds.values())
        return Side(
            latent_frames=self._latent_frames,
            pixel_frames=len(frames),
            passes_per_frame=self._passes,
            first_picture=total,
            seconds={**seconds, "other": 0.0, "total": total},
            cpu_seconds=sum(watch.cpu for watch in self._watches.values()),
            runs=1,
        )
