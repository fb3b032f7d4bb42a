"""Plots of a report's figures, without matplotlib's global state (no pyplot)."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from causvid.evaluate.switching import DUE_SECONDS, WATCH_SECONDS
from causvid.evaluate.targets import Figures
from causvid.world import ATTRIBUTES


def draw(figures: Figures, folder: Path) -> list[Path]:
    """Draw what there are figures for; the files written."""
    written = []
    for name, plot in _PLOTS.items():
        if name in figures:
            figure = Figure(figsize=(7.2, 3.2), layout="constrained")
            plot(figure, figures[name])
            written.append(folder / f"{name}-plot.png")
            figure.savefig(written[-1], dpi=100, metadata={"Software": None})
    return written


def _adherence(figure: Figure, figures: dict) -> None:
    axes = figure.add_subplot(ylim=(0, 1.02), title="adherence")
    names = [*ATTRIBUTES, "mean"]
    width = 0.8 / len(figures)
    for index, (subject, of) in enumerate(figures.items()):
        shares = [*(of["attributes"][name] for name in ATTRIBUTES), of["mean"]]
        places = [place + (index - (len(figures) - 1) / 2) * width for place in range(len(names))]
        bars = axes.bar(places, shares, width, label=subject)
        axes.bar_label(bars, [f"{100 * share:.0f}" for share in shares], fontsize=8)
    axes.set_xticks(range(len(names)), names)
    axes.legend(loc="lower left")


def _drift(figure: Figure, figures: dict) -> None:
    minutes = figures["minutes"]
    numbers = range(1, len(minutes) + 1)
    left, right = figure.subplots(1, 2)
    for name in ATTRIBUTES:
        left.plot(numbers, [m["attributes"][name] for m in minutes], lw=1, label=name)
    left.plot(numbers, [m["adherence"] for m in minutes], "k", lw=2, label="mean")
    left.set(ylim=(0, 1.02), xlabel="minute", title="adherence")
    left.legend(fontsize=7, loc="lower left", ncols=2)
    for name in ("saturation", "contrast", "sharpness"):
        first = minutes[0]["looks"][name]
        right.plot(numbers, [m["looks"][name] / first for m in minutes], label=name)
    right.axhspan(0.95, 1.05, alpha=0.15)
    right.set(xlabel="minute", title="looks, over the first minute's")
    right.legend(fontsize=7)


def _switch(figure: Figure, figures: dict) -> None:
    axes = figure.add_subplot(
        xlabel="seconds after the switch",
        title="switches in which all that changed reads right, and stays",
        ylim=(0, 1.02),
    )
    for name, of in figures.items():
        times = sorted(seconds for seconds in of["seconds"] if seconds is not None)
        shares = [index / of["switches"] for index in range(len(times) + 1)]
        axes.step([0, *times, WATCH_SECONDS], [*shares, shares[-1]], where="post", label=name)
    axes.axvline(DUE_SECONDS, color="grey", lw=0.8, ls=":")
    figure.legend(fontsize=8, loc="outside right upper")


def _video(figure: Figure, figures: dict) -> None:
    axes = figure.add_subplot(ylim=(0, 1.02), xlabel="strength", title="video to video")
    strengths = [float(strength) for strength in figures]
    for key, label in (
        ("prompt", "changed attributes as the prompt has them"),
        ("source", "changed attributes as the source has them"),
        ("kept", "attributes on which both agree"),
    ):
        axes.plot(strengths, [of[key] for of in figures.values()], marker="o", label=label)
    axes.legend(fontsize=8)


_PLOTS: dict[str, Callable[[Figure, dict], None]] = {
    "adherence": _adherence,
    "switch": _switch,
    "video": _video,
    "drift": _drift,
}
