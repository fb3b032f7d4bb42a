"""Who is judged, by which prompts: the streamed student, its teacher and, beside them, the truth.

A case depends on its index and the seed alone, so that a shorter list is the beginning of a longer
one. Every subject turns a case into a video of the same length and size.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer

from causvid.generation.schedule import FlowSchedule
from causvid.generation.snapshot import unpack
from causvid.generation.source import to_frames, to_pixels
from causvid.generation.stream import Stream
from causvid.model.transformer import CausalWanTransformer
from causvid.pipeline import CausVidPipeline
from causvid.presets.execution import Execution
from causvid.presets.loading import load
from causvid.presets.preset import Preset
from causvid.training.models import load_exported
from causvid.training.precision import mixed_precision, use_training_attention
from causvid.training.teacher_model import TeacherModel, sample, tokenise
from causvid.training.trainer import finished_average
from causvid.world import ATTRIBUTES, FPS, VOCABULARY, Scene, Split, caption, render
from causvid.world.pixels import psnr

_SALT = 20_412  # separates these draws from those of training data with the same seed


@dataclass(frozen=True)
class Case:
    """One prompt and what it means.

    Attributes:
        scene: what the video should show.
        prompt: how it is asked for.
        seed: of the noise.
    """

    scene: Scene
    prompt: str
    seed: int

    @property
    def unseen(self) -> bool:
        """Whether training never sampled this combination."""
        return self.scene.split == "held_out"


@dataclass(frozen=True)
class Change:
    """A case, and the case it changes to, which differs in one to three attributes."""

    before: Case
    after: Case

    @property
    def changed(self) -> tuple[str, ...]:
        """The attributes that differ."""
        old, new = self.before.scene.to_dict(), self.after.scene.to_dict()
        return tuple(name for name in ATTRIBUTES if old[name] != new[name])

    @property
    def kept(self) -> tuple[str, ...]:
        """The attributes that stay."""
        return tuple(name for name in ATTRIBUTES if name not in self.changed)


def cases(count: int, seed: int) -> list[Case]:
    """The first `count` prompts: every other one is of a held-out combination."""
    return [_case(np.random.default_rng((_SALT, seed, index)), index) for index in range(count)]


def changes(count: int, seed: int) -> list[Change]:
    """The first `count` changes: every other one between held-out combinations."""
    drawn = []
    for index in range(count):
        rng = np.random.default_rng((_SALT, seed, index, 1))
        before = _case(rng, index)
        scene = before.scene.changed(rng, _split(index))
        drawn.append(Change(before, Case(scene, caption(scene, rng), before.seed)))
    return drawn


def agreement(
    values: Mapping[str, str], scene: Scene, names: Iterable[str] = ATTRIBUTES
) -> dict[str, bool]:
    """For each of the attributes, whether the judge's value is that of the scene."""
    wanted = scene.to_dict()
    return {name: values[name] == wanted[name] for name in names}


def _split(index: int) -> Split:
    return "train" if index % 2 else "held_out"


def _case(rng: np.random.Generator, index: int) -> Case:
    scene = Scene.sample(rng, _split(index))
    return Case(scene, caption(scene, rng), int(rng.integers(2**31)))


class Video(NamedTuple):
    """Frames uint8 `[t, h, w, 3]`, and latents `[1, f, c, h, w]` behind them if there are any."""

    frames: np.ndarray
    latents: Tensor | None = None


Subject = Callable[[Case], Video]
"""Makes the video of a case, the same at every call."""


