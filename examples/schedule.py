"""A story from a file: python examples/schedule.py examples/schedules/day.txt --seconds 12."""

import argparse
from pathlib import Path

from common import connect, existing, keep, save

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("schedule", type=existing, help="timed prompts, as lines or as JSON")
parser.add_argument("--seconds", type=float, default=12)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("schedule.mp4"))
args = parser.parse_args()
keep(args.schedule, args.out)

job = connect().submit(
    args.schedule.read_text(encoding="utf-8"),
    seconds=args.seconds,
    seed=args.seed,
    api_name="/scheduled_video",
)
save(job, args.out)
