"""Imports point down only, and each floor knows only what it may know."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "causvid"

# From the ground up; a module may import from its own wing and from the floors below it.
FLOORS = [
    "log media model resources",
    "generation transformer autoencoder_tiny world",
    "pipeline",
    "presets",
    "training serving",
    "evaluate realtime",
    "ui",
    "benchmark",
    "commands",
    "__main__",
]
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names.split()}


def wing(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    """All modules that a file imports, as dotted names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = ("causvid", *path.relative_to(PACKAGE).parts[: -node.level])
                base = ".".join([*parents, base]).rstrip(".")
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = wing(path)
    assert here in FLOOR, f"give {here} a floor"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "causvid" or len(parts) < 2 or parts[1] not in FLOOR or parts[1] == here:
            continue
        assert FLOOR[parts[1]] < FLOOR[here], f"{here} imports {name}, which is not below it"


def test_only_the_ui_knows_gradio():
    for path in MODULES:
        if wing(path) != "ui":
            assert not any(name.split(".")[0] == "gradio" for name in imports(path)), path


def test_no_module_is_called_utils():
    assert not [path for path in MODULES if path.stem in ("utils", "helpers", "common", "misc")]
