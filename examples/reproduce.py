"""Make the video of a manifest again: python examples/reproduce.py text.json.

Videos that began with a picture or a video need it: --image FILE or --video FILE.
"""

import argparse
import json
from pathlib import Path

from common import connect, existing, save
from gradio_client import handle_file

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("manifest", type=existing)
parser.add_argument("--image", type=existing)
parser.add_argument("--video", type=existing)
parser.add_argument("--out", type=Path, default=Path("again.mp4"))
args = parser.parse_args()

try:
    call = json.loads(args.manifest.read_text(encoding="utf-8"))["call"]
except (ValueError, KeyError, TypeError):
    parser.error(f"{args.manifest} is no manifest")
if call is None:
    parser.error("made by the command line: use `causvid generate --manifest FILE`")
files = {"image": args.image, "video": args.video}
for name, path in files.items():
    if (call["api_name"] == f"/{name}_to_video") != (path is not None):
        parser.error(f"--{name} FILE is for videos that began with one, and needed for those")
inputs = {name: handle_file(path) for name, path in files.items() if path is not None}
job = connect().submit(**call["parameters"], **inputs, api_name=call["api_name"])
save(job, args.out)
