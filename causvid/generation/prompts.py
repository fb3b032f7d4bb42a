"""Prompt schedules: which words hold when, laid on chunks.

A `PromptSchedule` is cues in order of time; `cues.py` has their written forms. A schedule never
changes: edits return a new one, and steering by hand is such an edit.

Words can only change where a chunk begins, so `snapped(timeline)` moves every cue to the nearest
chunk boundary (a cue exactly between two goes to the later one) and tells where each went. When
two cues meet on one boundary the later wins, and the other says by which it was replaced.

This module does not know text encoders, caches or streams. It says which prompts are in force with
which weights and which hand-over a chunk begins with; acting on that is the stream's business.
"""

import codecs
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from causvid.generation.cues import (
    Cue,
    Handover,
    ScheduleError,
    in_order,
    read_decoded,
    read_text,
    write_decoded,
    write_text,
)
from causvid.generation.geometry import Timeline

__all__ = [
    "Cue",
    "Handover",
    "PromptSchedule",
    "PromptShare",
    "ScheduleError",
    "SnappedCue",
    "SnappedSchedule",
]

# Of byte order (Unicode 23.8); the mark of UTF-16 is the beginning of that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class PromptShare(NamedTuple):
    """A prompt and its share in (0, 1] of a chunk's text embedding."""

    prompt: str
    weight: float


@dataclass(frozen=True)
class SnappedCue:
    """A cue on the chunk grid: it takes over at the start of `chunk`, `time` seconds in.

    `replaced_by` is the next cue if that snapped to the same chunk; then this one is never seen.
    """

    cue: Cue
    chunk: int
    time: float
    replaced_by: Cue | None = None


@dataclass(frozen=True)
class SnappedSchedule:
    """A schedule on the chunk grid: one entry of `cues` for each cue of the schedule, in order."""

    cues: tuple[SnappedCue, ...]

    @cached_property
    def effective(self) -> tuple[SnappedCue, ...]:
        """The cues that were not replaced, each on a chunk of its own."""
        return tuple(snapped for snapped in self.cues if snapped.replaced_by is None)

    def at(self, chunk: int) -> SnappedCue:
        """The cue in force during `chunk`; during a blend, the one that is coming in."""
        return [snapped for snapped in self.effective if snapped.chunk <= chunk][-1]

    def starting(self, chunk: int) -> SnappedCue | None:
        """The cue that takes over at the start of `chunk`, if one does."""
        return next((snapped for snapped in self.effective if snapped.chunk == chunk), None)

    def mix(self, chunk: int) -> tuple[PromptShare, ...]:
        """The prompts in force during `chunk`, oldest first; their weights add up to 1.

        A cue that cuts into a running blend takes over from the mixture of the chunk before it.
        The first cue has nothing to blend with and holds alone.
        """
        shares: dict[str, float] = {}
        heard = [snapped for snapped in self.effective if snapped.chunk <= chunk]
        ends = [snapped.chunk - 1 for snapped in heard[1:]] + [chunk]
        for snapped, end in zip(heard, ends, strict=True):
            weight = snapped.cue.handover.weight(end - snapped.chunk) if shares else 1.0
            shares = {prompt: (1 - weight) * share for prompt, share in shares.items()}
            shares[snapped.cue.prompt] = shares.get(snapped.cue.prompt, 0.0) + weight
        return tuple(PromptShare(prompt, share) for prompt, share in shares.items() if share)


