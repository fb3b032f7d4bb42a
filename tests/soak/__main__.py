"""`python -m tests.soak`: the soak measurements as a table; exit status 1 if a goal was missed."""

import argparse
import sys
import tempfile
from pathlib import Path

from tabulate import tabulate

from tests.soak.measure import machine, measurements

ALL = ", ".join(measurements(0, 0, 0))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"by default all: {ALL}")
    parser.add_argument("--cycles", type=int, default=42, help="starts and stops (table: 1000)")
    parser.add_argument("--seconds", type=float, default=60, help="of each long run (table: 600)")
    parser.add_argument("--kept", type=int, default=8, help="finished runs (table: 128)")
    args = parser.parse_args()
    every = measurements(args.cycles, args.seconds, args.kept)
    if unknown := set(args.parts) - set(every):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(every)}")
    rows = []
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        for name in args.parts or every:
            for row in every[name](Path(folder) / name):
                print(f"{row.test}: {row.reached}", file=sys.stderr)
                rows.append((row.test, row.reached, row.goal, "met" if row.met else "not met"))
    print(tabulate(rows, ("test", "reached", "goal", "verdict"), tablefmt="github"))
    print(f"\n{machine()}")
    return int(any(verdict != "met" for *_, verdict in rows))


if __name__ == "__main__":
    sys.exit(main())
