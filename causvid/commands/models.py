"""`python -m causvid models`: what can be loaded, and under which licence."""

import argparse
import dataclasses
import json

from causvid.catalogue import PRESETS, Preset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="everything, as JSON")


def main(args: argparse.Namespace) -> int:
    if args.json:
        print(json.dumps([describe(preset) for preset in PRESETS.values()], indent=2))
        return 0
    rows = [("NAME", "MODES", "SIZE", "STEPS", "LICENCE", "TITLE")]
    for preset in PRESETS.values():
        generation = preset.generation
        licence = preset.licence.name
        if not preset.licence.commercial_use:
            licence += " (non-commercial)"
        rows.append(
            (
                preset.name,
                ",".join(preset.modes),
                f"{generation.width}x{generation.height}",
                str(len(generation.timesteps)),
                licence,
                preset.title,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]))
    return 0


def describe(preset: Preset) -> dict:
    """A preset, JSON-ready."""
    return {
        "name": preset.name,
        "title": preset.title,
        "source": preset.source,
        "modes": list(preset.modes),
        "sizes": [{"width": size.width, "height": size.height} for size in preset.sizes],
        "native_image": preset.native_image,
        "tiny_decoder": preset.tiny_decoder is not None,
        "licence": dataclasses.asdict(preset.licence),
        "weights": dataclasses.asdict(preset.weights) if preset.weights else None,
        "generation": preset.generation.to_dict(),
        "notes": preset.notes,
    }
