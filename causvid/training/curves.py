"""Training logs as pictures: one panel for every logged figure, one line for every run.

Reads the `log.jsonl` that `trainer` writes and knows nothing else of training. The only module
that needs matplotlib, without its global state (no pyplot), so that it works in any thread and
needs no display.
"""

import json
import math
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

Axis = Literal["step", "seconds", "cpu_seconds"]

_AXES: dict[Axis, str] = {
    "step": "step",
    "seconds": "seconds",
    "cpu_seconds": "CPU seconds",
}
_SMOOTHED = 40  # windows of the running mean in the whole curve


def read_log(path: Path) -> dict[str, np.ndarray]:
    """The columns of a log, float64 `[n]`; NaN where a line does not have the figure.

    Raises:
        ValueError: if the log is missing or empty.
    """
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    if not rows:
        raise ValueError(f"there is nothing to draw in {path}: has that stage been trained?")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: np.array([row.get(name, math.nan) for row in rows], float) for name in names}


def draw_curves(logs: Mapping[str, Path], path: Path, *, against: Axis = "step") -> None:
    """Write a PNG with every figure of the logs, each as it is and as its running mean.

    Args:
        logs: name of a run → its `log.jsonl`.
        against: what runs to the right. CPU seconds compare runs whose steps differ in cost.

    Raises:
        ValueError: if a log is missing or empty.
    """
    if against not in _AXES:
        raise ValueError(f"curves are drawn against {' or '.join(_AXES)}, got {against!r}")
    runs = {name: read_log(log) for name, log in logs.items()}
    figures = [name for name in dict.fromkeys(chain(*runs.values())) if name not in _AXES]
    columns = math.ceil(math.sqrt(len(figures)))
    rows = math.ceil(len(figures) / columns)
    canvas = Figure(figsize=(5.2 * columns, 3.4 * rows), layout="constrained", dpi=110)
    for number, name in enumerate(figures, start=1):
        panel = canvas.add_subplot(rows, columns, number)
        drawn = np.concatenate([run[name] for run in runs.values() if name in run])
        for place, (label, run) in enumerate(runs.items()):
            if name not in run:
                continue
            colour = f"C{place}"
            panel.plot(run[against], run[name], color=colour, alpha=0.25, linewidth=0.8)
            x, y = _running_mean(run[against], run[name])
            panel.plot(x, y, color=colour, linewidth=1.8, label=label)
        panel.set_title(name.replace("_", " "))
        panel.set_xlabel(_AXES[against])
        panel.grid(alpha=0.3)
        # More than a decade, all of it positive.
        if np.nanmin(drawn) > 0 and np.nanmax(drawn) > 10 * np.nanmin(drawn):
            panel.set_yscale("log")
            panel.yaxis.set_major_formatter("{x:g}")
            panel.yaxis.set_minor_formatter("{x:g}")
        if len(runs) > 1:
            panel.legend(fontsize="small")
    canvas.savefig(path)


def _running_mean(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over windows of a fortieth of the curve, each at the mean of its places."""
    known = np.isfinite(y)
    x, y = x[known], y[known]
    window = max(1, len(y) // _SMOOTHED)
    if window == 1:
        return x, y
    kernel = np.full(window, 1 / window)
    return np.convolve(x, kernel, "valid"), np.convolve(y, kernel, "valid")
