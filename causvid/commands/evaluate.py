"""`python -m causvid evaluate`: does the pocket model show what it is asked for, and for how long?

    judge       how far the judge can be trusted: its accuracy on rendered clips
    codec       what it keeps of rendered clips: error, sharpness, seams
    adherence   share of attributes that are judged as asked, student and teacher
    pictures    beside rendered clips: Fréchet distance, seams, sharpness, flicker, colours
    motion      whether motions go on from chunk to chunk, for ten seconds
    switch      how soon and how completely a new prompt takes over, for every hand-over
    image       image-to-video: fidelity of the first frames
    video       video-to-video: prompt and source against strength
    drift       adherence and looks by the minute
    ablations   students that were trained in other ways, given with --rivals
    given       whether a given picture is still there after 1, 3, 10 s, and the camera obeys
    seeds       how far ten seeds of a prompt are apart, over rendered clips
    restyle     given videos: what the prompt asks against structure kept, by strength

The judge is a classifier that was trained on rendered clips alone (`causvid.world.judge`), so a
model has to be of the procedural world: the pocket model, or one that `train export` wrote. The
last three measure any model.
"""

import argparse
import json
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causvid.evaluate import OF_ANY_MODEL, PARTS, QUICK, Sizes
from causvid.presets import execution

if TYPE_CHECKING:  # it imports torch
    from causvid.evaluate.session import Session


def _names(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(
            f"unknown part {', '.join(unknown)}; there are {', '.join(known)}"
        )
    return names


def _rival(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER such as dmd=runs/pocket/dmd")
    return name, Path(folder)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="pocket",
        help="a name, folder or Hub id; most parts take models of the procedural world only",
    )
    parser.add_argument("--judge", type=Path, help="the judge's weights (default: the shipped)")
    parser.add_argument(
        "--only",
        type=lambda text: _names(text, PARTS),
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
        type=lambda text: _names(text, ("student", "teacher")),
        help="whose adherence and pictures: student,teacher (default: what the model has)",
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--seed", type=int, default=0)
    for size in fields(Sizes):
        parser.add_argument(
            f"--{size.name.replace('_', '-')}",
            type=type(size.default),
            help=f"{size.metadata['help']} (default: {size.default:g})",
        )
    parser.add_argument("--teacher-steps", type=int, default=50)
    parser.add_argument(
        "--guidance", type=float, help="the teacher's (default: that of its training)"
    )
    parser.add_argument(
        "--report",
        type=Path,
        help="a folder for contact sheets, plots, report.json and README.md; parts that were "
        "measured before and are not measured now stay in it",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    execution.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Measure, print, write. Always 0: a missed target is a finding, not a failure.

    Raises:
        ValueError: if a number is out of range, or the model is missing or of another world.
    """
    from causvid.evaluate.report import MEASUREMENTS, Report

    session = _session(args)
    settings = _settings(args, session)
    report = Report.open(args.report)
    if not args.json:
        print(f"{settings['weights']}: {settings['execution']}\n")
    for name in args.only or PARTS:
        if name == "ablations" and not session.rivals:
            if args.only:
                raise ValueError("ablations need students to compare: pass --rivals NAME=FOLDER …")
            continue
        start = time.process_time()
        part = MEASUREMENTS[name].run(session)
        seconds = time.process_time() - start
        report.add(name, part, {**settings, "cpu_seconds": round(seconds, 1)})
        if not args.json:
            table = report.table(name)
            print(f"{table.title} ({seconds:.0f} cpu-s)\n{table.format('plain')}\n", flush=True)
    if args.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        print(report.target_table().format("plain"))
    return 0


def _session(args: argparse.Namespace) -> "Session":
    from causvid.evaluate.session import Session
    from causvid.evaluate.subjects import Subjects
    from causvid.presets.registry import get_preset
    from causvid.training.recipes import POCKET
    from causvid.world.judge import SHIPPED, Judge

    asked = {field.name: getattr(args, field.name) for field in fields(Sizes)}
    chosen = {name: value for name, value in asked.items() if value is not None}
    for name, value in {**chosen, "teacher_steps": args.teacher_steps}.items():
        if not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be more than 0, got {value}")
    guidance = POCKET.trajectories.guidance if args.guidance is None else args.guidance
    subjects = Subjects(
        get_preset(args.model),
        execution.from_args(args),
        latents=POCKET.trajectories.frames,
        teacher_steps=args.teacher_steps,
        guidance=guidance,
    )
    if not set(args.only or PARTS) <= set(OF_ANY_MODEL):
        _ = subjects.pipe  # refuses other worlds before anything is measured
    judged = args.subjects or ("student", "teacher")[: 1 + subjects.has_teacher]
    if "teacher" in judged and not subjects.has_teacher:
        raise ValueError(f"{args.model} has no teacher/: pass --subjects student")
    sizes = replace(QUICK if args.quick else Sizes(), **chosen)
    judge = Judge.load(args.judge or SHIPPED)
    return Session(subjects, judge, sizes, judged, args.seed, dict(args.rivals))


def _settings(args: argparse.Namespace, session: "Session") -> dict[str, Any]:
    import torch

    return {
        "weights": session.subjects.preset.name,
        "seed": args.seed,
        "subjects": list(session.judged),
        "teacher_steps": args.teacher_steps,
        "guidance": session.subjects.guidance,
        "frames": session.subjects.frames,
        "threads": torch.get_num_threads(),
        "execution": execution.in_force(session.subjects.loaded),
        **asdict(session.sizes),
    }
