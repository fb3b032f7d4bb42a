"""One cue and its written forms: when, which words, how they take over.

The text form is one cue a line, the decoded JSON form a mapping, the table form a list of rows:

    0s: a red car drives through a forest
    4.5s [recache]: the car enters a tunnel
    9s [blend:3]: a sunlit beach

    {"version": 1, "cues": [{"start": 0, "prompt": "a red car …", "handover": "swap"}, …]}
    [[0, "a red car …", "swap"], …]

Reading gives cues in order of time or a `ScheduleError` that names the line or row. This module
does not know chunks; `prompts.py` lays cues on them.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any, Literal, cast

MAX_START = 1e7  # seconds, four months: beyond it a frame count is surely a mistake
MAX_BLEND = 999  # chunks

_LINE_FORM = "'4.5s: a red car' or '4.5s [recache]: a red car'"
_HANDOVER_FORM = f"swap, recache, flush or blend:N with N from 1 to {MAX_BLEND}"
_ROW_FORM = "start, prompt, handover"

_TIME = r"[0-9]+(?:\.[0-9]+)?\s*(?:s|sec|seconds)?|(?:[0-9]+:)?[0-9]{1,2}:[0-9]{2}(?:\.[0-9]+)?"
_HANDOVER = r"swap|recache|flush|blend\s*[:= ]\s*[0-9]{1,3}"
# The colon must not be followed by a digit, or "1:30 a car" would be read as second 1.
_CUE_LINE = re.compile(rf"({_TIME})\s*(?:\[([^\]]*)\]|({_HANDOVER}))?\s*:(?![0-9])\s*(.*)", re.I)
# A text that begins like this is meant as a schedule even if every colon was forgotten, or the
# only time is negative.
_MEANT_AS_TIME = re.compile(
    rf"0+(?:\.0+)?\s*s\b|0+:00\b|0+(?:\.0+)?\s*\[|-\s*(?:{_TIME})\s*[\[:]", re.I
)

# Timed prompts as other programs write them: ranges, subtitles, frames in JSON without its braces,
# decimal commas; and several cues on one line. None of them is one prompt.
_ANY_TIME = r"[0-9]+(?:[:.,][0-9]+)*\s*(?:s|sec|seconds)?"
_FOREIGN = re.compile(
    rf"""\s*(?:(?:shot|scene|clip|part|cue)\s*[0-9]*\s*:?\s*)?[(\[]?\s*{_ANY_TIME}
        \s*(?:[-–—~]+>?|\bto\b|\.\.+)\s*{_ANY_TIME}\s*(?:[)\]]\s*:?|[:|]|$)
    | \s*[(\[]\s*{_ANY_TIME}\s*[:)\]]
    | \s*["'][0-9]+["']\s*:
    | \s*[0-9]+,[0-9]+\s*(?:s|sec|seconds)?\s*[\[:]
    | \s*(?:shot|scene|clip|part|cue)\s*[0-9]*\s*[(\[@]\s*{_ANY_TIME}""",
    re.I | re.X,
)
_INSIDE = re.compile(
    r"(?<![\w:.,-])[0-9]+(?:[.,][0-9]+)?\s*(?:s|sec|seconds)\s*(?:\[[^\]]*\]\s*)?:(?![0-9])", re.I
)


class ScheduleError(ValueError):
    """A schedule that cannot be used. `place` names the offending line, row or cue, if any."""

    def __init__(self, message: str, place: str | None = None):
        super().__init__(f"{place}: {message}" if place else message)
        self.message = message
        self.place = place


@dataclass(frozen=True)
class Handover:
    """How a prompt takes over from the one before it.

    swap: the new text from this chunk on; what was generated is remembered as it was.
    recache: also rebuild the window's keys and values under the new text.
    flush: forget the window except the sink and the last frame.
    blend: `chunks` chunks of interpolated embeddings come first.

    Raises:
        ScheduleError: if `chunks` is missing from a blend, or given for anything else.
    """

    kind: Literal["swap", "recache", "flush", "blend"] = "swap"
    chunks: int = 0

    def __post_init__(self):
        if self.kind == "blend":
            possible = 1 <= self.chunks <= MAX_BLEND
        else:
            possible = self.kind in ("swap", "recache", "flush") and self.chunks == 0
        if not possible:
            raise ScheduleError(
                f"hand-over {self.kind!r} over {self.chunks} chunks is not possible; "
                f"expected {_HANDOVER_FORM}"
            )

    def __str__(self) -> str:
        return f"blend:{self.chunks}" if self.kind == "blend" else self.kind

    @classmethod
    def parse(cls, text: str) -> "Handover":
        """Read `swap`, `recache`, `flush` or `blend:N`; an empty text is `swap`."""
        words = text.strip().lower() or "swap"
        if re.fullmatch(_HANDOVER, words) is None:
            raise ScheduleError(f"hand-over {text[:40]!r} is unknown; expected {_HANDOVER_FORM}")
        if not words.startswith("blend"):
            return cls(cast(Any, words))
        return cls("blend", int(words.removeprefix("blend").strip(" :=")))

    def weight(self, age: int) -> float:
        """Share in (0, 1] of the new prompt, `age` chunks after the one where it took over.

        `blend:N` gives 1/(N+1), 2/(N+1), …, N/(N+1), then 1: all N chunks are between the two
        prompts, none of them is already pure. The other hand-overs give 1 at once.
        """
        return min(1.0, (age + 1) / (self.chunks + 1))


@dataclass(frozen=True)
class Cue:
    """From `start` seconds on, `prompt` holds. Runs of white space in the prompt become one space,
    and half an emoji, as programs leave it that cut a text, becomes U+FFFD.

    Raises:
        ScheduleError: if the start is no time from 0 to `MAX_START`, or the prompt is empty.
    """

    start: float
    prompt: str
    handover: Handover = Handover()

    def __post_init__(self):
        if isinstance(self.start, bool) or not isinstance(self.start, Real):
            raise ScheduleError(f"start is {self.start!r:.40}; expected seconds")
        if not 0 <= self.start <= MAX_START:  # false for NaN, too
            raise ScheduleError(f"start is {self.start!r:.20} s; expected 0 to {MAX_START:.0f} s")
        if not isinstance(self.prompt, str):
            raise ScheduleError(f"the prompt is {self.prompt!r:.40}; expected some words")
        if not self.prompt.strip():
            raise ScheduleError("the prompt is empty; say what to show")
        object.__setattr__(self, "start", abs(float(self.start)))  # abs: -0.0 is written as 0
        words = " ".join(self.prompt.split()).encode("utf-16", "surrogatepass")
        object.__setattr__(self, "prompt", words.decode("utf-16", "replace"))


def in_order(placed: Sequence[tuple[str, Cue]]) -> tuple[Cue, ...]:
    """Cues sorted by start. Each comes with the place it was written, for the errors.

    Raises:
        ScheduleError: if there is no cue, none at 0 s, or two at the same time.
    """
    if not placed:
        raise ScheduleError("there is no cue; expected at least one, at 0 s")
    placed = sorted(placed, key=lambda item: item[1].start)
    place, first = placed[0]
    if first.start != 0:
        raise ScheduleError(f"the first cue starts at {first.start:g} s; it must be at 0 s", place)
    for (earlier, cue), (place, other) in itertools.pairwise(placed):
        if cue.start == other.start:
            raise ScheduleError(f"starts at {other.start:g} s, and so does {earlier}", place)
    return tuple(cue for _, cue in placed)


def read_text(text: str) -> tuple[Cue, ...]:
    """Cues from the text form, one a line.

    Times may be written `4.5s`, `4.5 sec`, `4.5` or `1:30`; the brackets around the hand-over
    may be left out. Blank lines and lines that begin with `#` are skipped. A text in which no line
    is a cue is one prompt at 0 s.

    Raises:
        ScheduleError: names the line.
    """
    lines = [
        (f"line {number}", line.strip())
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise ScheduleError(f"there is no prompt; expected words, or lines such as {_LINE_FORM}")
    matches = [_CUE_LINE.fullmatch(line) for _, line in lines]
    for (place, line), match in zip(lines, matches, strict=True):
        meant = match is None and (_FOREIGN.match(line) or len(_INSIDE.findall(line)) > 1)
        several = len(lines) == 1 and match is not None and _INSIDE.search(match.group(4), 1)
        if meant or several:
            raise ScheduleError(
                f"{line[:60]!r} has times in another form; expected one cue a line, {_LINE_FORM}",
                place,
            )
    if not any(matches) and not _MEANT_AS_TIME.match(lines[0][1]):
        return (Cue(0.0, " ".join(line for _, line in lines)),)
    placed = []
    for (place, line), match in zip(lines, matches, strict=True):
        if match is None:
            raise ScheduleError(f"{line[:60]!r} is not a cue; expected {_LINE_FORM}", place)
        time, bracketed, bare, prompt = match.groups()
        placed.append((place, _read_cells(place, time, prompt, bracketed or bare)))
    return in_order(placed)


def read_decoded(data: object) -> tuple[Cue, ...]:
    """Cues from decoded JSON: `{"version": 1, "cues": [...]}` or the list alone.

    The list may also be called `prompts`. Its rows are mappings or `[start, prompt, handover]`
    with an optional hand-over; starts may be texts such as "1:30". Rows in which every cell is
    empty are skipped: editable tables hold such rows.

    Raises:
        ScheduleError: names the row, counted from 1.
    """
    if isinstance(data, Mapping):
        if "request" in data:
            raise ScheduleError(
                "this is the manifest of a video, not a schedule; its schedule is request.prompts, "
                "and `generate --manifest FILE` makes the video again"
            )
        if (version := data.get("version", 1)) != 1:
            raise ScheduleError(f"schedule version is {version!r:.20}; expected 1")
        found = data.get("cues", data.get("prompts"))
        data = data if found is None else found
    if isinstance(data, str) or not isinstance(data, Sequence):
        raise ScheduleError(
            f'got {data!r:.60}; expected {{"version": 1, "cues": [{{"start": 0, "prompt": "…"}}]}}'
        )
    placed = []
    for number, row in enumerate(data, start=1):
        place = f"row {number}"
        if isinstance(row, Mapping):
            if unknown := [key for key in row if key not in ("start", "prompt", "handover")]:
                raise ScheduleError(f"key {unknown[0]!r} is unknown; expected {_ROW_FORM}", place)
            row = [row.get("start"), row.get("prompt"), row.get("handover")]
        if isinstance(row, str) or not isinstance(row, Sequence) or len(row) not in (2, 3):
            raise ScheduleError(f"got {row!r:.60}; expected {_ROW_FORM}", place)
        if any(cell not in (None, "") for cell in row):
            placed.append((place, _read_cells(place, *row)))
    return in_order(placed)


def write_text(cues: Sequence[Cue]) -> str:
    """The text form, which `read_text` reads back exactly."""
    lines = []
    for cue in cues:
        start = Decimal(str(_shortest(cue.start)))  # writes out what a float prints as 1e-05
        handover = "" if cue.handover.kind == "swap" else f" [{cue.handover}]"
        lines.append(f"{start:f}s{handover}: {cue.prompt}\n")
    return "".join(lines)


def write_decoded(cues: Sequence[Cue]) -> dict:
    """The JSON form, decoded, which `read_decoded` reads back exactly."""
    rows = [
        {"start": _shortest(cue.start), "prompt": cue.prompt, "handover": str(cue.handover)}
        for cue in cues
    ]
    return {"version": 1, "cues": rows}


def _shortest(seconds: float) -> int | float:
    return int(seconds) if seconds.is_integer() else seconds


def _read_cells(place: str, start: Any, prompt: Any, handover: object = None) -> Cue:
    try:
        if not isinstance(handover, str | None):
            raise ScheduleError(f"hand-over is {handover!r:.40}; expected {_HANDOVER_FORM}")
        seconds = _read_time(start) if isinstance(start, str) else start
        return Cue(seconds, "" if prompt is None else prompt, Handover.parse(handover or ""))
    except ScheduleError as error:
        raise ScheduleError(error.message, place) from None


def _read_time(text: str) -> float:
    """Seconds from `4.5`, `4.5s`, `1:30` or `1:02:03.5`."""
    if not re.fullmatch(_TIME, text.strip(), re.I):
        raise ScheduleError(f"start is {text[:40]!r}; expected seconds such as 4.5s, or 1:30")
    parts = [float(part) for part in text.lower().strip(" second").split(":")]
    if len(parts) > 1 and max(parts[1:]) >= 60:
        raise ScheduleError(f"start is {text[:40]!r}; expected less than 60 after a colon")
    return sum(part * 60**power for power, part in enumerate(reversed(parts)))
