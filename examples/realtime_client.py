"""A video over the socket, saved as it comes, whose prompt changes on the way.

python examples/realtime_client.py "a red car drives right by day" "a red car drives right at night"
"""

import argparse
import json
import os
from pathlib import Path

from websockets.sync.client import connect

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("prompt")
parser.add_argument("then", nargs="?", help="the prompt after --after chunks")
parser.add_argument("--after", type=int, default=4)
parser.add_argument("--seconds", type=float, default=8)
parser.add_argument("--out", type=Path, default=Path("realtime.mp4"))
args = parser.parse_args()

server = os.environ.get("CAUSVID_SERVER", "http://127.0.0.1:7860")
address = server.replace("http", "ws", 1) + "/v1/realtime/video"
with connect(address, compression=None, max_size=None) as socket, args.out.open("wb") as video:

    def say(kind: str, **values) -> None:
        socket.send(json.dumps({"type": kind, **values}))

    say("session.start", prompt=args.prompt, seconds=args.seconds, ahead=4)
    for message in socket:
        if isinstance(message, bytes):  # one after the other, they are an MP4
            video.write(message)
            continue
        it = json.loads(message)
        if it["type"] == "video.chunk":
            print(f"chunk {it['info']['index']}: {it['info']['prompt']}")
            say("session.played", seconds=it["info"]["end"])  # more may be made
            if args.then and it["info"]["index"] == args.after - 1:
                say("session.prompt_update", prompt=args.then, handover="recache")
        elif it["type"] == "prompt.in_force":
            print(f"in force from chunk {it['chunk']}, at {it['seconds']:.2f} s")
        elif it["type"] == "error":
            raise SystemExit(it["message"])
        elif it["type"] == "session.done":
            print(f"{args.out}: {it['manifest']['video']['frames']} frames")
            break
