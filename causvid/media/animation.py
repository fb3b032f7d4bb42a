"""A finished video as a picture that moves, for places that show no video: WebP or GIF."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image

from causvid.media.reader import VideoReader, probe

SUFFIXES = (".webp", ".gif")
MAX_WIDTH = 480
MAX_PIXELS = 30_000_000  # over all pictures: Pillow holds them all before it writes a GIF
MIN_FPS = 4.0


def write_animation(video: Path, target: Path, *, width: int, height: int, fps: int) -> None:
    """Write a video of `width` × `height` at `fps` as a WebP or a GIF, by the suffix of `target`.

    It repeats for ever. A wide one is scaled down, and of a long one every n-th picture is taken.

    Raises:
        ValueError: if that leaves less than `MIN_FPS`, or it is no video.
    """
    scale = min(1.0, MAX_WIDTH / width)
    width, height = round(width * scale), round(height * scale)
    seconds = probe(video).duration or 0.0
    most = MAX_PIXELS / (width * height)
    every = max(1, math.ceil(seconds * fps / most))
    if fps / every < MIN_FPS:
        raise ValueError(
            f"the video has {seconds:.0f} s; {target.suffix[1:]} files are made of up to "
            f"{most / MIN_FPS:.0f} s of this size: download the MP4"
        )
    options: dict[str, Any] = {"quality": 80, "method": 2} if target.suffix == ".webp" else {}
    with VideoReader(video, fps=fps / every, height=height, width=width) as reader:
        pictures = _pictures(reader)
        next(pictures).save(
            target,
            save_all=True,
            append_images=pictures,
            duration=1000 * every / fps,  # milliseconds
            loop=0,
            **options,
        )


def _pictures(reader: VideoReader) -> Iterator[PIL.Image.Image]:
    while len(frames := reader.read(16)):
        yield from map(PIL.Image.fromarray, frames)
