"""`python -m causvid models`: what can be loaded, and under which licence."""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="everything, as JSON")


def main(args: argparse.Namespace) -> int:
    from tabulate import tabulate

    from causvid.presets.registry import describe, list_presets

    if args.json:
        print(json.dumps([describe(preset) for preset in list_presets().values()], indent=2))
        return 0
    rows = [
        (
            preset.name,
            ",".join(preset.modes),
            f"{preset.generation.width}x{preset.generation.height}",
            str(len(preset.generation.timesteps)),
            preset.licence.name + ("" if preset.licence.commercial_use else " (non-commercial)"),
            preset.title,
        )
        for preset in list_presets().values()
    ]
    header = ("NAME", "MODES", "SIZE", "STEPS", "LICENCE", "TITLE")
    print(tabulate(rows, header, tablefmt="plain", disable_numparse=True))
    return 0
