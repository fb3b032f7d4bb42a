"""Words to video: python examples/text.py "a red car drives right in the desert at sunset"."""

import argparse
from pathlib import Path

from common import connect, save

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("prompt", nargs="?", default="a red car drives right in the desert at sunset")
parser.add_argument("--seconds", type=float, default=5)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("text.mp4"))
args = parser.parse_args()

job = connect().submit(args.prompt, seconds=args.seconds, seed=args.seed, api_name="/text_to_video")
save(job, args.out)
