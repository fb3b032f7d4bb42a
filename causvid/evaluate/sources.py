"""What becomes of a picture or a video that a clip is made from.

Image-to-video: whether the first frame is the picture, and the next ones belong to it.

Video-to-video: what is taken from the prompt and what from the source, by strength. The source is
a rendered clip, the prompt describes it with one to three attributes changed. At a low strength the
source should win, at a high one the prompt; attributes on which both agree should be kept at any.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from causvid.evaluate.measurement import Figures, Measurement, Part, Table, mean, number, percent
from causvid.evaluate.session import SHEET_ROWS, Session, progress, strip
from causvid.evaluate.subjects import Case, Change, agreement, byte_psnr, cases, changes
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


def _run_images(session: Session) -> Part:
    count = session.sizes.images
    asked = progress(cases(count, session.seed), "image to video", count)
    clips = [_image_clip(session, case) for case in asked]
    return Part(image_to_video(clips), {"images": _image_sheet(clips)})


def _image_clip(session: Session, case: Case) -> ImageClip:
    """Begin a case's clip with the first frame of its rendered one."""
    real = session.subjects.rendered(case).frames
    seconds = len(real) / session.subjects.pipe.generation.fps
    made = session.subjects.stream(case, image=real[0], seconds=seconds)
    return ImageClip(case, real, made, agreement(session.judge.assess(made).values, case.scene))


def _image_sheet(clips: Sequence[ImageClip]) -> Image.Image:
    """One row for each clip, the given picture first."""
    rows = []
    for clip in clips[: SHEET_ROWS // 2]:
        wrong = [name for name, right in clip.right.items() if not right]
        text = f"{clip.case.prompt}   {byte_psnr(clip.made[0], clip.real[0]):.1f} dB"
        frames = np.concatenate([clip.real[:1], strip(clip.made)])
        rows.append(SheetRow(text, frames, f"not {', '.join(wrong)}" if wrong else ""))
    return contact_sheet(rows)


def _image_table(figures: Figures) -> Table:
    rows = [("first frame to the picture, dB", number(figures["psnr"]), "")]
    for frame, made in figures["later"].items():
        real = figures["real_later"][frame]
        rows.append((f"frame {frame} to the picture, dB", number(made), number(real)))
    rows.append(("jump to the second frame", number(figures["jump"]), "1.000"))
    rows.append(("adherence", percent(figures["adherence"]), ""))
    return Table("Image to video", (f"{figures['clips']} clips", "made", "rendered"), rows)


IMAGE = Measurement("image", _run_images, _image_table)


STRENGTHS = (0.3, 0.5, 0.7, 0.85, 0.95)


class VideoClip(NamedTuple):
    """One source at one strength; `psnr` to the source in dB, mean over frames.

    Attributes:
        prompt, source: for each changed attribute, whether it is judged as either has it.
        kept: for each other attribute, whether it is judged as both have it.
        strip: made frames, uint8 `[n, h, w, 3]`.
    """

    change: Change
    prompt: dict[str, bool]
    source: dict[str, bool]
    kept: dict[str, bool]
    psnr: float
    strip: np.ndarray


def video_to_video(clips: Sequence[VideoClip]) -> Figures:
    """Shares of attributes, and the mean PSNR, of at least one clip, all at one strength."""
    return {
        "clips": len(clips),
        "prompt": mean(flag for clip in clips for flag in clip.prompt.values()),
        "source": mean(flag for clip in clips for flag in clip.source.values()),
        "kept": mean(flag for clip in clips for flag in clip.kept.values()),
        "psnr": mean(clip.psnr for clip in clips),
    }


def _run_videos(session: Session) -> Part:
    count = session.sizes.videos
    asked = progress(changes(count, session.seed), "video to video", count)
    clips = [
        {strength: _video_clip(session, it, strength) for strength in STRENGTHS} for it in asked
    ]
    figures = {
        str(strength): video_to_video([each[strength] for each in clips]) for strength in STRENGTHS
    }
    return Part(figures, {"videos": _video_sheet(clips)})


def _video_clip(session: Session, change: Change, strength: float) -> VideoClip:
    """Make the rendered clip of the old case anew, with the new prompt."""
    source, new = session.subjects.rendered(change.before).frames, change.after.scene
    made = session.subjects.stream(change.after, video=source, strength=strength)[: len(source)]
    values = session.judge.assess(made).values
    return VideoClip(
        change,
        prompt=agreement(values, new, change.changed),
        source=agreement(values, change.before.scene, change.changed),
        kept=agreement(values, new, change.kept),
        psnr=float(np.mean([byte_psnr(*pair) for pair in zip(made, source, strict=True)])),
        strip=strip(made),
    )


def _video_sheet(clips: Sequence[Mapping[float, VideoClip]]) -> Image.Image:
    """One row for each source and strength."""
    rows = []
    for each in clips[: SHEET_ROWS // 6]:
        for strength, clip in each.items():
            missing = [name for name, right in clip.prompt.items() if not right]
            lost = [name for name, right in clip.kept.items() if not right]
            faults = (("not yet", missing), ("lost", lost))
            fault = "  ".join(f"{word} {' '.join(names)}" for word, names in faults if names)
            before, after = clip.change.before.prompt, clip.change.after.prompt
            rows.append(SheetRow(f"{strength:g}  {before} -> {after}", clip.strip, fault))
    return contact_sheet(rows)


def _video_table(figures: Figures) -> Table:
    rows = [
        (
            f"{strength} ({of['clips']})",
            *(percent(of[name]) for name in ("prompt", "source", "kept")),
            number(of["psnr"]),
        )
        for strength, of in figures.items()
    ]
    header = ("strength", "as the prompt", "as the source", "what both say", "PSNR, dB")
    return Table("Video to video", header, rows)


def _video_plot(figure: Figure, figures: Figures) -> None:
    axes = figure.add_subplot(ylim=(0, 1.02), xlabel="strength", title="video to video")
    strengths = [float(strength) for strength in figures]
    for key, label in (
        ("prompt", "changed attributes as the prompt has them"),
        ("source", "changed attributes as the source has them"),
        ("kept", "attributes on which both agree"),
    ):
        axes.plot(strengths, [of[key] for of in figures.values()], marker="o", label=label)
    axes.legend(fontsize=8)


VIDEO = Measurement("video", _run_videos, _video_table, _video_plot)
