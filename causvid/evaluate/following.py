"""Video-to-video: what is taken from the prompt and what from the source, by strength.

The source is a rendered clip, the prompt describes it with one to three attributes changed. At a
low strength the source should win, at a high one the prompt; what they agree on should never be
lost.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from causvid.evaluate.cases import Change, rendered
from causvid.evaluate.measured import STRIP_FRAMES
from causvid.evaluate.starting import psnr
from causvid.evaluate.subjects import Student
from causvid.world.judge import Judge

STRENGTHS = (0.3, 0.5, 0.7, 0.85, 0.95)


@dataclass(frozen=True, eq=False)
class Followed:
    """One source at one strength.

    Attributes:
        prompt: for each changed attribute, whether it reads as the prompt has it.
        source: for each changed attribute, whether it reads as the source has it.
        kept: for each other attribute, whether it reads as both have it.
        psnr: to the source, dB, mean over frames.
        strip: made frames, uint8 `[n, h, w, 3]`.
    """

    change: Change
    prompt: dict[str, bool]
    source: dict[str, bool]
    kept: dict[str, bool]
    psnr: float
    strip: np.ndarray


@dataclass(frozen=True)
class VideoToVideo:
    """Many sources at one strength: shares of attributes, and the mean PSNR to the source."""

    clips: int
    prompt: float
    source: float
    kept: float
    psnr: float


def followed(
    student: Student, changes: Sequence[Change], reader: Judge
) -> Iterator[dict[float, Followed]]:
    """For each change, its source followed at every strength."""
    frames = student.pipe.generator().grid.pixel_start(student.latents)
    for change in changes:
        source = rendered(change.before, frames)
        old, new = change.before.scene.to_dict(), change.after.scene.to_dict()
        results = {}
        for strength in STRENGTHS:
            with student.pipe.stream(
                change.after.prompt, video=source, strength=strength, seed=change.before.seed
            ) as stream:
                made = np.concatenate([chunk.frames for chunk in stream])
            values = reader.assess(made).values
            shown = np.linspace(0, len(made) - 1, STRIP_FRAMES).round().astype(int)
            results[strength] = Followed(
                change=change,
                prompt={name: values[name] == new[name] for name in change.changed},
                source={name: values[name] == old[name] for name in change.changed},
                kept={name: values[name] == new[name] for name in change.kept},
                psnr=float(np.mean([psnr(*pair) for pair in zip(made, source, strict=True)])),
                strip=made[shown],
            )
        yield results


def video_to_video(clips: Sequence[Followed]) -> VideoToVideo:
    """At least one clip, all at one strength."""
    return VideoToVideo(
        clips=len(clips),
        prompt=_share([clip.prompt for clip in clips]),
        source=_share([clip.source for clip in clips]),
        kept=_share([clip.kept for clip in clips]),
        psnr=sum(clip.psnr for clip in clips) / len(clips),
    )


def _share(flags: Sequence[dict[str, bool]]) -> float:
    every = [flag for each in flags for flag in each.values()]
    return sum(every) / len(every)
