"""Change the prompt of a video while it is made, then extend the result.

python examples/steer.py "a red car drives right by day" "a red car drives right at night"
"""

import argparse
import shutil
from pathlib import Path

from common import connect, save, why

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("prompt")
parser.add_argument("then", help="the prompt after --after chunks")
parser.add_argument("--after", type=int, default=4)
parser.add_argument("--handover", default="recache", help="swap, recache, flush or blend:N")
parser.add_argument("--seconds", type=float, default=8)
parser.add_argument("--more", type=float, default=4, help="seconds to extend by; 0 for none")
parser.add_argument("--out", type=Path, default=Path("steered.mp4"))
args = parser.parse_args()

client = connect()
job = client.submit(args.prompt, seconds=args.seconds, api_name="/text_to_video")
for _, info, final in job:
    if final is not None:
        shutil.copyfile(final, args.out)
        break
    print(f"chunk {info['index']}: {info['prompt']}")
    if info["index"] == args.after - 1:
        client.predict(info["run"], args.then, args.handover, api_name="/steer")
else:
    raise SystemExit(why(job))
if args.more:
    save(client.submit(info["run"], seconds=args.more, api_name="/extend"), args.out)
