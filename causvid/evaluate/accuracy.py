"""How far the judge itself can be trusted: its accuracy on rendered clips of held-out scenes."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from causvid.world import ATTRIBUTES, Scene, render
from causvid.world.judge import Judge

_SALT = 77_003
_LATEST_START = 480  # frames; clips begin anywhere in the first half minute


@dataclass(frozen=True)
class Accuracy:
    """Shares read right, for each attribute.

    Attributes:
        clips: how many, all of combinations of which the reader has seen none.
        windows: each window of as many frames as a motion is read from, by itself.
        whole: each clip, all its windows together, as generated clips are judged.
    """

    clips: int
    windows: dict[str, float]
    whole: dict[str, float]


def accuracy(reader: Judge, indices: Iterable[int], *, frames: int, seed: int) -> Accuracy:
    """Over one clip of `frames` frames for each index; at least one."""
    windows: dict[str, list[np.ndarray]] = {name: [] for name in ATTRIBUTES}
    whole: dict[str, list[bool]] = {name: [] for name in ATTRIBUTES}
    for index in indices:
        rng = np.random.default_rng((_SALT, seed, index))
        scene = Scene.sample(rng, "held_out")
        start = int(rng.integers(_LATEST_START))
        clip = render(scene, frames=frames, start=start, seed=int(rng.integers(2**31)))
        reading = reader.assess(clip)
        for name, matches in reading.matches(scene).items():
            windows[name].append(matches)
            whole[name].append(reading.values[name] == getattr(scene, name))
    return Accuracy(
        clips=len(whole["object"]),
        windows={name: float(np.concatenate(flags).mean()) for name, flags in windows.items()},
        whole={name: float(np.mean(flags)) for name, flags in whole.items()},
    )
