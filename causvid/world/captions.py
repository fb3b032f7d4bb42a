"""The language of the diorama: scenes to captions by a small grammar.

Every attribute is carried by single words, whatever their order. An attribute that a caption
leaves out has the default value of :class:`Scene` (a boat's ground is the sea).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from causvid.world.scene import Scene


def _phrases(**values: str) -> dict[str, tuple[str, ...]]:
    """Value → phrases for it, written with commas. What is said more often stands there twice."""
    return {value: tuple(phrases.split(", ")) for value, phrases in values.items()}


_OBJECT_NAMES = _phrases(
    ball="ball, ball, beachball",
    balloon="balloon, balloon, hot air balloon",
    car="car, car, automobile",
    boat="boat, boat, sailboat, ship",
    bird="bird, bird, songbird",
    rocket="rocket, rocket, spaceship",
)
_COLOUR_NAMES = _phrases(
    red="red, red, red, crimson",
    orange="orange",
    yellow="yellow, yellow, yellow, golden",
    green="green, green, green, emerald",
    blue="blue, blue, blue, azure",
    purple="purple, purple, violet",
)
# Each place with the preposition of something that is there.
_PLACES = _phrases(
    meadow="in the meadow, in a meadow, on the grass, in a field, on the grassland",
    sea="on the sea, on the sea, on the ocean, on the water, on the waves",
    desert="in the desert, in the desert, in the dunes, on the sand",
    snow="in the snow, in the snow, in a snowy field, on snowy ground, on the ice",
)
_ABOVE = ("over", "over", "above", "across")
_TIME_PHRASES = _phrases(
    day="by day, in the daytime, at noon, during the day, in daylight, on a sunny day",
    sunset="at sunset, at sunset, at dusk, in the evening, at sundown",
    night="at night, at night, at midnight, under the stars, in the moonlight, on a starry night",
)
_WEATHER_PHRASES = _phrases(
    clear="under a clear sky, in clear weather, with a cloudless sky",
    rain="in the rain, in the rain, while it rains, in rainy weather, with raindrops",
    snowfall="in snowfall, while it snows, with snowflakes, in a snowstorm",
)
_TRAVEL = _phrases(
    ball="rolls, rolling",
    balloon="drifts, drifting",
    car="drives, driving",
    boat="sails, sailing",
    bird="flies, flying",
    rocket="flies, flying",
)
# {0} and {1} are the object's way to travel.
_MOTION_PHRASES = _phrases(
    left="{0} to the left, {0} left, {1} left, moves left, moving to the left",
    right="{0} to the right, {0} right, {0}, {1}, moves right, moving to the right",
    rise="rises, rises, rising, climbs, goes up, moving up",
    fall="falls, falls, falling, descends, comes down, moving down",
    bounce="bounces, bounces, bouncing, jumps, hops",
    still="is still, stands still, stays still, rests, waits, resting",
)
_SPECIAL_MOTIONS = {
    "balloon": _phrases(
        rise="floats up",
        still="hovers, floats, hovering, floating",
        left="floats left",
        right="floats right",
    ),
    "bird": _phrases(still="hovers, hovering", rise="flies up", fall="flies down"),
    "boat": _phrases(bounce="bobs, rocks"),
    "car": _phrases(still="is parked, parked"),
    "rocket": _phrases(rise="takes off, launches", fall="lands, landing"),
}
_KEYWORDS = {
    "ground": _phrases(
        meadow="meadow, grass, field",
        sea="sea, ocean, water",
        desert="desert, dunes, sand",
        snow="snow, snowy, ice",
    ),
    "time": _phrases(
        day="day, daytime, noon", sunset="sunset, dusk, evening", night="night, midnight, moonlight"
    ),
    "weather": _phrases(
        clear="clear, clear sky",
        rain="rain, rainy, raining",
        snowfall="snowfall, snowing, snowflakes",
    ),
    "motion": _phrases(
        left="left, moving left, to the left",
        right="right, moving right, to the right",
        rise="rising, up",
        fall="falling, down",
        bounce="bouncing, jumping",
        still="still, resting",
    ),
}
_OMITTED = {"colour": 0.1, "ground": 0.4, "time": 0.5, "weather": 0.7, "motion": 0.5}
"""How often an attribute at its default is left out; others never are."""


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """A random caption: a sentence, its parts in free order, or a short list of keywords."""

    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    defaults = Scene.nearest(object=scene.object).to_dict()
    said = {
        name: value
        for name, value in scene.to_dict().items()
        if name == "object" or defaults[name] != value or rng.random() >= _OMITTED[name]
    }
    colour = pick(_COLOUR_NAMES[scene.colour]) if "colour" in said else ""
    subject = f"{colour} {pick(_OBJECT_NAMES[scene.object])}".strip()

    if rng.random() < 0.25:
        parts = [pick(values[said[name]]) for name, values in _KEYWORDS.items() if name in said]
        parts = [parts[i] for i in rng.permutation(len(parts))]
        return ", ".join([subject, *parts])

    article = f"{'an' if subject[0] in 'aeiou' else 'a'} {subject}"
    subject = pick((article, article, f"the {subject}", subject))
    if "motion" in said:
        special = _SPECIAL_MOTIONS.get(scene.object, {}).get(scene.motion, ())
        phrase = pick(_MOTION_PHRASES[scene.motion] + special * 2)
        subject = f"{subject} {phrase.format(*_TRAVEL[scene.object])}"
    around = []
    if "ground" in said:
        at_rest, place = pick(_PLACES[scene.ground]).split(maxsplit=1)
        around.append(f"{pick(_prepositions(scene, at_rest))} {place}")
    if "time" in said:
        around.append(pick(_TIME_PHRASES[scene.time]))
    if "weather" in said:
        around.append(pick(_WEATHER_PHRASES[scene.weather]))
    around = [around[i] for i in rng.permutation(len(around))]
    if around and rng.random() < 0.2:
        return f"{around[0]}, {' '.join([subject, *around[1:]])}"
    return " ".join([subject, *around])


def _prepositions(scene: Scene, at_rest: str) -> tuple[str, ...]:
    """Those that suit where the object is; `at_rest` is that of something on the ground."""
    travels = scene.motion in ("left", "right")
    aloft = scene.object in ("balloon", "bird") or scene.motion in ("rise", "fall")
    if aloft or (scene.object == "rocket" and travels):
        return _ABOVE
    if travels:
        return at_rest, "across", "over" if scene.ground == "sea" else "through"
    return (at_rest,)


def words_of(text: str) -> list[str]:
    """The lower-case words of a text; everything but letters separates."""
    return re.findall(r"[a-z]+", text.lower())


def _all_words() -> tuple[str, ...]:
    words = {"a", "an", "the", "through", *_ABOVE}
    tables: list[Mapping[Any, Any]] = [_OBJECT_NAMES, _COLOUR_NAMES, _PLACES, _TIME_PHRASES]
    tables += [_WEATHER_PHRASES, _TRAVEL, _MOTION_PHRASES]
    tables += [*_SPECIAL_MOTIONS.values(), *_KEYWORDS.values()]
    for table in tables:
        for phrases in table.values():
            words.update(words_of(" ".join(phrases)))
    return tuple(sorted(words))


VOCABULARY: tuple[str, ...] = _all_words()
"""Every word a caption can contain, sorted. The pocket tokenizer is built from it."""
