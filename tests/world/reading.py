"""Captions read back: what a prompt of the world's words means, word by word.

The oracle of the captions' laws, and of the app's examples. It understands no grammar: "not red"
is red.
"""

from causvid.world import ATTRIBUTES, VOCABULARY, Scene
from causvid.world.captions import words_of
from causvid.world.scene import CHOICES_OF

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
        "colour": {
            "red": "red crimson",
            "orange": "orange",
            "yellow": "yellow golden",
            "green": "green emerald",
            "blue": "blue azure",
            "purple": "purple violet",
        },
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

_TRAVEL = "rolls rolling drifts drifting drives driving sails sailing flies flying"
_MOVING = {"moves", "moving", *_TRAVEL.split()}
_FLOATING = {"floats", "floating"}


def canonical_caption(scene: Scene) -> str:
    """A full sentence for a scene: every attribute named by its plainest word."""
    doing = {
        **{"left": "moves left", "right": "moves right", "rise": "rises", "fall": "falls"},
        **{"bounce": "bounces", "still": "is still"},
    }
    weather = {"clear": "in clear weather", "rain": "in the rain", "snowfall": "in snowfall"}
    return (
        f"the {scene.colour} {scene.object} {doing[scene.motion]} over the {scene.ground} "
        f"{'by' if scene.time == 'day' else 'at'} {scene.time} {weather[scene.weather]}"
    )


def unknown_words(prompt: str) -> list[str]:
    """The words of the prompt that no caption uses, in order, each once."""
    return list(dict.fromkeys(word for word in words_of(prompt) if word not in VOCABULARY))


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
    return [
        f"{name} {found[name]}"
        for name, table in CHOICES_OF.items()
        if name in found and found[name] not in table[kind]
    ]
