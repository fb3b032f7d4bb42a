"""Prompt switches: how soon, and how completely, a stream takes up a new prompt.

Every hand-over starts from the same stream at the same moment: the past is made once and resumed
from a snapshot. Two references are judged beside them: the world changing its own scene, and the
student asked for the new prompt from the start.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from causvid.evaluate.measurement import Figures, Measurement, Part, Table, mean, number, percent
from causvid.evaluate.session import SHEET_ROWS, Session, progress
from causvid.evaluate.subjects import Change, Subjects, changes, frames_of
from causvid.world import ATTRIBUTES, render_switch
from causvid.world.judge import Judge
from causvid.world.samples import SheetRow, contact_sheet

HANDOVERS = ("swap", "recache", "flush", "blend:2")
WORLD, FRESH = "world", "fresh"

LEAD_CHUNKS = 4
"""Chunks under the old prompt: 1, 3, 3, 3 latents are 37 frames, 2.3 s."""

WATCH_SECONDS = 3.0
DUE_SECONDS = 2.0
MOTION_SECONDS = 1.0
"""What a motion is judged from. In half of that, one window of the judge, a slow object moves by
two or three pixels, less than the flicker."""

_STRIDE = 2
_STEADY, _STEADY_WINDOWS = 0.9, 4
"""An attribute has changed at the first right window from which on at least this share of windows
is right, and at least this many windows follow."""

_STRIP_SECONDS = (0.0, 0.5, 1.0, 2.0, 3.0)


@dataclass(frozen=True, eq=False)
class Switch:
    """One change under one hand-over.

    Attributes:
        reaction: for each changed attribute, seconds until it is right and stays so, counted to
            the end of the window; `None` if it never is. Motion is judged from a second, all else
            from windows of half a second.
        briefly: the same, with the motion, too, judged from single windows.
        kept: share of the other attributes that are right at the end.
        strip: the last old frame, and new ones, uint8 `[n, h, w, 3]`.
    """

    change: Change
    reaction: dict[str, float | None]
    briefly: dict[str, float | None]
    kept: float | None
    strip: np.ndarray

    @property
    def seconds(self) -> float | None:
        """Until the last changed attribute is right."""
        times = [seconds for seconds in self.reaction.values() if seconds is not None]
        return max(times) if len(times) == len(self.reaction) else None

    @property
    def in_time(self) -> bool:
        return _in_time(self.reaction.values())


def _in_time(reaction: Iterable[float | None]) -> bool:
    return all(seconds is not None and seconds <= DUE_SECONDS for seconds in reaction)


def summary(switches: Sequence[Switch]) -> Figures:
    """Figures of at least one switch, all under one hand-over."""
    kept = [switch.kept for switch in switches if switch.kept is not None]
    by_attribute: dict[str, list[bool]] = {}
    by_changes: dict[int, list[bool]] = {}
    for switch in switches:
        by_changes.setdefault(len(switch.reaction), []).append(switch.in_time)
        for name, seconds in switch.reaction.items():
            by_attribute.setdefault(name, []).append(_in_time([seconds]))
    return {
        "switches": len(switches),
        # Shares in which every changed attribute was right within two seconds, and stayed.
        "in_time": mean(switch.in_time for switch in switches),
        "briefly_in_time": mean(_in_time(switch.briefly.values()) for switch in switches),
        "attributes_in_time": {name: mean(flags) for name, flags in sorted(by_attribute.items())},
        "by_changes": {count: mean(flags) for count, flags in sorted(by_changes.items())},
        # Seconds that half, and nine in ten, of all switches took; `None` if fewer succeeded.
        "median": _quantile(switches, 0.5),
        "late": _quantile(switches, 0.9),
        "kept": mean(kept) if kept else 1.0,
        "seconds": [switch.seconds for switch in switches],
    }


def _clips(subjects: Subjects, change: Change) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For every hand-over the last frame under the old prompt, and all frames after it."""
    pipe, before, after = subjects.pipe, change.before, change.after
    timeline = pipe.generator().timeline
    lead = timeline.first_pixel_frame(LEAD_CHUNKS)
    seconds = lead / timeline.fps + WATCH_SECONDS
    with pipe.stream(before.prompt, seconds=seconds, seed=before.seed) as stream:
        for _ in range(LEAD_CHUNKS):
            last = next(stream).frames[-1]
        past = stream.snapshot()
    clips = {}
    for name in HANDOVERS:
        stream = pipe.resume(past)
        stream.steer(after.prompt, name)
        clips[name] = last, frames_of(stream)
    frames = lead + len(clips[name][1])
    size = {"height": timeline.grid.height, "width": timeline.grid.width}
    world = render_switch(
        before.scene, after.scene, at=lead, frames=frames, seed=before.seed, **size
    )
    clips[WORLD] = world[lead - 1], world[lead:]
    clips[FRESH] = last, subjects.stream(after, seconds=WATCH_SECONDS)
    return clips


