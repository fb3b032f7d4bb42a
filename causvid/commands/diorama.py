"""`python -m causvid diorama`: sample clips of the pocket models' worlds, with captions."""

import argparse
import time
from pathlib import Path

from causvid.world import FPS, sample_clips, write_clips
from causvid.world.samples import CaptionedClip, Shot
from causvid.world.wide import FORMATS, script


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("outputs/diorama"), help="folder")
    parser.add_argument("--count", type=int, default=12, help="number of clips")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--world",
        choices=("wide", "shipped"),
        default="wide",
        help="the wide world, or the one that the shipped weights were trained on",
    )
    parser.add_argument(
        "--format", choices=tuple(FORMATS), default="landscape", help="of the wide world's clips"
    )
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
    if args.world == "wide":
        clips = _wide_clips(args)
    else:
        clips = sample_clips(args.count, seconds=args.seconds, seed=args.seed, split=args.split)
    drawn = sum(len(clip.frames) for clip in clips) / (time.process_time() - start)
    write_clips(args.out, clips)
    print(f"{args.count} clips, captions.jsonl and sheet.png in {args.out}")
    print(f"{drawn:.0f} frames drawn in a second of one core")
    return 0


def _wide_clips(args: argparse.Namespace) -> list[CaptionedClip]:
    """Clips of the wide world; every fourth changes its scene in the middle."""
    frames = round(args.seconds * FPS)
    if frames < 2:
        raise ValueError(f"--seconds must give at least two frames, got {args.seconds}")
    height, width = FORMATS[args.format]
    clips = []
    for index in range(args.count):
        turn = frames // 2 if index % 4 == 3 else 0
        clip = script(args.seed, index, split=args.split, turn=turn, captions=1)
        shots = [
            Shot(shot.frame, shot.scene, said[0])
            for shot, said in zip(clip.shots, clip.captions, strict=True)
        ]
        clips.append(CaptionedClip(clip.draw(frames, height=height, width=width), shots))
    return clips
