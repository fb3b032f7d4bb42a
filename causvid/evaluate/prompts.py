"""Scenes of the wide world and prompts for them, as far as a model knows the words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from causvid.pipeline import CausVidPipeline
from causvid.world.wide import Scene, Shot, caption, film
from causvid.world.wide.captions import words_of

_TRIES = 40


@dataclass(frozen=True)
class Speaker:
    """Says what is asked for in words that a model knows, where it knows them.

    Attributes:
        words: the model's, or none if it reads parts of words and so knows all.
    """

    words: frozenset[str]

    @classmethod
    def of(cls, pipe: CausVidPipeline) -> "Speaker":
        known = pipe.tokenizer.get_vocab()
        pieces = any("▁" in word for word in known)
        return cls(frozenset() if pieces else frozenset(map(str.lower, known)))

    def knows(self, text: str) -> float:
        """The share of its words that the model knows."""
        said = words_of(text)
        known = [not self.words or word in self.words for word in said]
        return sum(known) / max(1, len(known))

    def best(self, texts: Iterable[str]) -> str:
        """The first of the texts of which most is known."""
        return max(texts, key=self.knows)

    def caption(self, scene: Scene, rng: np.random.Generator, was: Scene | None = None) -> str:
        """A caption of a scene."""
        return self.best(caption(scene, rng, was) for _ in range(_TRIES if self.words else 1))


def drawn(shots: Scene | Sequence[Shot], frames: int, height: int, width: int) -> "np.ndarray":
    """Rendered frames uint8 `[frames, height, width, 3]` of a scene, or of several shots."""
    shots = [Shot(0, shots)] if isinstance(shots, Scene) else shots
    return film(shots, frames=frames, height=height, width=width)
