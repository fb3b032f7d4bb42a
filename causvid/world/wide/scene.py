"""What a clip of the wide world shows: background, camera, things, time of day and weather.

A :class:`Scene` is the ground truth of every frame and every caption. What it does not name (hues,
heights, exact places, phases, paths) is drawn from its `seed`, so that one caption has many
pictures. This module knows neither pixels nor words.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from causvid.world.wide.catalogue import KINDS

Split = Literal["train", "held_out", "unseen"]
"""`held_out`: combinations of kind, background and time that training never shows. `unseen`: kinds
that training never shows, and so never names; doodles of seeds that it never draws."""

PLACED = (
    "meadow",
    "sea",
    "desert",
    "snow",
    "forest",
    "mountains",
    "beach",
    "city",
    "room",
    "sky",
    "space",
    "underwater",
)
"""Backgrounds with a name."""

SHELTERED = ("space", "underwater", "room")
"""Backgrounds without weather. Space has no time of day, either."""

NAMELESS = ("leaves", "fractal", "gradient", "drawing", "boxes", "collage", "photograph")
"""Backgrounds that no caption speaks of."""

COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
    "grey",
    "turquoise",
)
SIZES = ("small", "normal", "big")
SIDES = ("left", "middle", "right")
CAMERAS = ("still", "left", "right", "up", "down", "in", "out", "follow")
TIMES = ("day", "sunset", "night")
WEATHERS = ("clear", "rain", "snowfall", "fog")
COVERS = ("wall", "bush", "rock", "box")
MOTIONS = (
    "still",
    "left",
    "right",
    "rise",
    "fall",
    "bounce",
    "in",
    "out",
    "behind",
    "grow",
    "shrink",
    "turn",
)

MOTIONS_OF: dict[str, tuple[str, ...]] = {
    "walk": ("still", "left", "right", "bounce", "in", "out", "behind", "grow", "shrink"),
    "roll": ("still", "left", "right", "in", "out", "behind", "grow", "shrink"),
    "fly": ("still", "left", "right", "rise", "fall", "in", "out", "behind", "grow", "shrink"),
    "swim": ("still", "left", "right", "bounce", "in", "out", "behind", "grow", "shrink"),
    "item": ("still", "fall", "bounce", "in", "out", "behind", "grow", "shrink", "turn"),
}
"""How things of each mover can move."""
ROUND = ("ball", "football", "basketball", "volleyball", "baseball")
_TALL = ("up", "down")
_ENDLESS = ("leaves", "fractal", "gradient", "drawing", "collage", "space")
"""Backgrounds that continue above and below, too."""

_LASTING = {
    "rise": 0.8,
    "fall": 0.6,
    "in": 0.8,
    "out": 0.8,
    "grow": 1.2,
    "shrink": 1.2,
}

HELD_KINDS: tuple[str, ...] = (
    *("skunk", "badger", "raccoon", "yak", "poodle", "scorpion", "mosquito", "dove"),
    *("trolleybus", "sled", "canoe", "lobster", "mango", "coconut", "pretzel", "lollipop"),
    *("tulip", "yoyo", "saxophone", "magnet", "bathtub", "axe", "carousel", "compass"),
)
"""Kinds that training never shows or names; few would ask for one."""
COMMON_KINDS: tuple[str, ...] = (
    *("cat", "dog", "horse", "cow", "pig", "sheep", "elephant", "giraffe", "lion", "tiger"),
    *("bear", "panda", "rabbit", "mouse", "monkey", "frog", "duck", "chick", "penguin", "turtle"),
    *("snake", "dinosaur", "dragon", "unicorn", "fox", "robot", "ghost", "alien", "snowman"),
    *("walker", "automobile", "bus", "truck", "tractor", "locomotive", "motorcycle", "bicycle"),
    *("firetruck", "butterfly", "bee", "airplane", "helicopter", "ufo", "owl", "fish", "shark"),
    *("whale", "dolphin", "octopus", "football", "basketball", "apple", "banana", "pear"),
    *("strawberry", "pizza", "hamburger", "cake", "heart", "star", "flower", "rose", "tree"),
    *("house", "smiley", "teddy", "gift"),
)
"""Kinds that people ask for first: half of all sprites."""
TRAINED_KINDS: tuple[str, ...] = tuple(name for name in KINDS if name not in HELD_KINDS)


@dataclass(frozen=True)
class Thing:
    """One object.

    Attributes:
        kind: a name of the catalogue, or `""`: a doodle without a name.
        colour: one of `COLOURS`; `""` for a sprite's own colours.
        side: where it stands, or where the middle of its way is.
    """

    kind: str = "ball"
    colour: str = ""
    size: str = "normal"
    side: str = "middle"
    motion: str = "still"

    def __post_init__(self) -> None:
        _expect("kind", self.kind, ("", *KINDS))
        _expect("colour", self.colour, ("", *COLOURS))
        _expect("size", self.size, SIZES)
        _expect("side", self.side, SIDES)
        _expect("motion", self.motion, MOTIONS)

    @property
    def mover(self) -> str:
        return KINDS[self.kind].mover if self.kind else "item"

    @property
    def motions(self) -> tuple[str, ...]:
        """How a thing of this kind can move."""
        own = MOTIONS_OF[self.mover]
        if not self.kind:
            return tuple(dict.fromkeys((*own, "left", "right", "rise")))
        return (*own, "left", "right") if self.kind in ROUND else own


@dataclass(frozen=True)
class Scene:
    """A clip.

    Attributes:
        things: none, one or two.
        camera: `follow` goes along with things that all travel the same way.
        cover: what stands before things that move behind it; `""` where none does.
        seed: draws whatever is not named here.

    Raises:
        ValueError: if a value is unknown, there are more than two things, the camera follows
            nothing, or something moves behind nothing.
    """

    background: str = "meadow"
    things: tuple[Thing, ...] = ()
    camera: str = "still"
    time: str = "day"
    weather: str = "clear"
    cover: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        _expect("background", self.background, (*PLACED, *NAMELESS))
        _expect("camera", self.camera, CAMERAS)
        _expect("time", self.time, TIMES)
        _expect("weather", self.weather, WEATHERS)
        _expect("cover", self.cover, ("", *COVERS))
        if len(self.things) > 2:
            raise ValueError(f"a scene has at most two things, got {len(self.things)}")
        if self.camera == "follow" and self.heading is None:
            raise ValueError("the camera can follow only things that all travel the same way")
        if any(thing.motion == "behind" for thing in self.things) != bool(self.cover):
            raise ValueError("a scene has a cover if, and only if, something moves behind it")

    @property
    def heading(self) -> str | None:
        """`left` or `right` if that is where all things travel."""
        ways = {thing.motion for thing in self.things}
        return ways.pop() if ways in ({"left"}, {"right"}) else None

    @property
    def named(self) -> bool:
        """Whether the background has a name."""
        return self.background in PLACED

    @property
    def lasting(self) -> float:
        """Seconds during which all that moves surely goes on; infinite for what never ends.

        A clip that begins later shows things that have come, gone or grown already, which is not
        what its captions say.
        """
        motions = [_LASTING.get(thing.motion, math.inf) for thing in self.things]
        zooms = 2.0 if self.camera in ("in", "out") else math.inf
        return min([*motions, zooms])

    def plain(self) -> Scene:
        """The same picture by day and in clear weather."""
        return replace(self, time="day", weather="clear")

    @property
    def split(self) -> Split:
        """By the first named thing (or the camera), the background and the time; one in eight
        combinations is held out."""
        kinds = [thing.kind for thing in self.things]
        if any(kind in HELD_KINDS for kind in kinds):
            return "unseen"
        first = next((kind for kind in kinds if kind), self.camera)
        combination = f"{first} {self.background} {self.time}"
        return "held_out" if zlib.crc32(combination.encode()) % 8 == 0 else "train"

    def to_dict(self) -> dict[str, Any]:
        """Names and values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Scene:
        """The scene that `to_dict` was called on."""
        things = tuple(Thing(**thing) for thing in values["things"])
        return cls(**{**values, "things": things})

    @classmethod
    def sample(cls, rng: np.random.Generator, split: Split = "train") -> Scene:
        """A random scene of a split."""
        while (scene := _draw(rng, split)).split != split:
            pass
        return scene

    def changed(self, rng: np.random.Generator, split: Split = "train") -> Scene:
        """The scene after a prompt changed one or two things about it; its seed stays."""
        while True:
            scene = self
            for _ in range(int(rng.integers(1, 3))):
                scene = _changed_once(scene, rng, split)
            if scene != self and scene.split == split:
                return scene


