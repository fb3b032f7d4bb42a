"""`python -m causvid evaluate`: does the pocket model show what it is asked for, and for how long?

    reader      how far the judge can be trusted: its accuracy on rendered clips
    codec       what it keeps of rendered clips: error, sharpness, seams
    adherence   share of attributes that read as asked, student and teacher
    pictures    beside rendered clips: Fréchet distance, seams, sharpness, flicker, colours
    motion      whether motions go on from chunk to chunk, for ten seconds
    switch      how soon and how completely a new prompt takes over, for every hand-over
    image       image-to-video: fidelity of the first frames
    video       video-to-video: prompt and source against strength
    drift       adherence and looks by the minute
    ablations   students that were trained in other ways, given with --rivals

The judge is a classifier that has seen rendered clips only (`causvid.world.judge`). Prompts are
fixed;
half of them are for combinations that no training stage samples. What is judged is the student as
a viewer gets it, streamed.
"""

import argparse
import json
import time
from dataclasses import asdict, fields, replace
from pathlib import Path

import torch

from causvid.evaluate.parts import PARTS, QUICK, Session, Sizes
from causvid.evaluate.report import Report
from causvid.evaluate.subjects import Weights
from causvid.evaluate.tables import table_of, verdict_table
from causvid.presets.catalogue import POCKET as POCKET_PRESET
from causvid.training.recipes import POCKET
from causvid.world.judge import SHIPPED, Judge

__all__ = ["add_arguments", "main"]

TEACHER_STEPS = 50


def _parts(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown part {', '.join(unknown)}; there are {', '.join(PARTS)}"
        )
    return names


def _subjects(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not set(names) <= {"student", "teacher"}:
        raise argparse.ArgumentTypeError(f"{text!r} is not student, teacher or student,teacher")
    return names


def _rival(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER such as dmd=runs/pocket/dmd")
    return name, Path(folder)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--weights",
        type=Path,
        default=POCKET_PRESET.folder,
        help="a folder that `python -m causvid train export` wrote (default: the shipped one)",
    )
    parser.add_argument("--reader", type=Path, default=SHIPPED, help="the judge's weights")
    parser.add_argument(
        "--only",
        type=_parts,
        help=f"of {','.join(PARTS)}, with commas (default: all; ablations if there are rivals)",
    )
    parser.add_argument(
        "--rivals",
        nargs="+",
        type=_rival,
        default=[],
        metavar="NAME=FOLDER",
        help="ablations: students to compare, each the folder of a training stage",
    )
    parser.add_argument(
        "--subjects",
        type=_subjects,
        help="whose adherence and pictures: student,teacher (default: what the folder has)",
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--seed", type=int, default=0)
    for name, what in (
        ("prompts", "clips of each subject"),
        ("motions", "streams whose motion is followed"),
        ("streams", "long streams"),
        ("switches", "prompt switches, each under every hand-over"),
        ("images", "image-to-video clips"),
        ("videos", "video-to-video sources, each at every strength"),
        ("reader-clips", "rendered clips that the reader is tested on"),
        ("codec-clips", "rendered clips that the codec is tested on"),
    ):
        parser.add_argument(f"--{name}", type=int, help=f"number of {what}")
    parser.add_argument("--minutes", type=float, help="length of a long stream")
    parser.add_argument("--teacher-steps", type=int, default=TEACHER_STEPS)
    parser.add_argument(
        "--guidance",
        type=float,
        default=POCKET.trajectories.guidance,
        help="the teacher's (default: that of its trajectories in training)",
    )
    parser.add_argument(
        "--report",
        type=Path,
        help="a folder for contact sheets, plots, report.json and README.md; parts that were "
        "measured before and are not measured now stay in it",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def main(args: argparse.Namespace) -> int:
    """Measure, print, write. Always 0: a missed target is a finding, not a failure.

    Raises:
        ValueError: if a number is out of range or the weights are not there.
    """
    session = _session(args)
    settings = _settings(args, session)
    report = Report.open(args.report)
    for name in args.only or tuple(PARTS):
        if name == "ablations" and not session.rivals:
            if args.only:
                raise ValueError("ablations need students to compare: pass --rivals NAME=FOLDER …")
            continue
        start = time.process_time()
        part = PARTS[name](session)
        seconds = time.process_time() - start
        report.add(name, part, {**settings, "cpu_seconds": round(seconds, 1)})
        if not args.json:
            table = table_of(name, report.figures[name])
            print(f"{table.title} ({seconds:.0f} cpu-s)\n{table.to_text()}\n", flush=True)
    if args.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        print(verdict_table(report.verdicts).to_text())
    return 0


def _session(args: argparse.Namespace) -> Session:
    asked = {field.name: getattr(args, field.name) for field in fields(Sizes)}
    chosen = {name: value for name, value in asked.items() if value is not None}
    for name, value in {**chosen, "teacher_steps": args.teacher_steps}.items():
        if not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be more than 0, got {value}")
    weights = Weights(
        args.weights,
        latents=POCKET.trajectories.frames,
        teacher_steps=args.teacher_steps,
        guidance=args.guidance,
    )
    subjects = args.subjects
    if subjects is None:
        subjects = ("student", "teacher") if weights.has_teacher else ("student",)
    if "teacher" in subjects and not weights.has_teacher:
        raise ValueError(f"there is no teacher/ in {args.weights}: pass --subjects student")
    sizes = replace(QUICK if args.quick else Sizes(), **chosen)
    reader = Judge.load(args.reader)
    return Session(weights, reader, sizes, subjects, args.seed, dict(args.rivals))


def _settings(args: argparse.Namespace, session: Session) -> dict:
    return {
        "weights": args.weights.name,
        "seed": args.seed,
        "subjects": list(session.subjects),
        "teacher_steps": args.teacher_steps,
        "guidance": args.guidance,
        "frames": session.weights.frames,
        "threads": torch.get_num_threads(),
        **asdict(session.sizes),
    }
