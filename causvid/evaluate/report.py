"""What is kept of an evaluation: a JSON object, and a folder with tables, sheets and plots."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from PIL import Image

from causvid.evaluate.ablations import ABLATIONS
from causvid.evaluate.adherence import ADHERENCE
from causvid.evaluate.drift import DRIFT
from causvid.evaluate.given import GIVEN
from causvid.evaluate.instruments import CODEC, JUDGE
from causvid.evaluate.measurement import Figures, Part, Table
from causvid.evaluate.motion import MOTION
from causvid.evaluate.pictures import PICTURES
from causvid.evaluate.restyle import RESTYLE
from causvid.evaluate.seeds import SPREAD
from causvid.evaluate.sources import IMAGE, VIDEO
from causvid.evaluate.switch import SWITCH

_ALL = (
    *(JUDGE, CODEC, ADHERENCE, PICTURES, MOTION),
    *(SWITCH, IMAGE, VIDEO, DRIFT, ABLATIONS),
    *(GIVEN, SPREAD, RESTYLE),
)
MEASUREMENTS = {it.name: it for it in _ALL}
"""By the names, and in the order, of `causvid.evaluate.PARTS`."""

_JSON, _README, _SHEET, _PLOT = "report.json", "README.md", "-sheet.png", "-plot.png"

_INTRODUCTION = """# Evaluation of the pocket model

Written by `python -m causvid evaluate --report FOLDER`; the modules of `causvid/evaluate` define
every figure. All of it is in `report.json`, with the settings of each part."""


class Target(NamedTuple):
    """Bounds that a figure should keep; `figure` gives `None` where it is undefined."""

    name: str
    figure: Callable[[Figures], float | None]
    at_least: float | None = None
    at_most: float | None = None


def _student_over_teacher(figures: Figures) -> float | None:
    teacher = figures["adherence"]["teacher"]["mean"]
    return figures["adherence"]["student"]["mean"] / teacher if teacher else None


TARGETS = (
    Target("judge, worst attribute", lambda f: min(f["judge"]["whole"].values()), 0.98),
    Target("reconstruction, dB", lambda f: f["codec"]["psnr"], 31.0),
    Target("adherence, teacher", lambda f: f["adherence"]["teacher"]["mean"], 0.95),
    Target("adherence, student over teacher", _student_over_teacher, 0.97),
    Target("seam over rendered clips", lambda f: f["pictures"]["student"]["seam"], at_most=1.2),
    Target(
        "sharpness over rendered clips", lambda f: f["pictures"]["student"]["sharpness"], 0.85, 1.15
    ),
    Target("adherence, last minute over first", lambda f: f["drift"]["adherence"], 0.97),
    Target("saturation, last minute over first", lambda f: f["drift"]["saturation"], 0.95, 1.05),
    Target("contrast, last minute over first", lambda f: f["drift"]["contrast"], 0.95, 1.05),
    Target("switches in time, recache", lambda f: f["switch"]["recache"]["in_time"], 0.9),
)


@dataclass
class Report:
    """Figures, part by part; with a folder, kept there as soon as a part is done.

    Attributes:
        folder: where figures, sheets and plots go, if anywhere.
        figures: of every part measured now or, in the same folder, before.
        settings: how each of them was measured.
    """

    folder: Path | None
    figures: dict[str, Figures] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path | None) -> "Report":
        """The report that a folder holds, or an empty one."""
        if folder is None or not (folder / _JSON).exists():
            return cls(folder)
        kept = json.loads((folder / _JSON).read_text(encoding="utf-8"))
        return cls(folder, kept["figures"], kept["settings"])

    def add(self, name: str, part: Part, settings: dict[str, Any]) -> None:
        """Add a part, or replace it, and write it to the folder."""
        self.figures[name] = json.loads(json.dumps(part.figures))  # keys become text
        self.settings[name] = settings
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for sheet, picture in part.sheets.items():
            _in_palette(picture).save(self.folder / f"{sheet}{_SHEET}", optimize=True)
        if plot := MEASUREMENTS[name].plot:
            figure = Figure(figsize=(7.2, 3.2), layout="constrained")  # not pyplot's global state
            plot(figure, self.figures[name])
            figure.savefig(self.folder / f"{name}{_PLOT}", dpi=100, metadata={"Software": None})
        self._write(self.folder)

    def targets(self) -> list[dict[str, Any]]:
        """Every target whose figure was measured, and whether it is kept."""
        found = []
        for name, figure, low, high in TARGETS:
            try:
                value = figure(self.figures)
            except KeyError:  # that part, or that subject, was not measured
                continue
            if value is not None:
                bounds = [f"{sign} {b:g}" for sign, b in (("≥", low), ("≤", high)) if b is not None]
                kept = (low is None or value >= low) and (high is None or value <= high)
                row = {"name": name, "wanted": ", ".join(bounds), "value": value, "kept": kept}
                found.append(row)
        return found

    def table(self, name: str) -> Table:
        """The table of one part."""
        return MEASUREMENTS[name].table(self.figures[name])

    def target_table(self) -> Table:
        """Targets, and whether they are met."""
        rows = [
            (it["name"], it["wanted"], f"{it['value']:.3f}", "yes" if it["kept"] else "no")
            for it in self.targets()
        ]
        return Table("Targets", ("target", "wanted", "measured", "met"), rows)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"targets": self.targets(), "figures": self.figures, "settings": self.settings}

    def _write(self, folder: Path) -> None:
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
        (folder / _JSON).write_text(text + "\n", encoding="utf-8")
        tables = [self.target_table(), *(self.table(name) for name in self.figures)]
        plots = [f"{name}{_PLOT}" for name in self.figures if MEASUREMENTS[name].plot]
        sheets = sorted(path.name for path in folder.glob(f"*{_SHEET}"))
        links = ", ".join(f"[{name.removesuffix(_SHEET)}]({name})" for name in sheets)
        parts = [
            _INTRODUCTION,
            *(f"## {table.title}\n\n{table.format('pipe')}" for table in tables),
            *(f"![{name.removesuffix('.png')}]({name})" for name in plots),
            f"Contact sheets: {links}.",
        ]
        (folder / _README).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _in_palette(picture: Image.Image) -> Image.Image:
    """In 256 colours, a quarter of the size, dithered so that skies show no bands."""
    palette = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE)
    return picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
