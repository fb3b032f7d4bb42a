"""Captions: what may be said of a scene, in sentences of free order, key words or short forms.

What a caption does not say may be anything: a cat may be anywhere. A camera that moves, and weather
or light that are not usual, are nearly always said, as an ordinary prompt means their absence.
"""

import re
from collections.abc import Sequence

import numpy as np

from causvid.world.wide import words
from causvid.world.wide.scene import HELD_KINDS, SHELTERED, Scene, Thing

_SIDE, _SIZE, _PLACE, _TIME, _WEATHER = 0.4, 0.65, 0.75, (0.25, 0.97), (0.12, 0.97)
"""How often each is said; time and weather: by day or in clear weather, and otherwise."""
_STILL, _CAMERA = 0.5, 0.15
"""How often it is said that a thing rests, and that the camera does what it usually does."""
_KEYWORDS, _SHORT = 0.25, 0.12
"""How many captions are lists of key words, and how many only say what happens."""


def caption(scene: Scene, rng: np.random.Generator, was: Scene | None = None) -> str:
    """A random caption of a scene.

    Args:
        was: the scene before it, from which a prompt leads to this one: what differs is said.
    """
    news = _news(scene, was)
    choice = rng.random()
    if choice < _KEYWORDS:
        parts = _keywords(scene, rng, news)
        return (", " if rng.random() < 0.6 else " ").join(parts)
    short = choice < _KEYWORDS + _SHORT and _sayable(scene) and not news & {"things", "place"}
    subject = _happening(scene, rng) if short else _subject(scene, rng, news)
    around = _around(scene, rng, news, place=not short)
    around = [around[i] for i in rng.permutation(len(around))]
    camera = _camera(scene, rng, news)
    standstill = _rests(scene) and rng.random() < (0.5 if not scene.things else 0.12)
    if standstill and not camera:
        camera = _pick(rng, words.STANDSTILL)
    if not subject and not around and not camera:
        camera = (
            _pick(rng, words.STANDSTILL)
            if _rests(scene)
            else _pick(rng, words.CAMERAS[scene.camera])
        )
    if around and rng.random() < 0.2:
        first, *around = around
        text = " ".join([*([subject] if subject else []), *around])
        text = f"{first}, {text}" if text else first
    else:
        text = " ".join([*([subject] if subject else []), *around])
    pieces = [piece for piece in (text, camera) if piece]
    if rng.random() < 0.15:
        pieces.reverse()
    return ", ".join(pieces)


def _news(scene: Scene, was: Scene | None) -> set[str]:
    """What differs from another scene: place, time, weather, camera, things."""
    if was is None:
        return set()
    pairs = {
        "place": (scene.background, was.background),
        "time": (scene.time, was.time),
        "weather": (scene.weather, was.weather),
        "camera": (scene.camera, was.camera),
        "things": (scene.things, was.things),
    }
    return {name for name, (new, old) in pairs.items() if new != old}


def words_of(text: str) -> list[str]:
    """The lower-case words of a text; everything but letters separates."""
    return re.findall(r"[a-z]+", text.lower())


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _rests(scene: Scene) -> bool:
    """Whether neither the camera nor a thing moves."""
    return scene.camera == "still" and all(thing.motion == "still" for thing in scene.things)


def _named(thing: Thing) -> bool:
    return bool(thing.kind) and thing.kind not in HELD_KINDS


def _twins(scene: Scene) -> bool:
    """Whether two things can be told as `two` of them."""
    if len(scene.things) < 2:
        return False
    a, b = scene.things
    return (a.kind, a.colour, a.size, a.motion) == (b.kind, b.colour, b.size, b.motion)


def _noun(thing: Thing, rng: np.random.Generator, two: bool = False, alone: bool = True) -> str:
    """What a thing is called, with its size and colour, without an article."""
    if not _named(thing):
        nobody = words.NOBODY["two" if two else "one"]
        return _pick(rng, nobody if alone else nobody[:2])
    names = (words.PLURALS if two else words.NAMES)[thing.kind]
    noun = _pick(rng, (names[0], names[0], *names))
    parts = [_pick(rng, words.COLOURS[thing.colour])] if thing.colour else []
    if thing.size != "normal" and rng.random() < _SIZE:
        parts.insert(0, _pick(rng, words.SIZES[thing.size]))
    return " ".join([*parts, noun])


def _with_article(noun: str, rng: np.random.Generator) -> str:
    first = noun.split()[0]
    if first in ("something", "it", "a", "two"):
        return noun
    if noun.endswith(("es", "ies", "cks", "oves")):  # grapes, cherries, socks
        return _pick(rng, (noun, f"the {noun}"))
    return _pick(
        rng, (f"{'an' if first[0] in 'aeiou' else 'a'} {noun}",) * 3 + (f"the {noun}", noun)
    )


def _does(scene: Scene, thing: Thing, rng: np.random.Generator, form: str, said: float) -> str:
    """What a thing does, or nothing; that it rests is said with a probability."""
    if thing.motion == "still" and rng.random() >= said:
        return ""
    special = words.SPECIAL_MOTIONS.get(thing.mover, {}).get(thing.motion, ())
    template = _pick(rng, words.MOTIONS[thing.motion] + special * 2)
    travel = _pick(rng, words.travels(thing.kind, thing.mover))
    cover = _pick(rng, words.COVERS[scene.cover]) if scene.cover else ""
    phrase = words.motion_phrase(template, form, travel, cover)
    if scene.heading and scene.camera == "still":
        phrase = f"{phrase} {_pick(rng, words.PAST_THE_CAMERA)}"
    return phrase


