"""Image-to-video: whether the first frame is the picture, and the next ones belong to it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from causvid.evaluate.measurement import Figures, Measurement, Part, Table, mean, number, percent
from causvid.evaluate.session import SHEET_ROWS, Session, progress, strip
from causvid.evaluate.subjects import (
    Case,
    agreement,
    byte_psnr,
    cases,
)
from causvid.world.samples import SheetRow, contact_sheet

LATER = (1, 4, 12)
"""Frames after the first at which made and rendered clips are compared with the picture."""


class ImageClip(NamedTuple):
    """One clip that began with a picture: its case, and frames uint8 `[t, h, w, 3]`.

    Attributes:
        real: rendered frames; the first one is the picture.
        made: the student's frames.
        right: for each attribute, whether the made clip is judged as its case.
    """

    case: Case
    real: np.ndarray
    made: np.ndarray
    right: dict[str, bool]


def image_to_video(clips: Sequence[ImageClip]) -> Figures:
    """Means over at least one clip; PSNR to the picture in dB."""
    later = {i: mean(byte_psnr(clip.made[i], clip.real[0]) for clip in clips) for i in LATER}
    real_later = {i: mean(byte_psnr(clip.real[i], clip.real[0]) for clip in clips) for i in LATER}
    return {
        "clips": len(clips),
        "psnr": mean(byte_psnr(clip.made[0], clip.real[0]) for clip in clips),  # the codec's alone
        # A made clip that is much lower has left the picture; one much higher has frozen.
        "later": later,
        "real_later": real_later,
        # Change to the second frame over that between later frames, relative to rendered clips.
        "jump": mean(_jump(clip.made) for clip in clips) / mean(_jump(clip.real) for clip in clips),
        "adherence": mean(right for clip in clips for right in clip.right.values()),
    }


def _jump(frames: np.ndarray) -> float:
    change = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    return float(change[0] / max(change[1:].mean(), 0.1))  # a still clip changes by noise alone


def _run(session: Session) -> Part:
    count = session.sizes.images
    asked = progress(cases(count, session.seed), "image to video", count)
    clips = [_clip(session, case) for case in asked]
    return Part(image_to_video(clips), {"images": _sheet(clips)})


def _clip(session: Session, case: Case) -> ImageClip:
    """Begin a case's clip with the first frame of its rendered one."""
    real = session.subjects.rendered(case).frames
    seconds = len(real) / session.subjects.pipe.generation.fps
    made = session.subjects.stream(case, image=real[0], seconds=seconds)
    return ImageClip(case, real, made, agreement(session.judge.assess(made).values, case.scene))


def _sheet(clips: Sequence[ImageClip]) -> Image.Image:
    """One row for each clip, the given picture first."""
    rows = []
    for clip in clips[: SHEET_ROWS // 2]:
        wrong = [name for name, right in clip.right.items() if not right]
        text = f"{clip.case.prompt}   {byte_psnr(clip.made[0], clip.real[0]):.1f} dB"
        frames = np.concatenate([clip.real[:1], strip(clip.made)])
        rows.append(SheetRow(text, frames, f"not {', '.join(wrong)}" if wrong else ""))
    return contact_sheet(rows)


def _table(figures: Figures) -> Table:
    rows = [("first frame to the picture, dB", number(figures["psnr"]), "")]
    for frame, made in figures["later"].items():
        real = figures["real_later"][frame]
        rows.append((f"frame {frame} to the picture, dB", number(made), number(real)))
    rows.append(("jump to the second frame", number(figures["jump"]), "1.000"))
    rows.append(("adherence", percent(figures["adherence"]), ""))
    return Table("Image to video", (f"{figures['clips']} clips", "made", "rendered"), rows)


IMAGE = Measurement("image", _run, _table)
