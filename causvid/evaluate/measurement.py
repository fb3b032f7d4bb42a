"""What a measurement consists of, and the form of its table."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from PIL import Image
from tabulate import tabulate

from causvid.evaluate.session import Session

Figures = dict[str, Any]
"""Figures as JSON has them. What a key means is said where it is computed."""


class Part(NamedTuple):
    """The result of a measurement: figures, and contact sheets by name."""

    figures: Figures
    sheets: dict[str, Image.Image]


@dataclass(frozen=True)
class Table:
    """Text cells under a header; the first column names the row. `note` stands below."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def format(self, style: str) -> str:
        """The table and its note in a format of `tabulate`, such as `plain` or `pipe`."""
        align = ("left", *("right" for _ in self.header[1:]))
        text = tabulate(self.rows, self.header, style, disable_numparse=True, colalign=align)
        return "\n\n".join(filter(None, (text, self.note)))


@dataclass(frozen=True)
class Measurement:
    """One part of an evaluation.

    Attributes:
        name: one of `causvid.evaluate.PARTS`.
        run: measures.
        table: the table of the figures that `run` gave, also of those read from a report.
        plot: draws those figures, if a plot shows more than the table.
    """

    name: str
    run: Callable[[Session], Part]
    table: Callable[[Figures], Table]
    plot: Callable[[Figure, Figures], None] | None = None


def percent(share: float | None) -> str:
    """A cell with a share, a dash for none."""
    return "–" if share is None else f"{100 * share:.1f} %"


def number(value: float | None) -> str:
    """A cell with a number, a dash for none."""
    return "–" if value is None else f"{value:.3f}"


def mean(values: Iterable[float]) -> float:
    """The mean of at least one number; of flags their share."""
    values = list(values)
    return sum(values) / len(values)
