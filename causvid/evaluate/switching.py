"""Prompt switches: how soon, and how completely, a stream takes up a new prompt.

Every hand-over starts from the same stream at the same moment: the past is made once and resumed
from a snapshot. Two yardsticks stand beside them: the world changing its own scene, and the
student asked for the new prompt from the start.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from causvid.evaluate.cases import Change
from causvid.evaluate.subjects import Student
from causvid.world import render_switch
from causvid.world.judge import Judge

HANDOVERS = ("swap", "recache", "flush", "blend:2")
WORLD, FRESH = "world", "fresh"

LEAD_CHUNKS = 4
"""Chunks under the old prompt: 1, 3, 3, 3 latents are 37 frames, 2.3 s."""

WATCH_SECONDS = 3.0
DUE_SECONDS = 2.0
MOTION_SECONDS = 1.0
"""What a motion is read from. In half of one, a window of the reader, a slow object moves by two or
three pixels, which every flicker outweighs."""

_STRIDE = 2
_STEADY, _STEADY_WINDOWS = 0.9, 4
"""A change has happened when this share of all windows from there on, and not fewer than so many
windows, read right."""

_STRIP_SECONDS = (0.0, 0.5, 1.0, 2.0, 3.0)


@dataclass(frozen=True, eq=False)
class Switch:
    """One change under one hand-over.

    Attributes:
        reaction: for each changed attribute, seconds until it reads right and stays so, counted
            to the end of the window; `None` if it never does. What a frame shows is read from
            windows of half a second, the motion from a second.
        briefly: the same, with the motion, too, read from every half second by itself.
        kept: share of the other attributes that read right at the end.
        strip: the last old frame, and new ones, uint8 `[n, h, w, 3]`.
    """

    change: Change
    reaction: dict[str, float | None]
    briefly: dict[str, float | None]
    kept: float | None
    strip: np.ndarray

    @property
    def seconds(self) -> float | None:
        """Until the last changed attribute reads right."""
        times = list(self.reaction.values())
        return None if None in times else max(times)

    @property
    def in_time(self) -> bool:
        return _in_time(self.reaction)

    @property
    def briefly_in_time(self) -> bool:
        return _in_time(self.briefly)


def _in_time(reaction: Mapping[str, float | None]) -> bool:
    return all(seconds is not None and seconds <= DUE_SECONDS for seconds in reaction.values())


@dataclass(frozen=True)
class Handing:
    """Many switches under one hand-over.

    Attributes:
        switches: how many.
        in_time: share in which every changed attribute read right within two seconds, and stayed.
        briefly_in_time: the same with motions read from every half second.
        attributes_in_time: the same for each attribute, over the switches that changed it.
        by_changes: `in_time` by how many attributes changed.
        median, late: seconds that half, and nine in ten, of all switches took; `None` if fewer
            than that came about.
        kept: share of unchanged attributes that read right at the end.
        seconds: that each switch took, `None` where it never came about.
    """

    switches: int
    in_time: float
    briefly_in_time: float
    attributes_in_time: dict[str, float]
    by_changes: dict[int, float]
    median: float | None
    late: float | None
    kept: float
    seconds: tuple[float | None, ...]


def switches(
    student: Student, changes: Sequence[Change], reader: Judge
) -> Iterator[dict[str, Switch]]:
    """For each change, what every hand-over and both yardsticks come to."""
    for change in changes:
        clips = _clips(student, change)
        yield {name: _judge(change, *clip, reader, student) for name, clip in clips.items()}


def handing(switches: Sequence[Switch]) -> Handing:
    """At least one switch, all under one hand-over."""
    kept = [switch.kept for switch in switches if switch.kept is not None]
    by_attribute: dict[str, list[bool]] = {}
    by_changes: dict[int, list[bool]] = {}
    for switch in switches:
        by_changes.setdefault(len(switch.reaction), []).append(switch.in_time)
        for name, seconds in switch.reaction.items():
            by_attribute.setdefault(name, []).append(_in_time({name: seconds}))
    return Handing(
        switches=len(switches),
        in_time=_share([switch.in_time for switch in switches]),
        briefly_in_time=_share([switch.briefly_in_time for switch in switches]),
        attributes_in_time=_shares(by_attribute),
        by_changes=_shares(by_changes),
        median=_quantile(switches, 0.5),
        late=_quantile(switches, 0.9),
        kept=sum(kept) / len(kept) if kept else 1.0,
        seconds=tuple(switch.seconds for switch in switches),
    )


def _clips(student: Student, change: Change) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For every hand-over the last frame under the old prompt, and all frames after it."""
    pipe, before, after = student.pipe, change.before, change.after
    timeline = pipe.generator().timeline
    lead = timeline.first_pixel_frame(LEAD_CHUNKS)
    seconds = lead / timeline.fps + WATCH_SECONDS
    clips = {}
    with pipe.stream(before.prompt, seconds=seconds, seed=before.seed) as stream:
        for _ in range(LEAD_CHUNKS):
            last = stream.step().frames[-1]
        past = stream.snapshot()
    for name in HANDOVERS:
        with pipe.resume(past) as stream:
            stream.steer(after.prompt, name)
            clips[name] = last, np.concatenate([chunk.frames for chunk in stream])
    frames = len(clips[name][1])
    world = render_switch(
        before.scene, after.scene, at=lead, frames=lead + frames, seed=before.seed
    )
    clips[WORLD] = world[lead - 1], world[lead:]
    with pipe.stream(after.prompt, seconds=WATCH_SECONDS, seed=before.seed) as stream:
        clips[FRESH] = last, np.concatenate([chunk.frames for chunk in stream])
    return clips


def _judge(
    change: Change, last: np.ndarray, frames: np.ndarray, reader: Judge, student: Student
) -> Switch:
    fps = student.pipe.generation.fps
    reading = reader.assess(frames, stride=_STRIDE)
    briefly = reading.matches(change.after.scene)
    windows = 1 + (round(MOTION_SECONDS * fps) - reader.config.frames) // _STRIDE
    moving = reading.trailing(windows).matches(change.after.scene)["motion"]
    matches = {**briefly, "motion": moving}
    ends = [(start + reader.config.frames) / fps for start in reading.starts]
    kept = [float(matches[name][-_last_second(fps) :].mean()) for name in change.kept]
    shown = [min(round(seconds * fps), len(frames) - 1) for seconds in _STRIP_SECONDS]
    return Switch(
        change=change,
        reaction={name: _settled(matches[name], ends) for name in change.changed},
        briefly={name: _settled(briefly[name], ends) for name in change.changed},
        kept=sum(kept) / len(kept) if kept else None,
        strip=np.stack([last, *frames[shown]]),
    )


def _last_second(fps: float) -> int:
    return max(1, round(fps / _STRIDE))


def _settled(matches: np.ndarray, ends: Sequence[float]) -> float | None:
    """When the first right window ends after which nearly all are right."""
    remaining = np.arange(len(matches), 0, -1)
    steady = matches[::-1].cumsum()[::-1] >= _STEADY * remaining
    found = np.flatnonzero(matches & steady & (remaining >= _STEADY_WINDOWS))
    return ends[found[0]] if len(found) else None


def _quantile(switches: Sequence[Switch], share: float) -> float | None:
    times = sorted(np.inf if switch.seconds is None else switch.seconds for switch in switches)
    seconds = times[max(0, int(np.ceil(share * len(times))) - 1)]
    return None if np.isinf(seconds) else float(seconds)


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)


def _shares(groups: Mapping) -> dict:
    return {key: _share(flags) for key, flags in sorted(groups.items())}
