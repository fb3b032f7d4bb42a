"""Captioned latents on disk, and batches drawn from them.

A cache is a folder of shards. Each shard is one safetensors file with latents in float16
`[clip, f, c, h, w]` and, in its header, several captions for every clip. Shards are only ever
added, so a run that remembers how many it has opened draws the same batches after a restart, even
if more were rendered meanwhile. This module knows no noise and no network.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True)
class Clip:
    """One clip before it is stored: latents `[f, c, h, w]` and what may be said of it."""

    latents: Tensor
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Batch:
    """Latents `[b, f, c, h, w]` in float32 and one caption each."""

    latents: Tensor
    captions: list[str]


def shard_path(folder: Path, index: int) -> Path:
    return folder / f"shard-{index:05d}.safetensors"


def write_shard(path: Path, clips: list[Clip]) -> None:
    """Store clips of equal length. The file appears under its name only when complete."""
    latents = torch.stack([clip.latents for clip in clips]).half().contiguous()
    captions = json.dumps([clip.captions for clip in clips])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({"latents": latents}, partial, metadata={"captions": captions})
    partial.replace(path)


class LatentCache:
    """The shards of a folder, read through memory maps as batches ask for them.

    Args:
        folder: where the shards lie.
        first_frame_share: how often a window starts at the clip's first latent; the others start
            anywhere. The first latent stands for one picture, all others for several, and a
            model whose window rolls meets both at its start.
    """

    def __init__(self, folder: Path, *, first_frame_share: float = 0.7):
        self.folder = Path(folder)
        self.first_frame_share = first_frame_share
        self._shards: list[tuple[Tensor, list[list[str]]]] = []
        self._ends = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        """Clips in the opened shards."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def shards(self) -> int:
        return len(self._shards)

    def open(self, shards: int | None = None) -> None:
        """Open the first `shards` shards, or all that are there.

        Raises:
            ValueError: if there are fewer, or none.
        """
        available = 0
        while shard_path(self.folder, available).exists():
            available += 1
        wanted = available if shards is None else shards
        if wanted > available or wanted == 0:
            raise ValueError(
                f"{self.folder} holds {available} latent shards, {max(1, wanted)} are needed: "
                "run `python -m causvid train data` first"
            )
        for index in range(self.shards, wanted):
            with safe_open(shard_path(self.folder, index), framework="pt") as file:
                captions = json.loads(file.metadata()["captions"])
                self._shards.append((file.get_tensor("latents"), captions))
        self._ends = np.cumsum([len(captions) for _, captions in self._shards])

    def state_dict(self) -> dict[str, int]:
        return {"shards": self.shards}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Open as many shards as there were, no more."""
        self._shards.clear()
        self.open(int(state["shards"]))

    def batch(
        self, key: tuple[int, ...], *, frames: int, size: int, from_start: bool = False
    ) -> Batch:
        """A batch that depends on `key` and the opened shards alone.

        Args:
            key: non-negative integers, for instance (seed, step, rank).
            frames: latent frames of each window; shorter clips are never drawn.
            size: clips in the batch.
            from_start: whether every window starts at its clip's first latent.

        Raises:
            ValueError: if no clip is that long.
        """
        rng = np.random.default_rng(key)
        if not any(latents.shape[1] >= frames for latents, _ in self._shards):
            raise ValueError(f"no clip in {self.folder} has {frames} latent frames")
        windows, captions = [], []
        while len(windows) < size:
            clip = int(rng.integers(len(self)))
            shard = int(np.searchsorted(self._ends, clip, side="right"))
            latents, texts = self._shards[shard]
            row = clip - int(self._ends[shard]) + len(texts)
            slack = latents.shape[1] - frames
            if slack < 0:
                continue
            first = rng.random() < self.first_frame_share or from_start
            offset = 0 if first else int(rng.integers(slack + 1))
            windows.append(latents[row, offset : offset + frames].float())
            captions.append(texts[row][int(rng.integers(len(texts[row])))])
        return Batch(torch.stack(windows), captions)
