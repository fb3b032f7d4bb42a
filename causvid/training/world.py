"""Shards of diorama latents: render, encode, caption. Where the pocket model's data come from.

A shard depends on its index and the codec alone, so any process may render any shard, and new
ones can be added while a training run reads the others.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from causvid.codec import VideoCodec
from causvid.diorama import FPS, Scene, caption, render, render_switch
from causvid.training.data import Clip, shard_path, write_shard

logger = logging.getLogger(__name__)


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
        turn: the latent that is the first one to show it.
    """

    clips: int = 250
    latents: int = 9
    height: int = 128
    width: int = 224
    captions: int = 8
    late_share: float = 0.5
    late_seconds: float = 10.0
    turned_share: float = 0.4
    turn: int = 5


def render_clip(
    codec: VideoCodec, config: ShardConfig, rng: np.random.Generator, *, turned: bool = False
) -> Clip:
    """One clip of a random scene, encoded as a stream of its own.

    Args:
        turned: whether the scene changes on the way, if the clip is long enough.
    """
    scene = Scene.sample(rng)
    late = bool(rng.random() < config.late_share)
    start = int(rng.integers(1, round(config.late_seconds * FPS))) if late else 0
    seed = int(rng.integers(2**31))
    turn = config.turn if turned and config.turn < config.latents else 0
    then = scene.changed(rng) if turn else scene

    def encoded(start: int, latents: int) -> Tensor:
        """So many latents of the first scene, or with the change that lies among them."""
        stride = codec.temporal_stride
        size = {"height": config.height, "width": config.width, "start": start, "seed": seed}
        size["frames"] = 1 + (latents - 1) * stride
        if 0 < turn < latents:
            pictures = render_switch(scene, then, at=start + 1 + (turn - 1) * stride, **size)
        else:
            pictures = render(scene, **size)
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2)[None].float() / 127.5 - 1
        with torch.inference_mode():
            return codec.encode(pixels, codec.start())[0]

    latents = encoded(start, config.latents)
    opening = encoded(0, 1)[0] if late else None
    captions = tuple(caption(then, rng) for _ in range(config.captions))
    return Clip(latents, captions, late, opening, turn)


def render_shard(codec: VideoCodec, folder: Path, index: int, config: ShardConfig) -> bool:
    """Write shard `index` unless it is there; returns whether it was written."""
    path = shard_path(folder, index)
    if path.exists():
        return False
    rng = np.random.default_rng((index, config.latents))
    # Spread evenly, so that a shard of one or two clips has some that begin anywhere.
    turns = np.diff(np.floor(np.arange(config.clips + 1) * config.turned_share)) > 0
    write_shard(path, [render_clip(codec, config, rng, turned=bool(turn)) for turn in turns])
    logger.info("rendered %s", path)
    return True
