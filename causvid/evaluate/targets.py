"""What was promised, and whether it is kept."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Figures = dict[str, Any]
"""The figures of a report, part by part, as its JSON has them."""


@dataclass(frozen=True)
class Target:
    """A promise: a figure between two bounds."""

    name: str
    figure: Callable[[Figures], float | None]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def wanted(self) -> str:
        bounds = [("≥", self.at_least), ("≤", self.at_most)]
        return ", ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)


@dataclass(frozen=True)
class Verdict:
    """A target and what was measured."""

    target: Target
    value: float

    @property
    def kept(self) -> bool:
        low, high = self.target.at_least, self.target.at_most
        return (low is None or self.value >= low) and (high is None or self.value <= high)


def _ratio(figures: Figures) -> float | None:
    adherence = figures["adherence"]
    teacher = adherence["teacher"]["mean"]
    return adherence["student"]["mean"] / teacher if teacher else None


TARGETS = (
    Target("reader, worst attribute", lambda f: min(f["reader"]["whole"].values()), at_least=0.98),
    Target("reconstruction, dB", lambda f: f["codec"]["psnr"], at_least=31.0),
    Target("adherence, teacher", lambda f: f["adherence"]["teacher"]["mean"], at_least=0.95),
    Target("adherence, student over teacher", _ratio, at_least=0.97),
    Target("seam over rendered clips", lambda f: f["pictures"]["student"]["seam"], at_most=1.2),
    Target(
        "sharpness over rendered clips",
        lambda f: f["pictures"]["student"]["sharpness"],
        at_least=0.85,
        at_most=1.15,
    ),
    Target("adherence, last minute over first", lambda f: f["drift"]["adherence"], at_least=0.97),
    Target(
        "saturation, last minute over first",
        lambda f: f["drift"]["saturation"],
        at_least=0.95,
        at_most=1.05,
    ),
    Target(
        "contrast, last minute over first",
        lambda f: f["drift"]["contrast"],
        at_least=0.95,
        at_most=1.05,
    ),
    Target("switches in time, recache", lambda f: f["switch"]["recache"]["in_time"], at_least=0.9),
)


def verdicts(figures: Figures) -> Iterator[Verdict]:
    """Of every target whose figures were measured."""
    for target in TARGETS:
        try:
            value = target.figure(figures)
        except KeyError:  # that part, or that subject, was not asked for
            continue
        if value is not None:
            yield Verdict(target, value)
