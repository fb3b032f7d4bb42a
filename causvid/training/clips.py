"""Shards of encoded clips: rendered ones of the pocket world, or videos with captions.

A shard depends on its index, the codec and the settings alone, so any process may make any shard,
and new ones can be added while a training run reads the others.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from glob import escape
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from causvid.generation.config import GenerationConfig
from causvid.generation.geometry import Size
from causvid.generation.source import to_pixels
from causvid.media import VideoReader
from causvid.model.codec import VideoCodec, codec_for
from causvid.training.config import DataConfig, WorldConfig
from causvid.training.data import Clip, shard_path, write_shard
from causvid.training.models import load_codec
from causvid.world import FPS, LOOPING, Scene, caption, render, render_switch, return_frame
from causvid.world.wide import sample_scene, script

logger = logging.getLogger(__name__)

Event = Literal["none", "turned", "lost"]


def render_clip(
    codec: VideoCodec,
    config: DataConfig,
    rng: np.random.Generator,
    *,
    height: int,
    width: int,
    event: Event = "none",
) -> Clip:
    """One clip of a random scene, encoded as a stream of its own.

    Args:
        event: what happens on the way, if the clip is long enough: the scene turns into another, or
            an object that was lost comes back.
    """
    world = config.world or WorldConfig()
    turn = world.turn if event != "none" and world.turn < config.latents else 0
    lost = event == "lost" and turn > 0
    before = 1 + (turn - 1) * codec.temporal_stride  # pictures of the latents before `turn`
    scene = Scene.sample(rng)
    while lost and scene.motion not in LOOPING:
        scene = Scene.sample(rng)
    late = lost or bool(rng.random() < world.late_share)
    if lost:
        start = _first_return(scene, rng, height, width) - before
    else:
        start = int(rng.integers(1, round(world.late_seconds * FPS))) if late else 0
    seed = int(rng.integers(2**31))
    then = scene.changed(rng) if turn and not lost else scene

    def encoded(start: int, latents: int) -> Tensor:
        """`latents` latents from frame `start` on; the scene changes if `turn` is among them."""
        size = {"height": height, "width": width, "start": start, "seed": seed}
        size["frames"] = 1 + (latents - 1) * codec.temporal_stride
        if not 0 < turn < latents:
            pictures = render(scene, **size)
        elif lost:
            pictures = render(scene, appears=start + before, **size)
        else:
            pictures = render_switch(scene, then, at=start + before, **size)
        return _encoded(codec, pictures)

    latents = encoded(start, config.latents)
    opening = encoded(0, 1)[0] if late else None
    captions = tuple(caption(then, rng) for _ in range(world.captions))
    return Clip(latents, captions, late, opening, turn)


def wide_clip(
    codec: VideoCodec, config: WorldConfig, number: int, latents: int, *, size: Size, turned: bool
) -> Clip:
    """Clip `number` of the wide world, encoded as a stream of its own.

    Args:
        latents: latent frames of it.
        turned: whether its scene changes on the way.
    """
    rng = np.random.default_rng((number, latents))
    turn = config.turn if turned and 0 < config.turn < latents else 0
    late = bool(rng.random() < config.late_share)
    longest = min(config.late_seconds, sample_scene(0, number).lasting)
    start = int(rng.integers(1, round(longest * FPS))) if late else 0
    at = start + 1 + (turn - 1) * codec.temporal_stride if turn else 0
    drawn = script(0, number, turn=at, captions=config.captions)
    frames = 1 + (latents - 1) * codec.temporal_stride
    encoded = _encoded(codec, drawn.draw(frames, start=start, **size._asdict()))
    opening = _encoded(codec, drawn.draw(1, **size._asdict()))[0] if late else None
    return Clip(encoded, drawn.captions[-1], late, opening, turn)


def _encoded(codec: VideoCodec, pictures: np.ndarray) -> Tensor:
    """Latents `[f, c, h, w]` of uint8 pictures `[t, h, w, 3]`, as a stream of their own."""
    with torch.inference_mode():
        pixels = to_pixels(pictures, torch.device("cpu"), torch.float32)
        return codec.encode(pixels, codec.start())[0].cpu()


def _first_return(scene: Scene, rng: np.random.Generator, height: int, width: int) -> int:
    """A frame at which an object is coming back, a little of it to be seen or more."""
    time = int(rng.integers(1, 3))
    back = return_frame(scene, time, height=height, width=width)
    return back + int(rng.integers(-2, 10))


def render_shard(
    codec: VideoCodec, folder: Path, index: int, config: DataConfig, *, height: int, width: int
) -> bool:
    """Write shard `index` of rendered clips unless it is there; returns whether it was written."""
    path = shard_path(folder, index)
    if path.exists():
        return False
    rng, world = np.random.default_rng((index, config.latents)), config.world or WorldConfig()
    size, first = Size(height, width), index * config.clips
    # Spread evenly, so that a shard of one or two clips has some that begin anywhere.
    turned = _spread(world.turned_share, config.clips)
    if world.name == "wide":
        clips = [
            wide_clip(codec, world, first + row, config.latents, size=size, turned=bool(turns))
            for row, turns in enumerate(turned)
        ]
    else:
        events = np.where(turned, "turned", "none")
        if world.turned_share < 1:
            share = world.lost_share / (1 - world.turned_share)
            lost = _spread(share, int((~turned).sum()))
            events[~turned] = np.where(lost, "lost", "none")
        pixels = size._asdict()
        clips = [render_clip(codec, config, rng, event=event, **pixels) for event in events]
    write_shard(path, clips)
    logger.info("rendered %s", path)
    return True


def render_shards(
    vae: Path,
    folder: Path,
    indices: Sequence[int],
    config: DataConfig,
    sizes: Sequence[Size],
    *,
    workers: int,
) -> None:
    """Write the shards of rendered clips that `indices` name, each of the next one of `sizes`.

    Args:
        vae: the codec's folder.
        workers: processes that share them; the first shards are begun first.
    """
    tasks = [(vae, folder, index, config, sizes[index % len(sizes)]) for index in indices]
    with ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        for index, written in zip(indices, pool.map(_render_one, tasks), strict=True):
            if written:
                logger.info("rendered %s", shard_path(folder, index))


def _render_one(task: tuple[Path, Path, int, DataConfig, Size]) -> bool:
    vae, folder, index, config, size = task
    codec = codec_for(load_codec(vae))
    return render_shard(codec, folder, index, config, height=size.height, width=size.width)


def captioned_videos(folder: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """The videos of a folder in order of their names, each with the captions beside it.

    Captions of `walk.mp4` are the lines of `walk.txt`.

    Raises:
        ValueError: if there is none, or one has no captions.
    """
    found = []
    for text in sorted(Path(folder).rglob("*.txt")):
        videos = [path for path in text.parent.glob(f"{escape(text.stem)}.*") if path != text]
        captions = tuple(line for line in text.read_text(encoding="utf-8").splitlines() if line)
        if len(videos) != 1 or not captions:
            raise ValueError(
                f"{text} should hold captions, one a line, of one video beside it with its name; "
                f"found {len(videos)} videos and {len(captions)} captions"
            )
        found.append((videos[0], captions))
    if not found:
        raise ValueError(f"{folder} has no videos with captions: expected NAME.mp4 with NAME.txt")
    return found


def video_clips(
    codec: VideoCodec,
    video: Path,
    captions: tuple[str, ...],
    generation: GenerationConfig,
    latents: int,
) -> Iterator[Clip]:
    """A video in clips of equal length, one after the other; the rest is dropped.

    Args:
        generation: rate and size that pictures are brought to.
        latents: latent frames of a clip.
    """
    frames = 1 + (latents - 1) * codec.temporal_stride
    opening = None
    with VideoReader(video, generation.fps, generation.height, generation.width) as reader:
        while len(pictures := reader.read(frames)) == frames:
            encoded = _encoded(codec, pictures)
            yield Clip(encoded, captions, opening is not None, opening)
            if opening is None:
                opening = encoded[0]


def encode_shard(
    codec: VideoCodec,
    folder: Path,
    index: int,
    videos: Sequence[tuple[Path, tuple[str, ...]]],
    config: DataConfig,
    generation: GenerationConfig,
) -> bool:
    """Write shard `index` of the clips of `videos` unless it is there; returns whether it was.

    Raises:
        ValueError: if all videos are shorter than a clip.
    """
    path = shard_path(folder, index)
    if path.exists():
        return False
    clips = [
        clip
        for video, captions in videos
        for clip in video_clips(codec, video, captions, generation, config.latents)
    ]
    if not clips:
        names = ", ".join(video.name for video, _ in videos)
        raise ValueError(f"no clip of {config.latents} latent frames fits into {names}")
    write_shard(path, clips)
    logger.info("encoded %d clips into %s", len(clips), path)
    return True


def _spread(share: float, count: int) -> np.ndarray:
    """bool `[count]`, true for a `share` of it, and evenly, beginning with what is not."""
    return np.diff(np.floor(np.arange(count + 1) * share)) > 0
