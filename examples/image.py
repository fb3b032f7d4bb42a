"""A picture begins to move: python examples/image.py PICTURE "a red car drives right"."""

import argparse
from pathlib import Path

from common import connect, existing, keep, save
from gradio_client import handle_file

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("picture", type=existing)
parser.add_argument("prompt")
parser.add_argument("--seconds", type=float, default=5)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("image.mp4"))
args = parser.parse_args()
keep(args.picture, args.out)

job = connect().submit(
    handle_file(args.picture),
    args.prompt,
    seconds=args.seconds,
    seed=args.seed,
    api_name="/image_to_video",
)
save(job, args.out)
