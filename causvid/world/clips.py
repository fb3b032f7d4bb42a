"""Random captioned clips, and files of them to look at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from causvid.world.captions import caption
from causvid.world.render import FPS, HEIGHT, WIDTH, render, render_switch
from causvid.world.scene import Scene, Split

_SHEET_FRAMES = 5
_CAPTION_HEIGHT = 16


@dataclass(frozen=True)
class Take:
    """From a frame on, a clip shows this scene and has this caption."""

    frame: int
    scene: Scene
    caption: str


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames `uint8 [t, h, w, 3]` and what they show: one take, or two if the scene changes."""

    frames: NDArray[np.uint8]
    takes: tuple[Take, ...]

    def take_at(self, frame: int) -> Take:
        """The take that a frame belongs to."""
        return [take for take in self.takes if take.frame <= frame][-1]


def sample_clip(
    rng: np.random.Generator,
    *,
    frames: int,
    height: int = HEIGHT,
    width: int = WIDTH,
    fps: float = FPS,
    start: int = 0,
    switch_at: int | None = None,
    split: Split = "train",
) -> Clip:
    """A clip of a random scene with a random caption.

    Args:
        start: index of the first frame in the endless clip, so that later times are seen too.
        switch_at: the frame of this clip where the scene changes to a related one, or None.

    Raises:
        ValueError: as `render`, or if the change lies outside the clip.
    """
    if switch_at is not None and not 0 < switch_at < frames:
        raise ValueError(f"switch_at must lie inside the {frames} frames, got {switch_at}")
    scene = Scene.sample(rng, split)
    first = Take(0, scene, caption(scene, rng))
    seed = int(rng.integers(2**31))
    size = {"frames": frames, "height": height, "width": width, "fps": fps, "start": start}
    if switch_at is None:
        return Clip(render(scene, seed=seed, **size), (first,))
    other = scene.changed(rng, split)
    second = Take(switch_at, other, caption(other, rng))
    pictures = render_switch(scene, other, at=start + switch_at, seed=seed, **size)
    return Clip(pictures, (first, second))


def sample_clips(
    count: int,
    *,
    seconds: float = 4.0,
    height: int = HEIGHT,
    width: int = WIDTH,
    fps: float = FPS,
    seed: int = 0,
    split: Split = "train",
) -> list[Clip]:
    """Draw `count` clips of random scenes. Every fourth changes its scene in the middle.

    Raises:
        ValueError: as `render`, or if `count` is not positive or a clip would be shorter than two
            frames.
    """
    frames = round(seconds * fps)
    if count < 1 or frames < 2:
        raise ValueError(f"need at least one clip of two frames, got {count} of {frames}")
    rng = np.random.default_rng(seed)
    size = {"frames": frames, "height": height, "width": width, "fps": fps}
    halfway = frames // 2
    return [
        sample_clip(rng, switch_at=halfway if index % 4 == 3 else None, split=split, **size)
        for index in range(count)
    ]


def write_clips(folder: str | Path, clips: list[Clip], *, fps: int = FPS) -> list[Path]:
    """Write clips as MP4, their captions as JSON lines and a contact sheet.

    The folder is made if it is missing.

    Returns:
        the paths written: `clip_000.mp4` and so on, `captions.jsonl`, `sheet.png`.

    Raises:
        ValueError: if a side is odd (H.264 halves its colours), or there are no clips.
    """
    sheet = contact_sheet(clips)
    height, width = clips[0].frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"height and width must be even for H.264, got {height}x{width}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"clip_{index:03d}.mp4" for index in range(len(clips))]
    for path, clip in zip(paths, clips, strict=True):
        iio.imwrite(path, clip.frames, plugin="pyav", fps=fps, codec="libx264")
    lines = [
        json.dumps(
            {
                "file": path.name,
                "takes": [
                    {"frame": take.frame, "caption": take.caption, **take.scene.to_dict()}
                    for take in clip.takes
                ],
            }
        )
        for path, clip in zip(paths, clips, strict=True)
    ]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sheet.save(folder / "sheet.png")
    return [*paths, folder / "captions.jsonl", folder / "sheet.png"]


def contact_sheet(clips: list[Clip]) -> Image.Image:
    """One row of evenly spaced frames for each clip, its captions above. All of one size.

    Raises:
        ValueError: if there are no clips.
    """
    if not clips:
        raise ValueError("a contact sheet needs at least one clip")
    height, width = clips[0].frames.shape[1:3]
    row = height + _CAPTION_HEIGHT
    sheet = Image.new("RGB", (_SHEET_FRAMES * width, row * len(clips)), (18, 20, 28))
    draw = ImageDraw.Draw(sheet)
    for index, clip in enumerate(clips):
        text = "  ->  ".join(take.caption for take in clip.takes)
        draw.text((4, index * row + 2), text, fill=(235, 235, 240))
        chosen = np.linspace(0, len(clip.frames) - 1, _SHEET_FRAMES).round().astype(int)
        strip = Image.fromarray(np.concatenate(list(clip.frames[chosen]), axis=1))
        sheet.paste(strip, (0, index * row + _CAPTION_HEIGHT))
    return sheet
