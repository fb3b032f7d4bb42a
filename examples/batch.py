"""One video for each line of a file: python examples/batch.py examples/prompts.txt --out videos."""

import argparse
from pathlib import Path

from common import connect, existing, save

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("prompts", type=existing, help="one prompt a line; # begins a remark")
parser.add_argument("--seconds", type=float, default=5)
parser.add_argument("--seed", type=int, default=0, help="of the first; the others count on")
parser.add_argument("--out", type=Path, default=Path("videos"), help="a folder")
args = parser.parse_args()

lines = [line.partition("#")[0].strip() for line in args.prompts.read_text("utf-8").splitlines()]
args.out.mkdir(parents=True, exist_ok=True)
client = connect()
for number, prompt in enumerate(filter(None, lines)):
    out = args.out / f"{number:03d}.mp4"
    if out.exists():  # an interrupted batch goes on where it was
        continue
    print(f"{out}: {prompt}")
    job = client.submit(
        prompt, seconds=args.seconds, seed=args.seed + number, api_name="/text_to_video"
    )
    save(job, out)
