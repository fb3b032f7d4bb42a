"""`python -m causvid diorama`: sample clips of the pocket model's world, with captions."""

import argparse
from pathlib import Path

from causvid.diorama import write_samples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("outputs/diorama"), help="folder")
    parser.add_argument("--count", type=int, default=12, help="number of clips")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--split",
        choices=("train", "held_out"),
        default="train",
        help="combinations the model is trained on, or those it never sees",
    )


def main(args: argparse.Namespace) -> int:
    if args.count < 1:
        raise ValueError(f"--count must be at least 1, got {args.count}")
    write_samples(args.out, args.count, seconds=args.seconds, seed=args.seed, split=args.split)
    print(f"{args.count} clips, captions.jsonl and sheet.png in {args.out}")
    return 0
