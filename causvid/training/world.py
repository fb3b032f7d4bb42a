"""Shards of diorama latents: render, encode, caption. Where the pocket model's data come from.

A shard depends on its index and the codec alone, so any process may render any shard, and new
ones can be added while a training run reads the others.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from causvid.model.codec import VideoCodec
from causvid.training.data import Clip, shard_path, write_shard
from causvid.world import FPS, LOOPING, Scene, caption, render, render_switch, return_frame

logger = logging.getLogger(__name__)

Event = Literal["none", "turned", "lost"]


@dataclass(frozen=True)
class ShardConfig:
    """What a shard holds.

    Args:
        clips: number of clips, `latents` latent frames each.
        captions: different captions stored with each clip.
        late_share: how many clips begin when their scene has lasted for a while, up to
            `late_seconds`: a stream goes on where a clip ends.
        turned_share: how many clips change their scene on the way, to a related one, of which
            their captions speak: as a viewer changes a prompt.
        lost_share: how many clips have no object at first, which then comes in as one does that
            had risen or fallen out of the picture. In the world none is ever out of sight, but a
            stream may lose one, and what was never seen to come back never does.
        turn: the latent that is the first one to show the other scene, or the object.
    """

    clips: int = 250
    latents: int = 9
    height: int = 128
    width: int = 224
    captions: int = 8
    late_share: float = 0.5
    late_seconds: float = 10.0
    turned_share: float = 0.4
    lost_share: float = 0.1
    turn: int = 5


def render_clip(
    codec: VideoCodec,
    config: ShardConfig,
    rng: np.random.Generator,
    *,
    event: Event = "none",
) -> Clip:
    """One clip of a random scene, encoded as a stream of its own.

    Args:
        event: what happens on the way, if the clip is long enough: the scene turns into another, or
            an object that was lost comes back.
    """
    turn = config.turn if event != "none" and config.turn < config.latents else 0
    lost = event == "lost" and turn > 0
    before = 1 + (turn - 1) * codec.temporal_stride  # pictures of the latents before `turn`
    scene = Scene.sample(rng)
    while lost and scene.motion not in LOOPING:
        scene = Scene.sample(rng)
    late = lost or bool(rng.random() < config.late_share)
    if lost:
        start = _first_return(scene, config, rng) - before
    else:
        start = int(rng.integers(1, round(config.late_seconds * FPS))) if late else 0
    seed = int(rng.integers(2**31))
    then = scene.changed(rng) if turn and not lost else scene

    def encoded(start: int, latents: int) -> Tensor:
        """So many latents of the first scene, or with the change that lies among them."""
        size = {"height": config.height, "width": config.width, "start": start, "seed": seed}
        size["frames"] = 1 + (latents - 1) * codec.temporal_stride
        if not 0 < turn < latents:
            pictures = render(scene, **size)
        elif lost:
            pictures = render(scene, appears=start + before, **size)
        else:
            pictures = render_switch(scene, then, at=start + before, **size)
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2)[None].float() / 127.5 - 1
        with torch.inference_mode():
            return codec.encode(pixels, codec.start())[0]

    latents = encoded(start, config.latents)
    opening = encoded(0, 1)[0] if late else None
    captions = tuple(caption(then, rng) for _ in range(config.captions))
    return Clip(latents, captions, late, opening, turn)


def _first_return(scene: Scene, config: ShardConfig, rng: np.random.Generator) -> int:
    """A frame at which an object is coming back, a little of it to be seen or more."""
    time = int(rng.integers(1, 3))
    back = return_frame(scene, time, height=config.height, width=config.width)
    return back + int(rng.integers(-2, 10))


def render_shard(codec: VideoCodec, folder: Path, index: int, config: ShardConfig) -> bool:
    """Write shard `index` unless it is there; returns whether it was written."""
    path = shard_path(folder, index)
    if path.exists():
        return False
    rng = np.random.default_rng((index, config.latents))
    # Spread evenly, so that a shard of one or two clips has some that begin anywhere.
    turned = _spread(config.turned_share, config.clips)
    events = np.where(turned, "turned", "none")
    if config.turned_share < 1:
        lost = _spread(config.lost_share / (1 - config.turned_share), int((~turned).sum()))
        events[~turned] = np.where(lost, "lost", "none")
    write_shard(path, [render_clip(codec, config, rng, event=event) for event in events])
    logger.info("rendered %s", path)
    return True


def _spread(share: float, count: int) -> np.ndarray:
    """bool `[count]`, true for a `share` of it, and evenly, beginning with what is not."""
    return np.diff(np.floor(np.arange(count + 1) * share)) > 0
