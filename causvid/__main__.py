"""The command line: `causvid COMMAND`, or `python -m causvid COMMAND`."""

import argparse
import importlib
import sys
from pathlib import Path
from typing import NamedTuple

from causvid.log import set_up_logging, silence_loading_bars


class Command(NamedTuple):
    """A command, and the module with its `add_arguments(parser)` and `main(args) -> int`.

    The module loads neither torch nor what needs it before `main` is called: `main` imports what
    it runs, and defaults that depend on the machine are `None` until then. So `--help` and a
    mistyped option are answered at once.
    """

    module: str
    summary: str
    loads_weights: bool = False


COMMANDS = {
    "generate": Command(
        "causvid.commands.generate", "make a video from words, image or video", True
    ),
    "serve": Command("causvid.commands.serve", "start the app"),
    "models": Command("causvid.commands.models", "list the models that can be loaded"),
    "preflight": Command(
        "causvid.commands.preflight", "say what a video would cost, and whether it fits"
    ),
    "benchmark": Command(
        "causvid.commands.benchmark", "measure speed, memory and operator launches", True
    ),
    "evaluate": Command(
        "causvid.commands.evaluate",
        "measure whether the pocket model shows what it is asked for",
        True,
    ),
    "diorama": Command(
        "causvid.commands.diorama", "write sample clips of the pocket model's world"
    ),
    "schema": Command("causvid.commands.schema", "write the JSON schema of requests and records"),
    "deploy": Command("causvid.commands.deploy", "put this checkout on the Hub as a Space"),
    "train": Command("causvid.commands.train", "train a stage of the recipe", True),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    set_up_logging()
    arguments = sys.argv[1:] if arguments is None else arguments
    installed = Path(sys.argv[0]).stem == "causvid"
    parser = argparse.ArgumentParser(
        prog="causvid" if installed else "python -m causvid", description=__doc__
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(
            name, help=command.summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if arguments[:1] == [name]:  # the others' arguments are not needed
            module = importlib.import_module(command.module)
            module.add_arguments(subparser)
            subparser.description = module.__doc__
            subparser.set_defaults(main=module.main)
    args = parser.parse_args(arguments)
    if COMMANDS[args.command].loads_weights:
        silence_loading_bars()
    try:
        return args.main(args) or 0
    except (ValueError, OSError) as error:
        print(f"{parser.prog} {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
