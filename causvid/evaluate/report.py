"""What is kept of an evaluation: a JSON object, and a folder with tables, sheets and plots."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from causvid.evaluate.parts import Part
from causvid.evaluate.tables import table_of, verdict_table
from causvid.evaluate.targets import Figures, Verdict, verdicts

_JSON, _README, _SHEET = "report.json", "README.md", "-sheet.png"

_INTRODUCTION = """# Evaluation of the pocket model

Written by `python -m causvid evaluate --report`; what each figure means is said in
`causvid/evaluate`. All of it is in `report.json`, with the settings of each part.
"""


@dataclass
class Report:
    """Figures, part by part; with a folder, kept there as soon as a part is done.

    Attributes:
        folder: where figures, sheets and plots go, if anywhere.
        figures: of every part measured now or, in the same folder, before.
        settings: how each of them was measured.
    """

    folder: Path | None
    figures: Figures = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path | None) -> "Report":
        """The report that a folder holds, or an empty one."""
        if folder is None or not (folder / _JSON).exists():
            return cls(folder)
        kept = json.loads((folder / _JSON).read_text(encoding="utf-8"))
        return cls(folder, kept["figures"], kept["settings"])

    @property
    def verdicts(self) -> list[Verdict]:
        return list(verdicts(self.figures))

    def add(self, name: str, part: Part, settings: dict[str, Any]) -> None:
        """Take in a part, and write it down."""
        # As a reader of the file sees it: keys are text.
        self.figures[name] = json.loads(json.dumps(part.figures))
        self.settings[name] = settings
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for sheet, picture in part.sheets.items():
            _thrifty(picture).save(self.folder / f"{sheet}{_SHEET}", optimize=True)
        self._write()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        targets = [
            {
                "name": verdict.target.name,
                "wanted": verdict.target.wanted,
                "value": verdict.value,
                "kept": verdict.kept,
            }
            for verdict in self.verdicts
        ]
        return {"targets": targets, "figures": self.figures, "settings": self.settings}

    def _write(self) -> None:
        from causvid.evaluate.plots import draw  # loads matplotlib, which takes a second

        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
        (self.folder / _JSON).write_text(text + "\n", encoding="utf-8")
        plots = draw(self.figures, self.folder)
        tables = [verdict_table(self.verdicts).to_markdown()]
        tables += [table_of(name, figures).to_markdown() for name, figures in self.figures.items()]
        pictures = [f"![{path.stem}]({path.name})" for path in plots]
        sheets = sorted(path.name for path in self.folder.glob(f"*{_SHEET}"))
        links = (f"[{name.removesuffix(_SHEET)}]({name})" for name in sheets)
        listed = f"Contact sheets: {', '.join(links)}."
        parts = [_INTRODUCTION, *tables, *pictures, listed]
        (self.folder / _README).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _thrifty(picture: Image.Image) -> Image.Image:
    """In 256 colours, a quarter of the size, dithered so that skies show no bands."""
    palette = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE)
    return picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
