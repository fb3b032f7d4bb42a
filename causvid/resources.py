"""Where the files are that come with the code: weights, the judge, the gallery.

A checkout keeps them beside the package, where the Hub looks for them; a wheel has them inside it,
under the same names (`[tool.hatch.build.targets.wheel.force-include]` in pyproject.toml).
"""

import importlib.resources
from pathlib import Path

_PACKAGE = Path(str(importlib.resources.files("causvid")))

ROOT = _PACKAGE if (_PACKAGE / "assets").is_dir() else _PACKAGE.parent
"""The folder of `assets/pocket`, `assets/pocket-2`, `assets/report/reader`, `examples/gallery` and
`examples/realtime.html`."""

REVISIONS = "assets/revisions.json"
"""Below `ROOT`, written by `python -m causvid deploy`: Hub repository → commit."""
