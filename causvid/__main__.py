"""The command line: `causvid COMMAND`, or `python -m causvid COMMAND`."""

import argparse
import importlib
import sys
from pathlib import Path

from causvid.log import set_up_logging, silence_loading_bars

# Name → summary. `causvid.commands` has a module for each, with `add_arguments(parser)` and
# `main(args) -> int`. It loads neither torch nor what needs it before `main` is called: `main`
# imports what it runs, and defaults that depend on the machine are `None` until then. So `--help`
# and a mistyped option are answered at once.
COMMANDS = {
    "generate": "make a video from words, image or video",
    "serve": "start the app",
    "models": "list the models that can be loaded",
    "preflight": "say what a video would cost, and whether it fits",
    "benchmark": "measure speed, memory and operator launches",
    "evaluate": "measure whether the pocket model shows what it is asked for",
    "diorama": "write sample clips of the pocket model's world",
    "schema": "write the JSON schema of requests and records",
    "deploy": "put this checkout on the Hub as a Space",
    "train": "train a stage of the recipe",
}
_EXTRAS = {"gradio": "app", "spaces": "app", "matplotlib": "train", "playwright": "test"}
_LOADING = ("generate", "benchmark", "evaluate", "train")  # weights, whose bars are silenced


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    set_up_logging()
    arguments = sys.argv[1:] if arguments is None else arguments
    installed = Path(sys.argv[0]).stem == "causvid"
    parser = argparse.ArgumentParser(
        prog="causvid" if installed else "python -m causvid", description=__doc__
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        subparser = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if arguments[:1] == [name]:  # the others' arguments are not needed
            module = importlib.import_module(f"causvid.commands.{name}")
            module.add_arguments(subparser)
            subparser.description = module.__doc__
            subparser.set_defaults(main=module.main)
    args = parser.parse_args(arguments)
    if args.command in _LOADING:
        silence_loading_bars()
    try:
        return args.main(args) or 0
    except (ValueError, OSError) as error:
        print(f"{parser.prog} {args.command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        cure = f"pip install 'causvid-live[{_EXTRAS[package]}]'"
        print(f"{parser.prog} {args.command}: {package} is not installed: {cure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
