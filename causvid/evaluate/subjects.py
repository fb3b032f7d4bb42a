"""What is judged: the streamed student and its teacher, and beside them the truth.

Every subject turns a case into a clip of the same length. The student is an ordinary stream; the
teacher denoises the whole clip at once, with guidance, and needs `teacher/` in the weights' folder.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from causvid.evaluate.cases import Case, rendered
from causvid.generation.schedule import FlowSchedule
from causvid.generation.snapshot import unpack
from causvid.generation.source import to_frames, to_pixels
from causvid.model.codec import VideoCodec
from causvid.model.transformer import CausalWanTransformer
from causvid.pipeline import CausVidPipeline
from causvid.presets.catalogue import POCKET as POCKET_PRESET
from causvid.presets.loading import load_preset
from causvid.training.model_stage import seeded
from causvid.training.models import load_exported
from causvid.training.precision import mixed_precision, use_training_attention
from causvid.training.teacher_model import TeacherModel, sample, tokenise
from causvid.training.trainer import finished_average


@dataclass(frozen=True, eq=False)
class Made:
    """A clip.

    Attributes:
        frames: uint8 `[t, h, w, 3]`.
        latents: the normalised latents behind it `[1, f, c, h, w]`, where there are any.
    """

    frames: np.ndarray
    latents: Tensor | None = None


class Subject(Protocol):
    """Something that makes videos."""

    def make(self, case: Case) -> Made:
        """The clip of a case; the same whenever it is asked for."""
        ...


@dataclass(frozen=True)
class Student:
    """The causal few-step student, streamed as a viewer gets it."""

    pipe: CausVidPipeline
    latents: int

    def make(self, case: Case) -> Made:
        timeline = self.pipe.generator().timeline
        seconds = timeline.grid.pixel_start(self.latents) / timeline.fps
        with self.pipe.stream(case.prompt, seconds=seconds, seed=case.seed) as stream:
            frames = np.concatenate([chunk.frames for chunk in stream])
            _, state = unpack(stream.snapshot())
        return Made(frames, state["history"])


@dataclass(frozen=True)
class Teacher:
    """The bidirectional teacher: a clip at once, many steps, classifier-free guidance."""

    pipe: CausVidPipeline
    model: TeacherModel
    latents: int
    steps: int
    guidance: float

    def make(self, case: Case) -> Made:
        config, length = self.pipe.generation, self.model.transformer.config.text_length
        shape = self.pipe.generator().chunk_shape(0)
        shape = (1, self.latents, *shape[2:])
        sigmas = torch.cat([FlowSchedule(config.shift).sigmas(self.steps), torch.zeros(1)])
        text, empty = (
            self.model.embed(*tokenise(self.pipe.tokenizer, [text], length))
            for text in (case.prompt, "")
        )
        noise = torch.randn(shape, generator=seeded(case.seed))
        precision = mixed_precision(noise.device)
        use_training_attention(self.model, noise.device, precision)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            transformer, guidance = self.model.transformer, self.guidance
            states = sample(transformer, noise, text, empty, sigmas, guidance=guidance)
        return Made(_decoded(self.pipe.codec(), states[-1]), states[-1])


@dataclass(frozen=True)
class Rendered:
    """The world itself."""

    frames: int
    variant: int = 0

    def make(self, case: Case) -> Made:
        return Made(rendered(case, self.frames, variant=self.variant))


@dataclass(frozen=True)
class Reconstructed:
    """The world as the codec shows it: what no model behind that codec can exceed."""

    pipe: CausVidPipeline
    frames: int
    variant: int = 0

    def make(self, case: Case) -> Made:
        codec = self.pipe.codec()
        pixels = to_pixels(
            rendered(case, self.frames, variant=self.variant), torch.device("cpu"), torch.float32
        )
        with torch.inference_mode():
            latents = codec.encode(pixels, codec.start())
        return Made(_decoded(codec, latents), latents)


def _decoded(codec: VideoCodec, latents: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return to_frames(codec.decode(latents, codec.start()))


@dataclass(frozen=True)
class Weights:
    """A folder that `python -m causvid train export` has written, loaded when it is needed."""

    folder: Path
    latents: int
    teacher_steps: int
    guidance: float

    @cached_property
    def pipe(self) -> CausVidPipeline:
        return load_preset(replace(POCKET_PRESET, folder=self.folder), device="cpu")

    @property
    def frames(self) -> int:
        """Pixel frames of a clip."""
        return self.pipe.generator().grid.pixel_start(self.latents)

    @property
    def has_teacher(self) -> bool:
        return (self.folder / "teacher").is_dir()

    @property
    def student(self) -> Student:
        return Student(self.pipe, self.latents)

    def rival(self, stage: Path) -> Student:
        """The student that a training stage's folder holds, with everything else as it is here.

        Raises:
            ValueError: if the stage has left none.
        """
        pipe = load_preset(replace(POCKET_PRESET, folder=self.folder), device="cpu")
        trained = CausalWanTransformer.from_pretrained(finished_average(stage) / "transformer")
        pipe.register_modules(transformer=trained.eval())
        return Student(pipe, self.latents)

    @cached_property
    def teacher(self) -> Teacher:
        model = load_exported(self.folder, teacher=True).eval().requires_grad_(False)
        return Teacher(self.pipe, model, self.latents, self.teacher_steps, self.guidance)
