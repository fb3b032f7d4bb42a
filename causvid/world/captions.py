"""The language of the diorama: scenes to captions by a small grammar, and prompts back to scenes.

Every attribute is carried by single words, whatever their order, so a prompt can be read back word
by word. An attribute that a caption leaves out has the default value of :class:`Scene` (a boat's
ground is the sea). Nothing here understands grammar: "not red" is red.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from causvid.world.scene import ATTRIBUTES, GROUNDS_OF, MOTIONS_OF, Scene

_OBJECT_NAMES = {
    "ball": ("ball", "ball", "beachball"),
    "balloon": ("balloon", "balloon", "hot air balloon"),
    "car": ("car", "car", "automobile"),
    "boat": ("boat", "boat", "sailboat", "ship"),
    "bird": ("bird", "bird", "songbird"),
    "rocket": ("rocket", "rocket", "spaceship"),
}
_COLOUR_NAMES = {
    "red": ("red", "red", "red", "crimson"),
    "orange": ("orange",),
    "yellow": ("yellow", "yellow", "yellow", "golden"),
    "green": ("green", "green", "green", "emerald"),
    "blue": ("blue", "blue", "blue", "azure"),
    "purple": ("purple", "purple", "violet"),
}
# Each place with the preposition of something that is there; the plainest first.
_PLACES = {
    "meadow": ("in the meadow", "in a meadow", "on the grass", "in a field", "on the grassland"),
    "sea": ("on the sea", "on the sea", "on the ocean", "on the water", "on the waves"),
    "desert": ("in the desert", "in the desert", "in the dunes", "on the sand"),
    "snow": ("in the snow", "in the snow", "in a snowy field", "on snowy ground", "on the ice"),
}
_ABOVE = ("over", "over", "above", "across")
_TIME_PHRASES = {
    "day": (
        "by day",
        "in the daytime",
        "at noon",
        "during the day",
        "in daylight",
        "on a sunny day",
    ),
    "sunset": ("at sunset", "at sunset", "at dusk", "in the evening", "at sundown"),
    "night": (
        "at night",
        "at night",
        "at midnight",
        "under the stars",
        "in the moonlight",
        "on a starry night",
    ),
}
_WEATHER_PHRASES = {
    "clear": ("under a clear sky", "in clear weather", "with a cloudless sky"),
    "rain": ("in the rain", "in the rain", "while it rains", "in rainy weather", "with raindrops"),
    "snowfall": ("in snowfall", "while it snows", "with snowflakes", "in a snowstorm"),
}
_TRAVEL = {
    "ball": ("rolls", "rolling"),
    "balloon": ("drifts", "drifting"),
    "car": ("drives", "driving"),
    "boat": ("sails", "sailing"),
    "bird": ("flies", "flying"),
    "rocket": ("flies", "flying"),
}
_MOTION_PHRASES = {
    "left": ("{0} to the left", "{0} left", "{1} left", "moves left", "moving to the left"),
    "right": ("{0} to the right", "{0} right", "{0}", "{1}", "moves right", "moving to the right"),
    "rise": ("rises", "rises", "rising", "climbs", "goes up", "moving up"),
    "fall": ("falls", "falls", "falling", "descends", "comes down", "moving down"),
    "bounce": ("bounces", "bounces", "bouncing", "jumps", "hops"),
    "still": ("is still", "stands still", "stays still", "rests", "waits", "resting"),
}
_SPECIAL_MOTIONS = {
    ("balloon", "rise"): ("floats up",),
    ("balloon", "still"): ("hovers", "floats", "hovering", "floating"),
    ("balloon", "left"): ("floats left",),
    ("balloon", "right"): ("floats right",),
    ("bird", "still"): ("hovers", "hovering"),
    ("bird", "rise"): ("flies up",),
    ("bird", "fall"): ("flies down",),
    ("boat", "bounce"): ("bobs", "rocks"),
    ("car", "still"): ("is parked", "parked"),
    ("rocket", "rise"): ("takes off", "launches"),
    ("rocket", "fall"): ("lands", "landing"),
}
_KEYWORDS: dict[str, Mapping[str, Any]] = {
    "ground": {
        "meadow": ("meadow", "grass", "field"),
        "sea": ("sea", "ocean", "water"),
        "desert": ("desert", "dunes", "sand"),
        "snow": ("snow", "snowy", "ice"),
    },
    "time": {
        "day": ("day", "daytime", "noon"),
        "sunset": ("sunset", "dusk", "evening"),
        "night": ("night", "midnight", "moonlight"),
    },
    "weather": {
        "clear": ("clear", "clear sky"),
        "rain": ("rain", "rainy", "raining"),
        "snowfall": ("snowfall", "snowing", "snowflakes"),
    },
    "motion": {
        "left": ("left", "moving left", "to the left"),
        "right": ("right", "moving right", "to the right"),
        "rise": ("rising", "up"),
        "fall": ("falling", "down"),
        "bounce": ("bouncing", "jumping"),
        "still": ("still", "resting"),
    },
}

_MEANINGS: dict[str, tuple[str, str]] = {
    word: (attribute, value)
    for attribute, values in {
        "object": {
            "ball": "ball beachball",
            "balloon": "balloon",
            "car": "car automobile",
            "boat": "boat sailboat ship",
            "bird": "bird songbird",
            "rocket": "rocket spaceship",
        },
        "colour": {name: " ".join(words) for name, words in _COLOUR_NAMES.items()},
        "ground": {
            "meadow": "meadow grass field grassland",
            "sea": "sea ocean water waves",
            "desert": "desert dunes sand",
            "snow": "snow snowy ice",
        },
        "time": {
            "day": "day daytime noon daylight sunny",
            "sunset": "sunset dusk evening sundown",
            "night": "night midnight stars starry moonlight",
        },
        "weather": {
            "clear": "clear cloudless",
            "rain": "rain rains rainy raining raindrops",
            "snowfall": "snowfall snows snowing snowflakes snowstorm",
        },
        "motion": {
            "left": "left",
            "right": "right",
            "rise": "rises rising climbs up takes off launches",
            "fall": "falls falling descends down lands landing",
            "bounce": "bounces bouncing jumps jumping hops bobs rocks",
            "still": "still stands stays rests resting waits hovers hovering parked",
        },
    }.items()
    for value, words in values.items()
    for word in words.split()
}

_MOVING = {word for verbs in _TRAVEL.values() for word in verbs} | {"moves", "moving"}
_FLOATING = {"floats", "floating"}


def defaults_of(kind: str) -> dict[str, str]:
    """What a prompt about this object means where it is silent, except the object itself."""
    scene = Scene.nearest(object=kind)
    return {name: value for name, value in scene.to_dict().items() if name != "object"}


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """A random caption: a sentence, its parts in free order, or a short list of keywords.

    Attributes at their default are often left out, others never.
    """

    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    defaults = defaults_of(scene.object)
    omit_chance = {"colour": 0.1, "ground": 0.4, "time": 0.5, "weather": 0.7, "motion": 0.5}
    said = {
        name: value
        for name, value in scene.to_dict().items()
        if defaults.get(name) != value or rng.random() >= omit_chance[name]
    }
    colour = pick(_COLOUR_NAMES[scene.colour]) if "colour" in said else ""
    subject = f"{colour} {pick(_OBJECT_NAMES[scene.object])}".strip()

    if rng.random() < 0.25:
        parts = [pick(values[said[name]]) for name, values in _KEYWORDS.items() if name in said]
        parts = [parts[i] for i in rng.permutation(len(parts))]
        return ", ".join([subject, *parts])

    subject = pick((_article(subject), _article(subject), f"the {subject}", subject))
    if "motion" in said:
        special = _SPECIAL_MOTIONS.get((scene.object, scene.motion), ())
        phrase = pick(_MOTION_PHRASES[scene.motion] + special * 2)
        subject = f"{subject} {phrase.format(*_TRAVEL[scene.object])}"
    around = []
    if "ground" in said:
        around.append(_placed(scene, pick))
    if "time" in said:
        around.append(pick(_TIME_PHRASES[scene.time]))
    if "weather" in said:
        around.append(pick(_WEATHER_PHRASES[scene.weather]))
    around = [around[i] for i in rng.permutation(len(around))]
    if around and rng.random() < 0.2:
        return f"{around[0]}, {' '.join([subject, *around[1:]])}"
    return " ".join([subject, *around])


def canonical_caption(scene: Scene) -> str:
    """The one full sentence for a scene: every attribute named by its plainest word."""
    motion = _MOTION_PHRASES[scene.motion][0].format(*_TRAVEL[scene.object])
    place = _placed(scene, lambda options: options[0])
    return (
        f"{_article(f'{scene.colour} {scene.object}')} {motion} {place} "
        f"{_TIME_PHRASES[scene.time][0]} {_WEATHER_PHRASES[scene.weather][0]}"
    )


def _placed(scene: Scene, pick: Callable[[tuple[str, ...]], str]) -> str:
    """The place, with a preposition that suits where the object is."""
    at_rest, place = pick(_PLACES[scene.ground]).split(maxsplit=1)
    travels = scene.motion in ("left", "right")
    prepositions: tuple[str, ...]
    aloft = scene.object in ("balloon", "bird") or scene.motion in ("rise", "fall")
    if aloft or (scene.object == "rocket" and travels):
        prepositions = _ABOVE
    elif travels:
        prepositions = (at_rest, "across", "over" if scene.ground == "sea" else "through")
    else:
        prepositions = (at_rest,)
    return f"{pick(prepositions)} {place}"


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def words_of(text: str) -> list[str]:
    """The lower-case words of a text; everything but letters separates."""
    return re.findall(r"[a-z]+", text.lower())


def _all_words() -> tuple[str, ...]:
    words = {"a", "an", "the", "through", *_ABOVE, *_MEANINGS}
    tables: list[Mapping[Any, Any]] = [_OBJECT_NAMES, _COLOUR_NAMES, _PLACES, _TIME_PHRASES]
    tables += [_WEATHER_PHRASES, _TRAVEL, _MOTION_PHRASES, _SPECIAL_MOTIONS, *_KEYWORDS.values()]
    for table in tables:
        for phrases in table.values():
            for phrase in phrases:
                words.update(words_of(phrase))
    return tuple(sorted(words))


VOCABULARY: tuple[str, ...] = _all_words()
"""Every word a caption can contain, sorted. The pocket tokenizer is built from it."""


_KNOWN = frozenset(VOCABULARY)


def unknown_words(prompt: str) -> list[str]:
    """The words of the prompt that no caption uses, in order, each once."""
    return list(dict.fromkeys(word for word in words_of(prompt) if word not in _KNOWN))


def read_prompt(prompt: str) -> dict[str, str]:
    """The attributes that the prompt names, and no others. The first word wins on a conflict.

    "up" together with "down" is a bounce; who "drives" or "flies" without a direction goes right,
    and who "floats" is still.
    """
    words = words_of(prompt)
    found: dict[str, str] = {}
    for word in words:
        if word in _MEANINGS:
            attribute, value = _MEANINGS[word]
            found.setdefault(attribute, value)
    if "up" in words and "down" in words:
        found["motion"] = "bounce"
    elif "motion" not in found:
        if not _MOVING.isdisjoint(words):
            found["motion"] = "right"
        elif not _FLOATING.isdisjoint(words):
            found["motion"] = "still"
    return {name: found[name] for name in ATTRIBUTES if name in found}


def scene_of(prompt: str) -> Scene:
    """The scene that a prompt means: what it names, and defaults for the rest.

    What the object cannot do (a boat in the desert) falls back to the object's default.
    """
    return Scene.nearest(**read_prompt(prompt))


def impossible(prompt: str) -> list[str]:
    """Attributes of the prompt that its object cannot have, as 'ground desert' or 'motion rise'."""
    found = read_prompt(prompt)
    kind = found.get("object", Scene.object)
    tables = {"ground": GROUNDS_OF, "motion": MOTIONS_OF}
    return [
        f"{name} {found[name]}"
        for name, table in tables.items()
        if name in found and found[name] not in table[kind]
    ]