@dataclass(frozen=True)
class PromptSchedule:
    """Cues in order of time, the first at 0 s. They may be given in any order.

    Raises:
        ScheduleError: if there is no cue, none at 0 s, or two at the same time.
    """

    cues: tuple[Cue, ...]

    def __post_init__(self):
        placed = [(f"cue {number}", cue) for number, cue in enumerate(self.cues, start=1)]
        object.__setattr__(self, "cues", in_order(placed))

    def __len__(self) -> int:
        return len(self.cues)

    def __iter__(self) -> Iterator[Cue]:
        return iter(self.cues)

    @classmethod
    def constant(cls, prompt: str) -> "PromptSchedule":
        """One prompt from beginning to end, taken literally (`parse` would look for cues in it)."""
        return cls((Cue(0.0, prompt),))

    @classmethod
    def parse(cls, source: str | Path | Mapping | Sequence) -> "PromptSchedule":
        """Read any form: the text form, JSON text, a `Path` to either, decoded JSON, table rows.

        A `str` is always content and never a file name, so that a prompt received from outside
        cannot open a file.

        Raises:
            ScheduleError: names the line or row, what came and what was expected.
        """
        if isinstance(source, Path):
            name = source.name
            try:
                source = _text(source.read_bytes())
            except (OSError, ValueError) as error:
                raise ScheduleError(f"cannot read a schedule from {name}: {error}") from None
        if isinstance(source, str):
            source = source.removeprefix("\ufeff")
            looks_like_json = re.match(r"\s*(\{|\[\s*[\[{])", source)
            return cls(read_decoded(_decode(source)) if looks_like_json else read_text(source))
        return cls(read_decoded(source))

    def to_text(self) -> str:
        """The text form, one line a cue; `parse` gives an equal schedule back."""
        return write_text(self.cues)

    def to_dict(self) -> dict:
        """The JSON form, decoded; `parse` gives an equal schedule back."""
        return write_decoded(self.cues)

    def to_json(self) -> str:
        """The JSON form; `parse` gives an equal schedule back."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    def then(self, seconds: float, schedule: "PromptSchedule") -> "PromptSchedule":
        """This schedule up to `seconds`, from there on the other, shifted to begin at `seconds`.

        What was planned for later is dropped, so with a one-cue schedule this is steering by hand.
        """
        kept = tuple(cue for cue in self.cues if cue.start < seconds)
        return PromptSchedule(kept + tuple(_shifted(cue, seconds) for cue in schedule.cues))

    def snapped(self, timeline: Timeline, chunk_count: int | None = None) -> SnappedSchedule:
        """Move every cue to the chunk boundary nearest to it; a tie goes to the later one.

        `chunk_count` is the length of the video, None if it has no end. A cue whose nearest
        boundary is that end goes to the last chunk instead; for a sampler with a lead, both lie
        that many chunks later.

        Raises:
            ScheduleError: if a cue starts at or after the end.
        """
        snapped: list[SnappedCue] = []
        for number, cue in enumerate(self.cues, start=1):
            chunk = _nearest_chunk(cue.start, timeline)
            if chunk_count is not None and chunk >= (end := chunk_count + timeline.lead):
                if cue.start >= timeline.duration(end):
                    raise ScheduleError(
                        f"starts at {cue.start:g} s, but the video ends at "
                        f"{timeline.duration(chunk_count):g} s; move the cue or ask for a longer "
                        "video",
                        f"cue {number}",
                    )
                chunk = end - 1
            if snapped and snapped[-1].chunk == chunk:
                snapped[-1] = dataclasses.replace(snapped[-1], replaced_by=cue)
            snapped.append(SnappedCue(cue, chunk, timeline.start_time(chunk)))
        return SnappedSchedule(tuple(snapped))


def _text(data: bytes) -> str:
    """The text of a file: a mark at its beginning tells the encoding.

    Raises:
        ValueError: if it is no text.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError:
        text = "\0"
    if re.search("[\0-\b\x0e-\x1f\ufeff\ufffe\uffff]", text):  # control characters, marks
        raise ValueError("it is no text in UTF-8; save it as UTF-8")
    return text


def _decode(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ScheduleError(f"not valid JSON: {error.msg}", f"line {error.lineno}") from None
    except (ValueError, RecursionError) as error:  # numbers of 5,000 digits, 10,000 brackets
        raise ScheduleError(f"not a schedule: {error}") from None


def _nearest_chunk(seconds: float, timeline: Timeline) -> int:
    # In whole pixel frames, so that the start time of a chunk, a float, finds that chunk again.
    frame = round(seconds * timeline.fps)
    chunk = timeline.chunks.chunk_of(timeline.grid.latent_frames(frame + 1) - 1)
    since = frame - timeline.first_pixel_frame(chunk)
    until = timeline.first_pixel_frame(chunk + 1) - frame
    return chunk if since < until else chunk + 1


def _shifted(cue: Cue, seconds: float) -> Cue:
    return dataclasses.replace(cue, start=cue.start + seconds)
