"""Another video after this one: python examples/video.py VIDEO "a blue boat" --strength 0.6."""

import argparse
from pathlib import Path

from common import connect, existing, keep, save
from gradio_client import handle_file

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("video", type=existing)
parser.add_argument("prompt")
parser.add_argument("--strength", type=float, default=0.7, help="how far to leave the source")
parser.add_argument("--adaptive", action="store_true", help="less where the source moves fast")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("video.mp4"))
args = parser.parse_args()
keep(args.video, args.out)

job = connect().submit(
    handle_file(args.video),
    args.prompt,
    strength=args.strength,
    adaptive_strength=args.adaptive,
    seed=args.seed,
    api_name="/video_to_video",
)
save(job, args.out)
