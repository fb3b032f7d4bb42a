"""The command line: `python -m causvid COMMAND`."""

import argparse
import importlib
import logging
import sys
from typing import NamedTuple


class Command(NamedTuple):
    """A command, and the module with its `add_arguments(parser)` and `main(args) -> int`."""

    module: str
    summary: str


COMMANDS = {
    "generate": Command("causvid.commands.generate", "make a video from words, image or video"),
    "models": Command("causvid.commands.models", "list the models that can be loaded"),
    "preflight": Command(
        "causvid.commands.preflight", "say what a video would cost, and whether it fits"
    ),
    "benchmark": Command("causvid.benchmark", "measure speed, memory and operator launches"),
    "evaluate": Command(
        "causvid.evaluate", "measure whether the pocket model shows what it is asked for"
    ),
    "diorama": Command(
        "causvid.commands.diorama", "write sample clips of the pocket model's world"
    ),
    "deploy": Command("causvid.commands.deploy", "put this checkout on the Hub as a Space"),
    "train": Command("causvid.commands.train", "train a stage of the recipe"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "diffusers", "transformers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(prog="python -m causvid", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    arguments = sys.argv[1:] if arguments is None else arguments
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(
            name, help=command.summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if arguments[:1] == [name]:  # importing all of them would take seconds
            module = importlib.import_module(command.module)
            module.add_arguments(subparser)
            subparser.description = module.__doc__
            subparser.set_defaults(main=module.main)
    args = parser.parse_args(arguments)
    try:
        return args.main(args) or 0
    except (ValueError, OSError) as error:
        print(f"{parser.prog} {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
