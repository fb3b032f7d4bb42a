"""Captioned clips of the wide world, by number: what training, tests and contact sheets draw."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causvid.world.wide.captions import caption
from causvid.world.wide.film import FPS, HEIGHT, WIDTH, Shot, Truth, film, film_with_truth
from causvid.world.wide.scene import Scene, Split

FORMATS: dict[str, tuple[int, int]] = {
    "landscape": (HEIGHT, WIDTH),
    "portrait": (WIDTH, HEIGHT),
    "square": (240, 240),
}
"""Height and width of each format."""


@dataclass(frozen=True)
class Script:
    """A clip before it is drawn.

    Attributes:
        shots: one, or two where the prompt changes.
        captions: several for every shot.
    """

    shots: tuple[Shot, ...]
    captions: tuple[tuple[str, ...], ...]

    def draw(
        self, frames: int, *, height: int = HEIGHT, width: int = WIDTH, start: int = 0
    ) -> NDArray[np.uint8]:
        """Frames `start` to `start + frames`: uint8 `[frames, height, width, 3]`."""
        return film(self.shots, frames=frames, height=height, width=width, start=start)

    def draw_with_truth(
        self, frames: int, *, height: int = HEIGHT, width: int = WIDTH, start: int = 0
    ) -> tuple[NDArray[np.uint8], Truth]:
        """The same, and what is where in it."""
        return film_with_truth(self.shots, frames=frames, height=height, width=width, start=start)


def script(
    seed: int, index: int, *, split: Split = "train", turn: int = 0, captions: int = 8
) -> Script:
    """Clip `index` of the stream `seed`: the same in every process, whatever was drawn before.

    Args:
        turn: frame at which its scene changes as a prompt changes it; 0 if it does not.
        captions: how many for every shot.
    """
    rng = np.random.default_rng((seed, index))
    scenes = [Scene.sample(rng, split)]
    if turn:
        scenes.append(scenes[0].changed(rng, split))
    shots = tuple(Shot(turn * number, scene) for number, scene in enumerate(scenes))
    before = (None, *scenes)
    said = tuple(
        tuple(caption(scene, rng, was) for _ in range(captions))
        for scene, was in zip(scenes, before, strict=False)
    )
    return Script(shots, said)


def spread(scene: Scene, count: int) -> list[Scene]:
    """The scene with other seeds: what the same caption may show as well."""
    seeds = np.random.default_rng((scene.seed, 909)).integers(2**31, size=count)
    return [Scene(**{**vars(scene), "seed": int(seed)}) for seed in seeds]


__all__ = ["FORMATS", "FPS", "Script", "script", "spread"]
