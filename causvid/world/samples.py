"""Sample clips of the world with captions, files of them to look at, and contact sheets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from causvid.world import wide
from causvid.world.captions import caption
from causvid.world.render import render, render_switch
from causvid.world.scene import FPS, HEIGHT, WIDTH, Scene, Split

_SHEET_FRAMES = 5
_LINE, _GAP = 18, 4  # pixels of a contact sheet: height of a row's text, space between cells
_PAPER, _INK, _ALERT = (18, 20, 28), (235, 235, 240), (255, 138, 120)


class Shot(NamedTuple):
    """The part of a clip, from frame `frame` on, that shows one scene and has one caption."""

    frame: int
    scene: Scene | wide.Scene
    caption: str


class CaptionedClip(NamedTuple):
    """Frames `uint8 [t, h, w, 3]` and their shots: one, or two if the scene changes."""

    frames: NDArray[np.uint8]
    shots: list[Shot]


def sample_clips(
    count: int,
    *,
    seconds: float = 4.0,
    height: int = HEIGHT,
    width: int = WIDTH,
    seed: int = 0,
    split: Split = "train",
) -> list[CaptionedClip]:
    """Draw `count` clips of random scenes. Every fourth changes its scene in the middle.

    Raises:
        ValueError: as `render`, or if `count` is not positive or a clip would be shorter than two
            frames.
    """
    frames = round(seconds * FPS)
    if count < 1 or frames < 2:
        raise ValueError(f"need at least one clip of two frames, got {count} of {frames}")
    size = {"frames": frames, "height": height, "width": width}
    rng = np.random.default_rng(seed)
    clips = []
    for index in range(count):
        scene = Scene.sample(rng, split)
        shots = [Shot(0, scene, caption(scene, rng))]
        details = int(rng.integers(2**31))
        if index % 4 < 3:
            pictures = render(scene, seed=details, **size)
        else:
            other = scene.changed(rng, split)
            shots.append(Shot(frames // 2, other, caption(other, rng)))
            pictures = render_switch(scene, other, at=frames // 2, seed=details, **size)
        clips.append(CaptionedClip(pictures, shots))
    return clips


def write_clips(folder: str | Path, clips: list[CaptionedClip]) -> list[Path]:
    """Write clips as MP4, their captions as JSON lines and a contact sheet.

    The folder is made if it is missing.

    Returns:
        the paths written: `clip_000.mp4` and so on, `captions.jsonl`, `sheet.png`.

    Raises:
        ValueError: if a side is odd (H.264 halves its colours), or there are no clips.
    """
    rows = []
    for clip in clips:
        chosen = np.linspace(0, len(clip.frames) - 1, _SHEET_FRAMES).round().astype(int)
        captions = "  ->  ".join(shot.caption for shot in clip.shots)
        rows.append(SheetRow(captions, clip.frames[chosen]))
    sheet = contact_sheet(rows)
    height, width = clips[0].frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"height and width must be even for H.264, got {height}x{width}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"clip_{index:03d}.mp4" for index in range(len(clips))]
    lines = []
    for path, clip in zip(paths, clips, strict=True):
        iio.imwrite(path, clip.frames, plugin="pyav", fps=FPS, codec="libx264")
        shots = [
            {"frame": shot.frame, "caption": shot.caption, **shot.scene.to_dict()}
            for shot in clip.shots
        ]
        lines.append(json.dumps({"file": path.name, "shots": shots}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sheet.save(folder / "sheet.png")
    return [*paths, folder / "captions.jsonl", folder / "sheet.png"]


class SheetRow(NamedTuple):
    """A row of a contact sheet: frames uint8 `[n, h, w, 3]` side by side, a line of text above.

    Attributes:
        text: what the frames were asked to show.
        fault: what is wrong with them, in a second colour; empty if nothing is.
    """

    text: str
    frames: NDArray[np.uint8]
    fault: str = ""


def contact_sheet(rows: Sequence[SheetRow], columns: int = 1) -> Image.Image:
    """All rows, whose frames have one size and number, in `columns` columns.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row of frames")
    count, height, width, _ = rows[0].frames.shape
    cell_w, cell_h = count * width + _GAP, height + _LINE + _GAP
    lines = -(-len(rows) // columns)
    paper = Image.new("RGB", (columns * cell_w - _GAP, lines * cell_h), _PAPER)
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(12)
    for index, row in enumerate(rows):
        x, y = (index % columns) * cell_w, (index // columns) * cell_h
        draw.text((x + 3, y + 2), row.text, fill=_INK, font=font)
        end = draw.textlength(row.text, font=font)
        draw.text((x + 14 + end, y + 2), row.fault, fill=_ALERT, font=font)
        paper.paste(Image.fromarray(np.concatenate(list(row.frames), axis=1)), (x, y + _LINE))
    return paper
