"""What is asked for: fixed prompts, half of them for combinations that training never samples.

A case depends on its index and the seed alone, so a shorter list is the beginning of a longer one.
"""

from dataclasses import dataclass

import numpy as np

from causvid.world import Scene, Split, caption, render

_SALT = 20_412  # sets these draws apart from those of training data with the same seed


@dataclass(frozen=True)
class Case:
    """One prompt and what it means.

    Attributes:
        scene: what the video should show.
        prompt: how it is asked for.
        seed: of the noise.
    """

    scene: Scene
    prompt: str
    seed: int

    @property
    def unseen(self) -> bool:
        """Whether training never sampled this combination."""
        return self.scene.split == "held_out"


@dataclass(frozen=True)
class Change:
    """A case, and what it is to become.

    Attributes:
        before: as it begins.
        after: what it changes to, in one to three attributes.
    """

    before: Case
    after: Case

    @property
    def changed(self) -> tuple[str, ...]:
        """The attributes that differ."""
        then = self.after.scene.to_dict()
        return tuple(
            name for name, value in self.before.scene.to_dict().items() if value != then[name]
        )

    @property
    def kept(self) -> tuple[str, ...]:
        """The attributes that stay."""
        changed = self.changed
        return tuple(name for name in self.before.scene.to_dict() if name not in changed)


def cases(count: int, seed: int) -> list[Case]:
    """The first `count` prompts: every other one is of a held-out combination."""
    return [_case(np.random.default_rng((_SALT, seed, index)), index) for index in range(count)]


def changes(count: int, seed: int) -> list[Change]:
    """The first `count` changes: every other one between held-out combinations."""
    drawn = []
    for index in range(count):
        rng = np.random.default_rng((_SALT, seed, index, 1))
        before = _case(rng, index)
        scene = before.scene.changed(rng, _split(index))
        drawn.append(Change(before, Case(scene, caption(scene, rng), before.seed)))
    return drawn


def rendered(case: Case, frames: int, *, variant: int = 0) -> np.ndarray:
    """The truth, from its beginning: uint8 `[t, h, w, 3]`.

    Args:
        variant: varies what no caption speaks of.
    """
    return render(case.scene, frames=frames, seed=(case.seed + variant) % 2**31)


def _split(index: int) -> Split:
    return "train" if index % 2 else "held_out"


def _case(rng: np.random.Generator, index: int) -> Case:
    scene = Scene.sample(rng, _split(index))
    return Case(scene, caption(scene, rng), int(rng.integers(2**31)))
