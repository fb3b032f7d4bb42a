"""Video-to-video: what is taken from the prompt and what from the source, by strength.

The source is a rendered clip, the prompt describes it with one to three attributes changed. At a
low strength the source should win, at a high one the prompt; attributes on which both agree should
be kept at any strength.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from causvid.evaluate.measurement import Figures, Measurement, Part, Table, mean, number, percent
from causvid.evaluate.session import SHEET_ROWS, Session, progress, strip
from causvid.evaluate.subjects import (
    Change,
    agreement,
    byte_psnr,
    changes,
)
from causvid.world.samples import SheetRow, contact_sheet

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


def _run(session: Session) -> Part:
    count = session.sizes.videos
    asked = progress(changes(count, session.seed), "video to video", count)
    clips = [{strength: _clip(session, it, strength) for strength in STRENGTHS} for it in asked]
    figures = {
        str(strength): video_to_video([each[strength] for each in clips]) for strength in STRENGTHS
    }
    return Part(figures, {"videos": _sheet(clips)})


def _clip(session: Session, change: Change, strength: float) -> VideoClip:
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


def _sheet(clips: Sequence[Mapping[float, VideoClip]]) -> Image.Image:
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


def _table(figures: Figures) -> Table:
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


def _plot(figure: Figure, figures: Figures) -> None:
    axes = figure.add_subplot(ylim=(0, 1.02), xlabel="strength", title="video to video")
    strengths = [float(strength) for strength in figures]
    for key, label in (
        ("prompt", "changed attributes as the prompt has them"),
        ("source", "changed attributes as the source has them"),
        ("kept", "attributes on which both agree"),
    ):
        axes.plot(strengths, [of[key] for of in figures.values()], marker="o", label=label)
    axes.legend(fontsize=8)


VIDEO = Measurement("video", _run, _table, _plot)