def _judged(
    change: Change, last: np.ndarray, frames: np.ndarray, judge: Judge, fps: float
) -> Switch:
    judgement, window = judge.assess(frames, stride=_STRIDE), judge.config.frames
    single = judgement.matches(change.after.scene)
    together = 1 + (round(MOTION_SECONDS * fps) - window) // _STRIDE
    motion = judgement.trailing(together).matches(change.after.scene)["motion"]
    matches = {**single, "motion": motion}
    ends = [(start + window) / fps for start in judgement.starts]
    last_second = max(1, round(fps / _STRIDE))
    kept = [float(matches[name][-last_second:].mean()) for name in change.kept]
    shown = [min(round(seconds * fps), len(frames) - 1) for seconds in _STRIP_SECONDS]
    return Switch(
        change=change,
        reaction={name: _settled(matches[name], ends) for name in change.changed},
        briefly={name: _settled(single[name], ends) for name in change.changed},
        kept=mean(kept) if kept else None,
        strip=np.stack([last, *frames[shown]]),
    )


def _settled(matches: np.ndarray, ends: Sequence[float]) -> float | None:
    """When the first right window ends from which on nearly all are right."""
    remaining = np.arange(len(matches), 0, -1)
    steady = matches[::-1].cumsum()[::-1] >= _STEADY * remaining
    found = np.flatnonzero(matches & steady & (remaining >= _STEADY_WINDOWS))
    return ends[found[0]] if len(found) else None


def _quantile(switches: Sequence[Switch], share: float) -> float | None:
    times = sorted(np.inf if switch.seconds is None else switch.seconds for switch in switches)
    seconds = times[max(0, int(np.ceil(share * len(times))) - 1)]
    return None if np.isinf(seconds) else float(seconds)


def _run(session: Session) -> Part:
    count, fps = session.sizes.switches, session.subjects.pipe.generation.fps
    done = []
    for change in progress(changes(count, session.seed), "switches", count):
        clips = _clips(session.subjects, change)
        done.append({n: _judged(change, *clip, session.judge, fps) for n, clip in clips.items()})
    figures = {name: summary([each[name] for each in done]) for name in done[0]}
    return Part(figures, {"switches": _sheet(done)})


def _sheet(switches: Sequence[Mapping[str, Switch]]) -> Image.Image:
    """One row for each change and hand-over, the last frame before it first."""
    rows = []
    for each in switches[: SHEET_ROWS // len(switches[0])]:
        for name, switch in each.items():
            never = [name for name, seconds in switch.reaction.items() if seconds is None]
            fault = f"not {' '.join(never)}" if never else ""
            if not never and not switch.in_time:
                fault = f"after {switch.seconds:.1f} s"
            label = name if name in (WORLD, FRESH) else f"[{name}]"
            before, after = switch.change.before.prompt, switch.change.after.prompt
            rows.append(SheetRow(f"{label}  {before} -> {after}", switch.strip, fault))
    return contact_sheet(rows)


def _table(figures: Figures) -> Table:
    counts = sorted({count for of in figures.values() for count in of["by_changes"]})
    rows = [
        (
            f"{name} ({of['switches']})",
            percent(of["in_time"]),
            percent(of.get("briefly_in_time")),
            number(of["median"]),
            number(of["late"]),
            percent(of["kept"]),
            *(percent(of["by_changes"].get(count)) for count in counts),
            *(percent(of["attributes_in_time"].get(name)) for name in ATTRIBUTES),
        )
        for name, of in figures.items()
    ]
    header = ("hand-over", "in 2 s", "… every half", "median s", "9 in 10, s", "kept")
    return Table(
        "Prompt switches",
        (*header, *(f"{count} changed" for count in counts), *ATTRIBUTES),
        rows,
        "Motions are judged from a second each; “every half”: from every half second by itself.",
    )


def _plot(figure: Figure, figures: Figures) -> None:
    axes = figure.add_subplot(
        xlabel="seconds after the switch",
        title="switches in which all that changed is right, and stays",
        ylim=(0, 1.02),
    )
    for name, of in figures.items():
        times = sorted(seconds for seconds in of["seconds"] if seconds is not None)
        shares = [index / of["switches"] for index in range(len(times) + 1)]
        axes.step([0, *times, WATCH_SECONDS], [*shares, shares[-1]], where="post", label=name)
    axes.axvline(DUE_SECONDS, color="grey", lw=0.8, ls=":")
    figure.legend(fontsize=8, loc="outside right upper")


SWITCH = Measurement("switch", _run, _table, _plot)
