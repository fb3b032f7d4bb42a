"""Contact sheets: rows of frames with what was asked for, and what the reader saw instead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from causvid.evaluate.following import Followed
from causvid.evaluate.longrun import LongRun
from causvid.evaluate.measured import Measured
from causvid.evaluate.starting import Started
from causvid.evaluate.switching import FRESH, WORLD, Switch

MOST_ROWS = 18
_LINE, _GAP = 18, 4
_PAPER, _INK, _WRONG = (18, 20, 28), (235, 235, 240), (255, 138, 120)


@dataclass(frozen=True, eq=False)
class Row:
    """Frames uint8 `[n, h, w, 3]` side by side, with a line above them.

    Attributes:
        text: what was asked for.
        wrong: what is wrong; empty if nothing is.
    """

    text: str
    wrong: str
    frames: np.ndarray


def sheet(rows: Sequence[Row], columns: int = 1) -> Image.Image:
    """All rows, in so many columns; all of one size.

    Raises:
        ValueError: if there are none.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    count, height, width, _ = rows[0].frames.shape
    cell_w, cell_h = count * width + _GAP, height + _LINE + _GAP
    lines = -(-len(rows) // columns)
    paper = Image.new("RGB", (columns * cell_w - _GAP, lines * cell_h), _PAPER)
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(12)
    for index, row in enumerate(rows):
        x, y = (index % columns) * cell_w, (index // columns) * cell_h
        draw.text((x + 3, y + 2), row.text, fill=_INK, font=font)
        end = draw.textlength(row.text, font=font)
        draw.text((x + 14 + end, y + 2), row.wrong, fill=_WRONG, font=font)
        paper.paste(Image.fromarray(np.concatenate(list(row.frames), axis=1)), (x, y + _LINE))
    return paper


def of_clips(clips: Sequence[Measured]) -> Image.Image:
    """One row for each clip."""
    rows = []
    for clip in clips[:MOST_ROWS]:
        wrong = [clip.values[name] for name, right in clip.right.items() if not right]
        text = f"read as {', '.join(wrong)}" if wrong else ""
        rows.append(Row(clip.case.prompt, text, clip.strip))
    return sheet(rows, columns=2)


def of_long_runs(runs: Sequence[LongRun]) -> Image.Image:
    """One row for each stream, one frame for each minute."""
    rows = []
    for run in runs[:MOST_ROWS]:
        shares = " ".join(f"{minute.adherence:.0%}" for minute in run.minutes)
        rows.append(Row(f"{run.case.prompt}   {shares}", "", run.strip))
    return sheet(rows)


def of_switches(switches: Sequence[Mapping[str, Switch]]) -> Image.Image:
    """One row for each change and hand-over, the last frame before it first."""
    rows = []
    for each in switches[: MOST_ROWS // 6]:
        for name, switch in each.items():
            late = [n for n, s in switch.reaction.items() if s is None]
            wrong = f"not {' '.join(late)}" if late else ""
            if not late and not switch.in_time:
                wrong = f"after {switch.seconds:.1f} s"
            if name not in (WORLD, FRESH):
                name = f"[{name}]"
            before, after = switch.change.before.prompt, switch.change.after.prompt
            rows.append(Row(f"{name}  {before} -> {after}", wrong, switch.strip))
    return sheet(rows)


def of_started(clips: Sequence[Started]) -> Image.Image:
    """One row for each clip, the given picture first."""
    rows = []
    for clip in clips[: MOST_ROWS // 2]:
        wrong = [name for name, right in clip.right.items() if not right]
        text = f"{clip.case.prompt}   {clip.first:.1f} dB"
        rows.append(Row(text, f"not {', '.join(wrong)}" if wrong else "", clip.strip))
    return sheet(rows)


def of_followed(clips: Sequence[Mapping[float, Followed]]) -> Image.Image:
    """One row for each source and strength."""
    rows = []
    for each in clips[: MOST_ROWS // 6]:
        for strength, clip in each.items():
            missing = [name for name, right in clip.prompt.items() if not right]
            lost = [name for name, right in clip.kept.items() if not right]
            wrong = "  ".join(
                f"{word} {' '.join(names)}"
                for word, names in (("not yet", missing), ("lost", lost))
                if names
            )
            before, after = clip.change.before.prompt, clip.change.after.prompt
            rows.append(Row(f"{strength:g}  {before} -> {after}", wrong, clip.strip))
    return sheet(rows)