def sample_scene(seed: int, index: int, split: Split = "train") -> Scene:
    """Scene `index` of the stream `seed`, the same in every process."""
    return Scene.sample(np.random.default_rng((seed, index)), split)


def _expect(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        some = ", ".join(repr(name) for name in allowed[:12])
        raise ValueError(f"{what} is {value!r}, expected one of {some}{' …' * (len(allowed) > 12)}")


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


_TIME_SHARES, _WEATHER_SHARES = (0.56, 0.2, 0.24), (0.58, 0.14, 0.16, 0.12)
_SIZE_SHARES = (0.2, 0.55, 0.25)
_PAINTED = ("ball", "balloon", "car", "boat", "bird", "rocket")


def _draw(rng: np.random.Generator, split: Split) -> Scene:
    placed = rng.random() < 0.55
    background = _pick(rng, PLACED if placed else NAMELESS)
    count = int(rng.choice(3, p=(0.2, 0.52, 0.28)))
    things: list[Thing] = []
    for _ in range(count):
        twin = bool(things) and rng.random() < 0.35
        things.append(_twin(things[0], rng) if twin else _thing(rng, background, split))
    if count == 2:
        sides = [("left", "right"), ("right", "left")][int(rng.integers(2))]
        things = [replace(thing, side=side) for thing, side in zip(things, sides, strict=True)]
        if rng.random() < 0.3 and all(things[0].motion in t.motions for t in things):
            things = [replace(thing, motion=things[0].motion) for thing in things]
    things = [
        replace(thing, motion="still") if index and thing.motion == "behind" else thing
        for index, thing in enumerate(things)  # only the first passes behind the cover
    ]
    scene = Scene(
        background,
        tuple(things),
        time=str(rng.choice(TIMES, p=_TIME_SHARES)) if background != "space" else "day",
        weather=_weather(rng, background),
        cover=_pick(rng, COVERS) if any(t.motion == "behind" for t in things) else "",
        seed=int(rng.integers(2**31)),
    )
    return replace(scene, camera=_camera(rng, scene))


def _thing(rng: np.random.Generator, background: str, split: Split) -> Thing:
    while True:
        choice = rng.random()
        kinds = HELD_KINDS if split == "unseen" else TRAINED_KINDS
        kind = _pick(rng, kinds)
        if split != "unseen":
            kind = _pick(rng, COMMON_KINDS) if choice > 0.68 else kind
            kind = _pick(rng, _PAINTED) if choice < 0.22 else "" if choice < 0.36 else kind
        if kind and not _at_home(KINDS[kind].mover, background) and rng.random() < 0.85:
            continue
        dyed = not kind or KINDS[kind].painted or rng.random() < 0.2
        colour = _pick(rng, COLOURS) if dyed and kind else ""
        thing = Thing(kind, colour, str(rng.choice(SIZES, p=_SIZE_SHARES)), _pick(rng, SIDES))
        return replace(thing, motion=_motion(rng, thing))


def _motion(rng: np.random.Generator, thing: Thing) -> str:
    often = [motion for motion in thing.motions if motion in ("left", "right", "rise")]
    return "still" if rng.random() < 0.22 else _pick(rng, (*thing.motions, *often))


def _at_home(mover: str, background: str) -> bool:
    """Whether one would expect something that moves so at a place."""
    if background in NAMELESS or background == "space":
        return True
    if background in ("sea", "underwater"):
        return mover == "swim" or (mover == "fly" and background == "sea")
    if background == "sky":
        return mover == "fly"
    return mover != "swim"


def _twin(thing: Thing, rng: np.random.Generator) -> Thing:
    """Another of the same kind and size that moves alike."""
    return replace(thing, side=_pick(rng, SIDES))


def _weather(rng: np.random.Generator, background: str) -> str:
    if background in SHELTERED:
        return "clear"
    return str(rng.choice(WEATHERS, p=_WEATHER_SHARES))


def _camera(rng: np.random.Generator, scene: Scene) -> str:
    if scene.heading is not None:
        return "follow" if rng.random() < 0.65 else "still"
    if any(thing.motion not in ("still", "bounce", "turn") for thing in scene.things):
        return "still"
    if rng.random() < (0.3 if not scene.things else 0.6):
        return "still"
    ways = ("left", "right", "left", "right", "in", "out")
    return _pick(rng, (*ways, *_TALL) if scene.background in _ENDLESS else ways)


def _changed_once(scene: Scene, rng: np.random.Generator, split: Split) -> Scene:
    """One step of a change: a new time, weather, camera, motion, colour, thing or background."""
    what = str(
        rng.choice(
            ("time", "weather", "camera", "motion", "colour", "thing", "background"),
            p=(0.2, 0.2, 0.16, 0.2, 0.08, 0.08, 0.08),
        )
    )
    things = scene.things
    if what == "time" and scene.background != "space":
        return replace(scene, time=_pick(rng, TIMES))
    if what == "weather" and scene.background not in SHELTERED:
        return replace(scene, weather=_pick(rng, WEATHERS))
    if what == "background":
        background = _pick(rng, PLACED)  # one that a prompt can ask for
        if background in SHELTERED or scene.background in SHELTERED:
            return scene
        tall = scene.camera in _TALL and background not in _ENDLESS
        camera = "still" if tall else scene.camera
        return replace(scene, background=background, camera=camera)
    if what == "camera":
        return replace(scene, camera=_camera(rng, scene))
    if not things or (scene.cover and what == "motion"):
        return scene
    which = int(rng.integers(len(things)))
    thing = things[which]
    if what == "motion":
        motion = _motion(rng, thing)
        if motion == "behind":
            return scene
        thing = replace(thing, motion=motion)
    elif what == "colour" and thing.colour:
        thing = replace(thing, colour=_pick(rng, COLOURS))
    elif what == "thing":
        other = _thing(rng, scene.background, split)
        motion = thing.motion if thing.motion in other.motions else "still"
        thing = replace(other, side=thing.side, motion=motion)
    things = tuple(thing if index == which else old for index, old in enumerate(things))
    changed = replace(scene, things=things, camera="still")
    return replace(
        changed, camera=scene.camera if _suits(scene.camera, changed) else _camera(rng, changed)
    )


def _suits(camera: str, scene: Scene) -> bool:
    if camera == "follow":
        return scene.heading is not None
    rests = all(thing.motion in ("still", "bounce", "turn") for thing in scene.things)
    return camera == "still" or rests
