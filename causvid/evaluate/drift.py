"""Drift: whether a stream still shows its prompt, and looks the same, after many minutes."""

from collections.abc import Sequence
from dataclasses import asdict, astuple
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from causvid.evaluate.measurement import Figures, Measurement, Part, Table, mean, number, percent
from causvid.evaluate.session import SHEET_ROWS, Session, progress
from causvid.evaluate.subjects import Case
from causvid.generation.chunk import Looks
from causvid.world import ATTRIBUTES
from causvid.world.samples import SheetRow, contact_sheet

_WINDOW_STRIDE = 8  # frames: windows touch and do not overlap
_LOOKS = ("saturation", "contrast", "sharpness")


class Minute(NamedTuple):
    """A minute of a stream: for each attribute the share of right windows, and the mean looks."""

    attributes: dict[str, float]
    looks: Looks

    @property
    def adherence(self) -> float:
        """Mean over attributes."""
        return mean(self.attributes.values())


class LongRun(NamedTuple):
    """One stream, minute by minute; `strip` has the last frame of each, uint8 `[n, h, w, 3]`."""

    case: Case
    minutes: list[Minute]
    strip: np.ndarray


def drift(runs: Sequence[LongRun]) -> Figures:
    """Minutes as the mean of at least one run, and the last minute over the first.

    There is no ratio of adherence if the first minute had none.
    """
    minutes: list[Figures] = [
        {
            "attributes": {n: mean(part.attributes[n] for part in parts) for n in ATTRIBUTES},
            "adherence": mean(part.adherence for part in parts),
            "looks": asdict(mean_looks([part.looks for part in parts])),
        }
        for parts in zip(*(run.minutes for run in runs), strict=True)
    ]
    first, last = minutes[0], minutes[-1]
    return {
        "streams": len(runs),
        "minutes": minutes,
        "adherence": last["adherence"] / first["adherence"] if first["adherence"] else None,
        **asdict(Looks(**last["looks"]).relative_to(Looks(**first["looks"]))),
    }


def mean_looks(looks: Sequence[Looks]) -> Looks:
    """The mean of at least one, number by number."""
    return Looks(*map(mean, zip(*map(astuple, looks), strict=True)))


def _run(session: Session) -> Part:
    asked = session.cases[: session.sizes.streams]
    runs = [_long_run(session, case) for case in progress(asked, "long streams", len(asked))]
    return Part(drift(runs), {"minutes": _sheet(runs)})


def _long_run(session: Session, case: Case) -> LongRun:
    """Stream a case, in whole parts of a minute if it is less than one."""
    minutes, pipe = session.sizes.minutes, session.subjects.pipe
    count = max(1, round(minutes))
    parts, strip = [], []
    with pipe.stream(case.prompt, seconds=60 * minutes, seed=case.seed) as stream:
        size = -(-stream.generator.timeline.chunk_count(60 * minutes) // count)
        for _ in range(count):
            chunks = [chunk for _, chunk in zip(range(size), stream, strict=False)]
            frames = np.concatenate([chunk.frames for chunk in chunks])
            matches = session.judge.assess(frames, stride=_WINDOW_STRIDE).matches(case.scene)
            shares = {name: float(flags.mean()) for name, flags in matches.items()}
            parts.append(Minute(shares, mean_looks([chunk.looks for chunk in chunks])))
            strip.append(frames[-1])
    return LongRun(case, parts, np.stack(strip))


def _sheet(runs: Sequence[LongRun]) -> Image.Image:
    """One row for each stream, one frame for each minute."""
    rows = []
    for run in runs[:SHEET_ROWS]:
        shares = " ".join(f"{minute.adherence:.0%}" for minute in run.minutes)
        rows.append(SheetRow(f"{run.case.prompt}   {shares}", run.strip))
    return contact_sheet(rows)


def _table(figures: Figures) -> Table:
    rows = [
        (
            str(minute_number),
            *(percent(minute["attributes"][name]) for name in ATTRIBUTES),
            percent(minute["adherence"]),
            *(number(minute["looks"][name]) for name in _LOOKS),
        )
        for minute_number, minute in enumerate(figures["minutes"], start=1)
    ]
    title = f"Drift, mean of {figures['streams']} streams"
    return Table(title, ("minute", *ATTRIBUTES, "mean", *_LOOKS), rows)


def _plot(figure: Figure, figures: Figures) -> None:
    minutes = figures["minutes"]
    numbers = range(1, len(minutes) + 1)
    left, right = figure.subplots(1, 2)
    for name in ATTRIBUTES:
        left.plot(numbers, [m["attributes"][name] for m in minutes], lw=1, label=name)
    left.plot(numbers, [m["adherence"] for m in minutes], "k", lw=2, label="mean")
    left.set(ylim=(0, 1.02), xlabel="minute", title="adherence")
    left.legend(fontsize=7, loc="lower left", ncols=2)
    for name in _LOOKS:
        first = minutes[0]["looks"][name]
        right.plot(numbers, [m["looks"][name] / first for m in minutes], label=name)
    right.axhspan(0.95, 1.05, alpha=0.15)
    right.set(xlabel="minute", title="looks, over the first minute's")
    right.legend(fontsize=7)


DRIFT = Measurement("drift", _run, _table, _plot)
