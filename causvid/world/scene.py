"""What a diorama clip shows: six attributes, which of them go together, and the held-out split.

A :class:`Scene` is the ground truth of every frame rendered from it and of every caption written
for it. This module knows neither pixels nor words.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Literal

import numpy as np

Split = Literal["train", "held_out"]

OBJECTS = ("ball", "balloon", "car", "boat", "bird", "rocket")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
GROUNDS = ("meadow", "sea", "desert", "snow")
TIMES = ("day", "sunset", "night")
WEATHERS = ("clear", "rain", "snowfall")
MOTIONS = ("still", "left", "right", "rise", "fall", "bounce")

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "object": OBJECTS,
    "colour": COLOURS,
    "ground": GROUNDS,
    "time": TIMES,
    "weather": WEATHERS,
    "motion": MOTIONS,
}

MOTIONS_OF: dict[str, tuple[str, ...]] = {
    "ball": ("still", "left", "right", "fall", "bounce"),
    "balloon": ("still", "left", "right", "rise", "fall"),
    "car": ("still", "left", "right", "bounce"),
    "boat": ("still", "left", "right", "bounce"),
    "bird": ("still", "left", "right", "rise", "fall"),
    "rocket": ("still", "left", "right", "rise", "fall"),
}

GROUNDS_OF: dict[str, tuple[str, ...]] = {
    "ball": GROUNDS,
    "balloon": GROUNDS,
    "car": ("meadow", "desert", "snow"),
    "boat": ("sea",),
    "bird": GROUNDS,
    "rocket": GROUNDS,
}

_HELD_OUT_ONE_IN = 10


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
        for name, table in (("ground", GROUNDS_OF), ("motion", MOTIONS_OF)):
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
            for name, table in (("ground", GROUNDS_OF), ("motion", MOTIONS_OF)):
                if attributes.get(name) not in table[kind]:
                    attributes[name] = table[kind][0]
        return cls(**attributes)

    @classmethod
    def sample(cls, rng: np.random.Generator, split: Split = "train") -> Scene:
        """A random scene of the split: the object first, then each attribute uniformly."""
        if split not in ("train", "held_out"):
            raise ValueError(f"split is {split!r}, expected 'train' or 'held_out'")
        while True:
            kind = _pick(rng, OBJECTS)
            scene = cls(
                object=kind,
                colour=_pick(rng, COLOURS),
                ground=_pick(rng, GROUNDS_OF[kind]),
                time=_pick(rng, TIMES),
                weather=_pick(rng, WEATHERS),
                motion=_pick(rng, MOTIONS_OF[kind]),
            )
            if scene.split == split:
                return scene

    @property
    def split(self) -> Split:
        """Held out for one in ten combinations of object, colour, ground and time."""
        return "held_out" if held_out(self.object, self.colour, self.ground, self.time) else "train"

    def changed(self, rng: np.random.Generator, split: Split = "train") -> Scene:
        """Another scene of the split that differs in one to three attributes, as a user steers."""
        if split not in ("train", "held_out"):
            raise ValueError(f"split is {split!r}, expected 'train' or 'held_out'")
        while True:
            names = rng.permutation(list(ATTRIBUTES))[: rng.integers(1, 4)]
            wanted = {str(name): _pick(rng, ATTRIBUTES[name]) for name in names}
            other = Scene.nearest(**{**self.to_dict(), **wanted})
            if other != self and other.split == split:
                return other

    def replace(self, **attributes: str) -> Scene:
        """This scene with some attributes replaced. Raises ValueError as the constructor does."""
        return replace(self, **attributes)

    def to_dict(self) -> dict[str, str]:
        """Attribute names and values, in the order of ``ATTRIBUTES``."""
        return asdict(self)

    def labels(self) -> tuple[int, ...]:
        """The index of each attribute's value in ``ATTRIBUTES``, for classifiers."""
        return tuple(ATTRIBUTES[f.name].index(getattr(self, f.name)) for f in fields(self))


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


@cache
def held_out(kind: str, colour: str, ground: str, time: str) -> bool:
    """Whether this combination is kept from training. The same on every machine."""
    return zlib.crc32(f"{kind} {colour} {ground} {time}".encode()) % _HELD_OUT_ONE_IN == 0


HELD_OUT: frozenset[tuple[str, str, str, str]] = frozenset(
    (kind, colour, ground, time)
    for kind in OBJECTS
    for colour, ground, time in itertools.product(COLOURS, GROUNDS_OF[kind], TIMES)
    if held_out(kind, colour, ground, time)
)
"""Combinations of object, colour, ground and time that training never samples."""
