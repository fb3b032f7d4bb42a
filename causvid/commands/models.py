"""`python -m causvid models`: what can be loaded, and under which licence."""

import argparse
import json

from causvid.presets.loading import PRESETS, describe


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
