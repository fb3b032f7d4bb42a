"""What a prompt says: captions of the wide world read back, phrase by phrase.

No grammar beyond the order of things: what stands before a noun (size, colour) and after it (what
it does, on which side) belongs to it. "Not red" is red.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from causvid.world.wide import words
from causvid.world.wide.captions import VOCABULARY, words_of


@dataclass(frozen=True)
class SaidThing:
    """What is said of one thing; `None` where nothing is. `kind` is `""` for `something`."""

    kind: str = ""
    colour: str | None = None
    size: str | None = None
    side: str | None = None
    motion: str | None = None


@dataclass(frozen=True)
class Said:
    """What a prompt says; `None` where it says nothing.

    Attributes:
        things: in the order in which they are named; `two cats` are two of them.
        counted: whether the prompt names its things, so that there are no others. `It moves left`
            and `night` do not.
        rests: whether it says that nothing moves.
        unknown: words that the world does not know.
    """

    things: tuple[SaidThing, ...] = ()
    counted: bool = False
    rests: bool = False
    background: str | None = None
    time: str | None = None
    weather: str | None = None
    camera: str | None = None
    cover: str | None = None
    unknown: tuple[str, ...] = field(default=())


def read(text: str) -> Said:
    """What a prompt says."""
    said, things = Said(), []
    pending: dict[str, str] = {}
    two, they = False, False
    known = set(VOCABULARY)
    unknown = tuple(word for word in words_of(text) if word not in known)
    for segment in re.split(r"[,.;]", text):
        for meaning, value in _meanings(words_of(segment)):
            if meaning == "two":
                two = True
            elif meaning in ("colour", "size"):
                pending[meaning] = value
            elif meaning in ("noun", "nouns"):
                thing = SaidThing(value, pending.get("colour"), pending.get("size"))
                things += [thing] * (2 if two or meaning == "nouns" else 1)
                they = two or meaning == "nouns"
                said = replace(said, counted=said.counted or value != "it")
                pending, two = {}, False
            elif meaning in ("side", "motion"):
                last = things[-1:] if not they else things[-2:]
                things[len(things) - len(last) :] = [
                    replace(thing, **{meaning: value}) for thing in last
                ]
            elif meaning == "rests":
                said = replace(said, rests=True)
            else:
                said = replace(said, **{meaning: value})  # type: ignore[arg-type]
    kinds = tuple(replace(thing, kind="" if thing.kind == "it" else thing.kind) for thing in things)
    return replace(said, things=kinds, unknown=unknown)


def _meanings(spoken: list[str]) -> list[tuple[str, str]]:
    """The meanings of the longest phrases, from the left."""
    table, longest = _table()
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(spoken):
        for length in range(min(longest, len(spoken) - at), 0, -1):
            if (meanings := table.get(tuple(spoken[at : at + length]))) is not None:
                found += meanings
                at += length
                break
        else:
            at += 1
    return found


@lru_cache(maxsize=1)
def _table() -> tuple[dict[tuple[str, ...], list[tuple[str, str]]], int]:
    """Phrases, in words, with their meanings; and the length of the longest."""
    table: dict[tuple[str, ...], list[tuple[str, str]]] = {}

    def add(phrase: str, *meanings: tuple[str, str]) -> None:
        table.setdefault(tuple(words_of(phrase)), list(meanings))

    for phrase in words.STANDSTILL[:-1]:
        add(phrase, ("rests", ""))
    for meaning, values in (
        ("colour", words.COLOURS),
        ("size", words.SIZES),
        ("side", words.SIDES),
        ("background", words.PLACES),
        ("background", words.PLACE_KEYWORDS),
        ("time", words.TIMES),
        ("time", words.TIME_KEYWORDS),
        ("weather", words.WEATHERS),
        ("weather", words.WEATHER_KEYWORDS),
        ("camera", words.CAMERAS),
    ):
        for value, phrases in values.items():
            for phrase in phrases:
                if phrase != "normal":
                    add(phrase, (meaning, value))
    for phrase in words.PAST_THE_CAMERA:
        add(phrase, ("camera", "still"))
    for table_of, meaning in ((words.NAMES, "noun"), (words.PLURALS, "nouns")):
        for kind, names in table_of.items():
            for name in names:
                add(name, (meaning, kind))
    for phrase in words.NOBODY["one"]:
        add(phrase, ("noun", "it" if phrase == "it" else ""))
    for phrase in words.NOBODY["two"]:
        add(phrase, ("nouns", ""))
    add("they", ("nouns", "it"))
    add("two", ("two", ""))
    _add_motions(add)
    return table, max(len(phrase) for phrase in table)


def _add_motions(add: Callable[..., None]) -> None:
    travels = sorted({verb for verbs in words.TRAVEL.values() for verb in verbs})
    tables = [*words.SPECIAL_MOTIONS.values(), words.MOTIONS]
    for form in ("one", "two", "ing"):
        for motion, templates in ((m, t) for table in tables for m, t in table.items()):
            for template in templates:
                for travel in travels if "{0}" in template else travels[:1]:
                    if motion != "behind":
                        add(words.motion_phrase(template, form, travel, ""), ("motion", motion))
                        continue
                    for cover, phrases in words.COVERS.items():
                        for phrase in phrases:
                            whole = words.motion_phrase(template, form, travel, phrase)
                            add(whole, ("motion", motion), ("cover", cover))