@dataclass(frozen=True)
class Subjects:
    """The student and the teacher of one model, and the truth at its size.

    Args:
        latents: latent frames of a clip.
        teacher_steps, guidance: how the teacher samples.
        rival: a training stage's folder, whose student takes the place of the model's own.
    """

    preset: Preset
    execution: Execution
    latents: int
    teacher_steps: int
    guidance: float
    rival: Path | None = None

    @cached_property
    def pipe(self) -> CausVidPipeline:
        """The pipeline of a model that the judge can judge.

        Raises:
            ValueError: if the model is not of the procedural world, or the rival is missing.
        """
        _check_world(self.preset)
        return self.loaded

    @cached_property
    def loaded(self) -> CausVidPipeline:
        """The pipeline, of whatever world.

        Raises:
            ValueError: if the rival is missing.
        """
        pipe = load(self.preset, self.execution)
        if self.rival is not None:
            folder = finished_average(self.rival) / "transformer"
            rival = CausalWanTransformer.from_pretrained(folder, torch_dtype=pipe.transformer.dtype)
            pipe.register_modules(transformer=rival.to(pipe.transformer.device).eval())
        return pipe

    @property
    def frames(self) -> int:
        """Pixel frames of a clip."""
        return self.loaded.generator().grid.pixel_start(self.latents)

    @property
    def has_teacher(self) -> bool:
        return self.preset.folder is not None and (self.preset.folder / "teacher").is_dir()

    def student(self, case: Case) -> Video:
        """The causal few-step student, streamed as a viewer gets it."""
        seconds = self.frames / self.pipe.generation.fps
        with self.pipe.stream(case.prompt, seconds=seconds, seed=case.seed) as stream:
            frames = np.concatenate([chunk.frames for chunk in stream])
            _, state = unpack(stream.snapshot())
        return Video(frames[: self.frames], state["history"][:, : self.latents])

    def stream(self, case: Case, **options: Any) -> np.ndarray:
        """All frames that the student streams, with options of `CausVidPipeline.stream`."""
        return frames_of(self.pipe.stream(case.prompt, seed=case.seed, **options))

    def teacher(self, case: Case) -> Video:
        """The bidirectional teacher: a clip at once, many steps, classifier-free guidance."""
        model, device = self._teacher, self._teacher.transformer.device
        shape = (1, self.latents, *self.pipe.generator().chunk_shape(0)[2:])
        sigmas = FlowSchedule(self.pipe.generation.shift).sigmas(self.teacher_steps)
        sigmas = torch.cat([sigmas, torch.zeros(1)])
        # One more than the case's: the figures of the shipped report are of this noise.
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(case.seed + 1))
        precision = mixed_precision(device)
        use_training_attention(model, device, precision)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            text, empty = (self._embedded(prompt) for prompt in (case.prompt, ""))
            states = sample(model.transformer, noise, text, empty, sigmas, guidance=self.guidance)
        return self._decoded(states[-1])

    def rendered(self, case: Case, *, frames: int = 0, variant: int = 0) -> Video:
        """The truth, from its beginning, as long as a clip or `frames` long.

        Args:
            variant: varies what no caption says.
        """
        grid, seed = self.pipe.generator().grid, (case.seed + variant) % 2**31
        size = {"frames": frames or self.frames, "height": grid.height, "width": grid.width}
        return Video(render(case.scene, seed=seed, **size))

    def reconstructed(self, case: Case, *, variant: int = 0) -> Video:
        """The truth as the codec shows it: what no model behind that codec can exceed."""
        codec, device = self.pipe.codec(), self.pipe.transformer.device
        truth = self.rendered(case, variant=variant).frames
        with torch.inference_mode():
            latents = codec.encode(to_pixels(truth, device, torch.float32), codec.start())
        return self._decoded(latents)

    @cached_property
    def _teacher(self) -> TeacherModel:
        assert self.preset.folder is not None, "see has_teacher"
        model = load_exported(self.preset.folder, teacher=True).eval().requires_grad_(False)
        return model.to(self.pipe.transformer.device)

    @torch.no_grad()
    def _embedded(self, prompt: str) -> Tensor:
        model = self._teacher
        tokens = tokenise(self.pipe.tokenizer, [prompt], model.transformer.config.text_length)
        return model.embed(*(part.to(model.transformer.device) for part in tokens))

    def _decoded(self, latents: Tensor) -> Video:
        codec = self.pipe.codec()
        with torch.inference_mode():
            pixels = codec.decode(latents.to(self.pipe.transformer.device), codec.start())
        return Video(to_frames(pixels), latents)


def _check_world(preset: Preset) -> None:
    """Refuse a model that the judge cannot judge, before its weights are downloaded."""
    known, fps = {}, preset.generation.fps
    if preset.folder is not None:
        known = AutoTokenizer.from_pretrained(preset.folder / "tokenizer").get_vocab()
    unknown = [word for word in VOCABULARY if word not in known]
    if unknown or fps != FPS:
        raise ValueError(
            f"{preset.name!r} cannot be evaluated: the judge knows the procedural world alone, at "
            f"{FPS} frames a second, and this model "
            + (f"was not trained on the word {unknown[0]!r}" if unknown else f"makes {fps}")
            + "; choose 'pocket' or a folder that `python -m causvid train export` wrote"
        )


def frames_of(stream: Stream) -> np.ndarray:
    """All frames `[t, h, w, 3]` that a stream has left to make; it is closed behind them."""
    with stream:
        return np.concatenate([chunk.frames for chunk in stream])


def byte_psnr(made: np.ndarray, real: np.ndarray) -> float:
    """PSNR of uint8 pictures, dB."""
    return psnr(float(np.square(made.astype(np.float64) - real).mean()), peak=255)
