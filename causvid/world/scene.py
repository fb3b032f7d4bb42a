"""What a diorama clip shows: six attributes, which of them go together, and the held-out split.

A :class:`Scene` is the ground truth of every frame rendered from it and of every caption written
for it. This module knows neither pixels nor words.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np

Split = Literal["train", "held_out"]

FPS = 16
HEIGHT, WIDTH = 128, 224
"""Pixels of a clip, unless another size is asked for."""

OBJECTS = ("ball", "balloon", "car", "boat", "bird", "rocket")
GROUNDS = ("meadow", "sea", "desert", "snow")

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "object": OBJECTS,
    "colour": ("red", "orange", "yellow", "green", "blue", "purple"),
    "ground": GROUNDS,
    "time": ("day", "sunset", "night"),
    "weather": ("clear", "rain", "snowfall"),
    "motion": ("still", "left", "right", "rise", "fall", "bounce"),
}

CHOICES_OF: dict[str, dict[str, tuple[str, ...]]] = {
    "ground": {
        **dict.fromkeys(OBJECTS, GROUNDS),
        "car": ("meadow", "desert", "snow"),
        "boat": ("sea",),
    },
    "motion": {
        "ball": ("still", "left", "right", "fall", "bounce"),
        **dict.fromkeys(("balloon", "bird", "rocket"), ("still", "left", "right", "rise", "fall")),
        **dict.fromkeys(("car", "boat"), ("still", "left", "right", "bounce")),
    },
}
"""Where each object can be and how it can move, its default first."""


@dataclass(frozen=True)
class Scene:
    """The attributes of a clip. The defaults are what a prompt means when it leaves them out.

    Raises:
        ValueError: if a value is unknown, or the object cannot be on that ground or move that way.
    """

    object: str = "ball"
    colour: str = "red"
    ground: str = "meadow"
    time: str = "day"
    weather: str = "clear"
    motion: str = "still"

    def __post_init__(self) -> None:
        for name, allowed in ATTRIBUTES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(allowed)}")
        for name, table in CHOICES_OF.items():
            value, allowed = getattr(self, name), table[self.object]
            if value not in allowed:
                raise ValueError(
                    f"a {self.object} cannot have {name} {value!r}, choose one of "
                    f"{', '.join(allowed)} (Scene.nearest does so)"
                )

    @classmethod
    def nearest(cls, **attributes: str) -> Scene:
        """The scene of these attributes; missing or impossible ones take the object's default."""
        unknown = set(attributes) - set(ATTRIBUTES)
        if unknown:
            raise ValueError(f"unknown attributes {sorted(unknown)}, expected {list(ATTRIBUTES)}")
        kind = attributes.get("object", cls.object)
        if kind in OBJECTS:
            for name, table in CHOICES_OF.items():
                if attributes.get(name) not in table[kind]:
                    attributes[name] = table[kind][0]
        return cls(**attributes)

    @classmethod
    def sample(cls, rng: np.random.Generator, split: Split = "train") -> Scene:
        """A random scene of the split: the object first, then each attribute uniformly."""

        def draw() -> Scene:
            kind = _pick(rng, OBJECTS)
            rest = list(ATTRIBUTES.items())[1:]
            options = {name: CHOICES_OF.get(name, {}).get(kind, values) for name, values in rest}
            return cls(kind, **{name: _pick(rng, values) for name, values in options.items()})

        return _first_of(split, draw)

    def changed(self, rng: np.random.Generator, split: Split = "train") -> Scene:
        """Another scene of the split that differs in one to three attributes, as a user steers."""

        def draw() -> Scene:
            names = rng.permutation(list(ATTRIBUTES))[: rng.integers(1, 4)]
            wanted = {str(name): _pick(rng, ATTRIBUTES[name]) for name in names}
            return Scene.nearest(**{**self.to_dict(), **wanted})

        return _first_of(split, draw, other_than=self)

    @property
    def split(self) -> Split:
        """Held out for one in ten combinations of object, colour, ground and time."""
        combination = f"{self.object} {self.colour} {self.ground} {self.time}"
        one_in_ten = zlib.crc32(combination.encode()) % 10 == 0  # the same on every machine
        return "held_out" if one_in_ten else "train"

    def to_dict(self) -> dict[str, str]:
        """Attribute names and values, in the order of ``ATTRIBUTES``."""
        return asdict(self)

    def labels(self) -> tuple[int, ...]:
        """The index of each attribute's value in ``ATTRIBUTES``, for classifiers."""
        return tuple(ATTRIBUTES[name].index(value) for name, value in self.to_dict().items())


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _first_of(split: Split, draw: Callable[[], Scene], other_than: Scene | None = None) -> Scene:
    if split not in get_args(Split):
        raise ValueError(f"split is {split!r}, expected 'train' or 'held_out'")
    while (scene := draw()) == other_than or scene.split != split:
        pass
    return scene
