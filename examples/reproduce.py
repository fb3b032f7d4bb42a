"""Make the video of a manifest again: python examples/reproduce.py text.json.

Videos that began with a picture or a video need it: --image FILE or --video FILE.
"""

import argparse
import json
from pathlib import Path

from common import connect, save
from gradio_client import handle_file

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("manifest", type=Path)
parser.add_argument("--image", type=Path)
parser.add_argument("--video", type=Path)
parser.add_argument("--out", type=Path, default=Path("again.mp4"))
args = parser.parse_args()

call = json.loads(args.manifest.read_text(encoding="utf-8"))["call"]
files = {"image": args.image, "video": args.video}
inputs = {name: handle_file(path) for name, path in files.items() if path is not None}
job = connect().submit(**call["parameters"], **inputs, api_name=call["api_name"])
save(job, args.out)