def _side(thing: Thing, rng: np.random.Generator) -> str:
    if thing.motion in ("left", "right", "behind") or rng.random() >= _SIDE:
        return ""
    return _pick(rng, words.SIDES[thing.side])


def _subject(scene: Scene, rng: np.random.Generator, news: set[str]) -> str:
    """The things and what they do; nothing where there is none."""
    if not scene.things:
        return ""
    form = "one" if rng.random() < 0.75 else "ing"
    said = 1.0 if "things" in news else _STILL
    if _twins(scene):
        noun = _noun(scene.things[0], rng, two=True)
        noun = noun if noun.startswith("two") else f"two {noun}"
        form = "two" if form == "one" else form
        return " ".join(filter(None, (noun, _does(scene, scene.things[0], rng, form, said))))
    clauses = []
    for thing in scene.things:
        noun = _noun(thing, rng, alone=len(scene.things) == 1)
        noun = _with_article(noun, rng)
        clauses.append(
            " ".join(filter(None, (noun, _does(scene, thing, rng, form, said), _side(thing, rng))))
        )
    if rng.random() < 0.3:
        clauses.reverse()
    return " and ".join(clauses)


def _sayable(scene: Scene) -> bool:
    """Whether `it` or `they` says of all things what they do."""
    moves = any(thing.motion != "still" for thing in scene.things)
    return not moves or len(scene.things) == 1 or _twins(scene)


def _happening(scene: Scene, rng: np.random.Generator) -> str:
    """What goes on in the picture, where the things in it are known: it moves left."""
    moving = [thing for thing in scene.things if thing.motion != "still"]
    if not moving:
        return ""
    if len(scene.things) == 2:
        return f"they {_does(scene, moving[0], rng, 'two', 1.0)}"
    return f"it {_does(scene, moving[0], rng, 'one', 1.0)}"


def _said(rng: np.random.Generator, usual: bool, shares: tuple[float, float]) -> bool:
    return bool(rng.random() < shares[0 if usual else 1])


def _around(
    scene: Scene, rng: np.random.Generator, news: set[str], *, place: bool = True, key: bool = False
) -> list[str]:
    """Place, time and weather, in phrases or key words."""
    around = []
    if scene.named and place and ("place" in news or rng.random() < _PLACE):
        table = words.PLACE_KEYWORDS if key else words.PLACES
        around.append(_pick(rng, table[scene.background]))
    if scene.background != "space" and ("time" in news or _said(rng, scene.time == "day", _TIME)):
        around.append(_pick(rng, (words.TIME_KEYWORDS if key else words.TIMES)[scene.time]))
    clear = scene.weather == "clear"
    if scene.background not in SHELTERED and ("weather" in news or _said(rng, clear, _WEATHER)):
        table = words.WEATHER_KEYWORDS if key else words.WEATHERS
        around.append(_pick(rng, table[scene.weather]))
    return around


def _camera(scene: Scene, rng: np.random.Generator, news: set[str]) -> str:
    if scene.heading and scene.camera == "still":
        return ""  # said by "past the camera"
    usual = scene.camera in ("still", "follow")
    silent = usual and "camera" not in news and rng.random() >= _CAMERA
    return "" if silent else _pick(rng, words.CAMERAS[scene.camera])


def _keywords(scene: Scene, rng: np.random.Generator, news: set[str]) -> list[str]:
    """The things, then everything else in any order."""
    parts: list[str] = []
    said = 1.0 if "things" in news else _STILL / 2
    if _twins(scene):
        noun = _noun(scene.things[0], rng, two=True)
        noun = noun if noun.startswith("two") else f"two {noun}"
        parts.append(
            " ".join(filter(None, (noun, _does(scene, scene.things[0], rng, "ing", said))))
        )
    else:
        for thing in scene.things:
            noun = _noun(thing, rng, alone=len(scene.things) == 1)
            noun = "something" if noun == "it" else noun
            does, side = _does(scene, thing, rng, "ing", said), _side(thing, rng)
            parts.append(" ".join(filter(None, (noun, does, side))))
    if len(scene.things) == 2 and len(parts) == 2:
        parts = [" and ".join(parts)]
    rest = _around(scene, rng, news, key=True)
    if camera := _camera(scene, rng, news):
        rest.append(camera)
    parts += [rest[i] for i in rng.permutation(len(rest))]
    return parts or [_pick(rng, words.STANDSTILL if _rests(scene) else words.CAMERAS[scene.camera])]


def _all_words() -> tuple[str, ...]:
    tables = [words.COLOURS, words.SIZES, words.SIDES, words.PLACES, words.PLACE_KEYWORDS]
    tables += [words.TIMES, words.TIME_KEYWORDS, words.WEATHERS, words.WEATHER_KEYWORDS]
    tables += [words.CAMERAS, words.COVERS, words.NOBODY]
    tables += [
        {kind: names for kind, names in table.items() if kind not in HELD_KINDS}
        for table in (words.NAMES, words.PLURALS)
    ]
    phrases = [phrase for table in tables for values in table.values() for phrase in values]
    phrases += [*words.STANDSTILL, *words.PAST_THE_CAMERA, "a an the and two it they"]
    templates = [t for values in words.MOTIONS.values() for t in values]
    templates += [
        t for table in words.SPECIAL_MOTIONS.values() for values in table.values() for t in values
    ]
    travels = sorted({verb for verbs in words.TRAVEL.values() for verb in verbs})
    for form in ("one", "two", "ing"):
        phrases += [
            words.motion_phrase(t, form, travel, "") for t in templates for travel in travels
        ]
    return tuple(sorted({word for phrase in phrases for word in words_of(phrase)}))


VOCABULARY: tuple[str, ...] = _all_words()
"""Every word a caption can contain, sorted: what the tokenizer is made of."""
