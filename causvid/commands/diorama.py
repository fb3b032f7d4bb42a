"""`python -m causvid diorama`: sample clips of the pocket model's world, with captions."""

import argparse
import time
from pathlib import Path

from causvid.world import sample_clips, write_clips


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
    start = time.process_time()
    clips = sample_clips(args.count, seconds=args.seconds, seed=args.seed, split=args.split)
    drawn = sum(len(clip.frames) for clip in clips) / (time.process_time() - start)
    write_clips(args.out, clips)
    print(f"{args.count} clips, captions.jsonl and sheet.png in {args.out}")
    print(f"{drawn:.0f} frames drawn in a second of one core")
    return 0
