"""Captioned latents on disk, and batches drawn from them.

A cache is a folder of shards, of one picture size each. A shard is one safetensors file with
latents in float16 `[clip, f, c, h, w]`, the first picture of each clip's scene `[clip, c, h, w]`
where that is not its own, and, in its header, several captions for every clip and whether its scene
had begun before. Shards are only ever added, so a run that remembers how many it has opened draws
the same batches after a restart, even if more were rendered meanwhile. This module knows no noise
and no network.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

Begin = Literal["anywhere", "scene", "picture", "sink"]
"""Where windows start, or `"sink"`: with the first picture of their scene, wherever they go on."""


@dataclass(frozen=True)
class Clip:
    """One clip before it is stored: latents `[f, c, h, w]` and what may be said of it.

    Attributes:
        late: whether its scene began before it did.
        opening: the latent `[c, h, w]` of its scene's first picture, where that is not its own.
        turn: the latent with which another scene takes over, the one that captions speak of; 0 if
            none does.
    """

    latents: Tensor
    captions: tuple[str, ...]
    late: bool = False
    opening: Tensor | None = None
    turn: int = 0


@dataclass(frozen=True)
class Batch:
    """Latents `[b, f, c, h, w]` in float32, where the cache keeps them, and one caption each.

    Attributes:
        late: bool `[b]`, whether a clip's scene had begun before it did.
    """

    latents: Tensor
    captions: list[str]
    late: Tensor


class PromptFile:
    """Captions without clips: the lines of a text file.

    Raises:
        ValueError: if it has none.
    """

    def __init__(self, path: Path):
        self.path = path
        self.prompts = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
        if not self.prompts:
            raise ValueError(f"{path} holds no prompts: write one a line")

    def captions(self, key: tuple[int, ...], size: int) -> list[str]:
        rows = np.random.default_rng(key).integers(len(self.prompts), size=size)
        return [self.prompts[row] for row in rows]

    def open(self) -> None:
        return

    def state_dict(self) -> dict[str, int]:
        return {"prompts": len(self.prompts)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if state != self.state_dict():
            raise ValueError(
                f"{self.path} has {len(self.prompts)} prompts, and had {state['prompts']} when "
                "this run began: go on with the same file"
            )


def shard_path(folder: Path, index: int) -> Path:
    return folder / f"shard-{index:05d}.safetensors"


def write_shard(path: Path, clips: list[Clip]) -> None:
    """Store clips of equal length. The file appears under its name only when complete."""
    latents = torch.stack([clip.latents for clip in clips]).half().contiguous()
    tensors = {"latents": latents}
    if any(clip.opening is not None for clip in clips):
        openings = [clip.latents[0] if clip.opening is None else clip.opening for clip in clips]
        tensors["openings"] = torch.stack(openings).half().contiguous()
    about = {
        "captions": json.dumps([clip.captions for clip in clips]),
        "late": json.dumps([clip.late for clip in clips]),
        "turns": json.dumps([clip.turn for clip in clips]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata=about)
    partial.replace(path)


class _Shard(NamedTuple):
    latents: Tensor
    openings: Tensor
    captions: list[list[str]]
    late: list[bool]
    turns: list[int]

    def offsets(self, row: int, frames: int, begin: Begin, last: int) -> range:
        """Where windows of clip `row` may start, see `LatentCache.batch`."""
        slack, turn, late = self.latents.shape[1] - frames, self.turns[row], self.late[row]
        if turn:
            offset = turn - (frames - last)
            fits = begin == "sink" and 0 <= offset <= slack
            return range(offset, offset + 1) if fits else range(0)
        if begin == "scene" and late:
            return range(0)
        if begin in ("scene", "picture"):
            return range(min(slack, 0) + 1)
        return range(int(late and begin == "anywhere"), slack + 1)


class LatentCache:
    """The shards of a folder.

    Args:
        folder: where the shards lie.
        device: where their latents are kept, and batches are drawn.
        first_frame_share: how often a window of a clip that shows its scene from the beginning
            starts at the first latent; the others start anywhere. The first latent stands for
            one picture, all others for several, and a model whose window rolls meets both at its
            start. Windows of late clips leave the first latent out: as the first picture of a
            video would count what lies in the middle of one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        first_frame_share: float = 0.7,
    ):
        self.folder = Path(folder)
        self.device = torch.device(device)
        self.first_frame_share = first_frame_share
        self._shards: list[_Shard] = []
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
                late = json.loads(file.metadata()["late"])
                turns = json.loads(file.metadata().get("turns", "[]")) or [0] * len(late)
                latents = file.get_tensor("latents").to(self.device)
                apart = "openings" in file.keys()  # noqa: SIM118, a file is no mapping
                openings = file.get_tensor("openings") if apart else latents[:, 0]
                openings = openings.to(self.device)
                self._shards.append(_Shard(latents, openings, captions, late, turns))
        self._ends = np.cumsum([len(shard.captions) for shard in self._shards])

    def state_dict(self) -> dict[str, int]:
        return {"shards": self.shards}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Open as many shards as there were, no more."""
        self._shards.clear()
        self.open(int(state["shards"]))

    def captions(self, key: tuple[int, ...], size: int) -> list[str]:
        rng = np.random.default_rng(key)
        texts = [texts for shard in self._shards for texts in shard.captions]
        clips = [texts[row] for row in rng.integers(len(texts), size=size)]
        return [clip[int(rng.integers(len(clip)))] for clip in clips]

    def batch(
        self,
        key: tuple[int, ...],
        *,
        frames: int,
        size: int,
        begin: Begin = "anywhere",
        last: int = 1,
    ) -> Batch:
        """A batch, of one picture size, that depends on `key` and the opened shards alone.

        Args:
            key: non-negative integers, for instance (seed, step, rank).
            frames: latent frames of each window; shorter clips are never drawn.
            size: clips in the batch.
            begin: where every window starts: at the beginning of its scene, at the first picture
                of its clip, or anywhere. `"sink"` is what a stream sees of itself: the scene's
                first picture, then `frames - 1` latents in a row from anywhere in the clip. Clips
                whose scene changes are drawn for it alone.
            last: latents at the end of a window that its caption speaks of, if the scene changes.

        Raises:
            ValueError: if there is no such window.
        """
        rng = np.random.default_rng(key)
        if not any(
            shard.offsets(row, frames, begin, last)
            for shard in self._shards
            for row in range(len(shard.captions))
        ):
            raise ValueError(
                f"no clip in {self.folder} has {frames} latent frames, to begin {begin}"
            )
        windows: list[Tensor] = []
        captions: list[str] = []
        lates: list[bool] = []
        while len(windows) < size:
            clip = int(rng.integers(len(self)))
            shard = int(np.searchsorted(self._ends, clip, side="right"))
            drawn = self._shards[shard]
            texts = drawn.captions
            row = clip - int(self._ends[shard]) + len(texts)
            offsets = drawn.offsets(row, frames, begin, last)
            if not offsets or (windows and drawn.latents.shape[3:] != windows[0].shape[2:]):
                continue
            first = rng.random() < self.first_frame_share
            at_start = begin == "anywhere" and first and 0 in offsets
            offset = 0 if at_start else int(rng.integers(offsets.start, offsets.stop))
            window = drawn.latents[row, offset : offset + frames]
            if begin == "sink":
                window = torch.cat([drawn.openings[row][None], window[1:]])
            windows.append(window)
            captions.append(texts[row][int(rng.integers(len(texts[row])))])
            lates.append(drawn.late[row])
        return Batch(torch.stack(windows).float(), captions, torch.tensor(lates))
