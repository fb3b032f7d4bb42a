"""Image-to-video: is the first frame the picture, and does what follows belong to it?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from causvid.evaluate.cases import Case, rendered
from causvid.evaluate.measured import STRIP_FRAMES
from causvid.evaluate.subjects import Student
from causvid.world.judge import Judge

LATER = (1, 4, 12)
"""Frames after the first at which made and rendered clips are compared with the picture."""


@dataclass(frozen=True, eq=False)
class Started:
    """One clip that began with a picture.

    Attributes:
        right: for each attribute, whether the clip reads as its case.
        first: PSNR of the first frame to the picture, dB.
        later, real_later: PSNR of the frames `LATER` to the picture, made and rendered.
        jump: change from the first frame to the second over that between later ones.
        strip: the picture, then made frames.
    """

    case: Case
    right: dict[str, bool]
    first: float
    later: tuple[float, ...]
    real_later: tuple[float, ...]
    jump: float
    real_jump: float
    strip: np.ndarray


@dataclass(frozen=True)
class ImageToVideo:
    """Means over clips that began with a rendered picture of what their prompt says.

    Attributes:
        clips: how many.
        psnr: of the first frame to the picture, dB; the codec is all that lies between them.
        later, real_later: PSNR of later frames to the picture, by frame, made and rendered. A
            made clip that is much lower has left the picture; one much higher has frozen.
        jump: change from the first frame to the second over that between later frames, relative
            to rendered clips; 1 means that the second frame follows as any other does.
        adherence: mean over attributes.
    """

    clips: int
    psnr: float
    later: dict[int, float]
    real_later: dict[int, float]
    jump: float
    adherence: float


def started(student: Student, cases: Sequence[Case], reader: Judge) -> Iterator[Started]:
    """Begin each case's clip with the first frame of its rendered one."""
    timeline = student.pipe.generator().timeline
    frames = timeline.grid.pixel_start(student.latents)
    for case in cases:
        real = rendered(case, frames)
        with student.pipe.stream(
            case.prompt, image=real[0], seconds=frames / timeline.fps, seed=case.seed
        ) as stream:
            made = np.concatenate([chunk.frames for chunk in stream])
        values, wanted = reader.assess(made).values, case.scene.to_dict()
        shown = np.linspace(0, len(made) - 1, STRIP_FRAMES).round().astype(int)
        yield Started(
            case=case,
            right={name: value == wanted[name] for name, value in values.items()},
            first=psnr(made[0], real[0]),
            later=tuple(psnr(made[frame], real[0]) for frame in LATER),
            real_later=tuple(psnr(real[frame], real[0]) for frame in LATER),
            jump=_jump(made),
            real_jump=_jump(real),
            strip=np.concatenate([real[:1], made[shown]]),
        )


def image_to_video(clips: Sequence[Started]) -> ImageToVideo:
    """Means over at least one clip."""
    return ImageToVideo(
        clips=len(clips),
        psnr=_mean([clip.first for clip in clips]),
        later={frame: _mean([clip.later[i] for clip in clips]) for i, frame in enumerate(LATER)},
        real_later={
            frame: _mean([clip.real_later[i] for clip in clips]) for i, frame in enumerate(LATER)
        },
        jump=_mean([clip.jump for clip in clips]) / _mean([clip.real_jump for clip in clips]),
        adherence=_mean([float(right) for clip in clips for right in clip.right.values()]),
    )


def psnr(made: np.ndarray, real: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 pictures, dB; 60 for equal ones."""
    error = np.square(made.astype(np.float64) - real).mean()
    return min(60.0, float(10 * np.log10(255**2 / max(error, 1e-9))))


def _jump(frames: np.ndarray) -> float:
    change = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    return float(change[0] / max(change[1:].mean(), 0.1))  # of a still clip, noise is left


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)
