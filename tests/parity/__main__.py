"""`python -m tests.parity DIR`."""

import argparse
import sys

from tests import parity


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 if all cases agree, 1 if not, 2 if there are none."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=parity.__doc__)
    parity.add_arguments(parser)
    try:
        return parity.main(parser.parse_args(arguments))
    except ValueError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
