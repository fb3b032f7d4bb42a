"""Footage: where the clips come from that a codec is fitted to and trained on.

A world draws them, or they are cut from a folder of videos. Clips are those of
`causvid.world.pixels`.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from causvid.generation.geometry import Size
from causvid.media import VideoReader, probe
from causvid.training.clips import captioned_videos
from causvid.training.config import WorldName
from causvid.world import Scene, caption
from causvid.world import wide as wide_world
from causvid.world.pixels import clip_of


class Footage(Protocol):
    """Draws a clip uint8 `[frames, H, W, 3]` and what is said of it."""

    def __call__(self, rng: np.random.Generator, frames: int, size: Size) -> tuple[Tensor, str]: ...


def diorama(rng: np.random.Generator, frames: int, size: Size) -> tuple[Tensor, str]:
    """A scene of the diorama, from its beginning or from later on."""
    scene = Scene.sample(rng)
    clip = clip_of(scene, rng, frames, size.height, size.width)
    return clip, caption(scene, rng)


def wide(rng: np.random.Generator, frames: int, size: Size) -> tuple[Tensor, str]:
    """A scene of the wide world from any of its first ten seconds; one in eight changes on the way,
    and what is said is then what it has changed to."""
    scene = wide_world.Scene.sample(rng)
    start = int(rng.integers(10 * wide_world.FPS))
    shots = [wide_world.Shot(0, scene)]
    if rng.random() < 0.125:
        scene = scene.changed(rng)
        shots.append(wide_world.Shot(start + int(rng.integers(1, max(2, frames))), scene))
    clip = wide_world.film(shots, frames=frames, height=size.height, width=size.width, start=start)
    return torch.from_numpy(clip), wide_world.caption(scene, rng)


WORLDS: dict[WorldName, Footage] = {"diorama": diorama, "wide": wide}


class Videos:
    """Clips from anywhere in the videos of a folder.

    Args:
        folder: videos with captions beside them (`captioned_videos`).
        fps: pictures a second.
    """

    def __init__(self, folder: Path, fps: int):
        self.fps = fps
        self.videos = captioned_videos(folder)
        self.lengths = [int((probe(path).duration or 0) * fps) for path, _ in self.videos]

    def __call__(self, rng: np.random.Generator, frames: int, size: Size) -> tuple[Tensor, str]:
        """
        Raises:
            ValueError: if no video is as long as a clip.
        """
        fitting = [index for index, length in enumerate(self.lengths) if length >= frames]
        if not fitting:
            raise ValueError(
                f"the longest of {len(self.videos)} videos has {max(self.lengths)} frames, a clip "
                f"has {frames}: give longer videos or fewer --frames"
            )
        index = fitting[int(rng.integers(len(fitting)))]
        path, captions = self.videos[index]
        start = int(rng.integers(self.lengths[index] - frames + 1))
        with VideoReader(path, self.fps, size.height, size.width) as reader:
            pictures = reader.read(start + frames)[-frames:]
        return torch.from_numpy(pictures), captions[int(rng.integers(len(captions)))]
