"""Ablations: students that were trained in other ways, on the same budget, side by side.

Each is judged as the shipped student is: short clips of the fixed prompts, and long streams, of
which the last seconds count. Errors that accumulate show there and nowhere else.
"""

from dataclasses import replace

import numpy as np
import torch

from causvid.evaluate.adherence import adherence
from causvid.evaluate.drift import mean_looks
from causvid.evaluate.measurement import Figures, Measurement, Part, Table, number, percent
from causvid.evaluate.pictures import pictures
from causvid.evaluate.session import Session, measure, progress
from causvid.evaluate.subjects import Subjects
from causvid.generation.chunk import Looks

LONG_SECONDS, LAST_SECONDS = 60.0, 10.0


def _rival(session: Session, student: Subjects) -> Figures:
    """One student's figures.

    Of short clips as in `adherence` and `pictures`; of the last ten of sixty seconds the shares of
    windows that are right, with (`late`) and without motion (`late_seen`), and looks over those of
    the first ten.
    """
    grid = session.grid(student.latents)
    short = list(measure(student.student, session.cases, session.judge, grid))
    looks = pictures(short, session.rendered)
    frames = round(LAST_SECONDS * student.pipe.generation.fps)
    late, first, last = [], [], []
    for case in session.cases[: session.sizes.streams]:
        made = student.stream(case, seconds=LONG_SECONDS)
        matches = session.judge.assess(made[-frames:]).matches(case.scene)
        late.append({name: float(flags.mean()) for name, flags in matches.items()})
        first.append(Looks.of(torch.from_numpy(made[:frames])))
        last.append(Looks.of(torch.from_numpy(made[-frames:])))
    change = mean_looks(last).relative_to(mean_looks(first))
    seen = [share for each in late for name, share in each.items() if name != "motion"]
    return {
        "adherence": adherence(short)["mean"],
        **{name: looks[name] for name in ("frechet_looks", "frechet_motion", "seam", "sharpness")},
        "late": float(np.mean([share for each in late for share in each.values()])),
        "late_seen": float(np.mean(seen)),
        "saturation": change.saturation,
        "contrast": change.contrast,
    }


def _run(session: Session) -> Part:
    rivals = progress(session.rivals.items(), "rivals", len(session.rivals))
    students = ((name, replace(session.subjects, rival=folder)) for name, folder in rivals)
    return Part({name: _rival(session, student) for name, student in students}, {})


_COLUMNS = {
    "adherence": ("adherence", percent),
    "frechet_looks": ("Fréchet looks", number),
    "frechet_motion": ("Fréchet motion", number),
    "seam": ("seam", number),
    "sharpness": ("sharpness", number),
    "late": ("after 1 min", percent),
    "late_seen": ("… without motion", percent),
    "saturation": ("saturation", number),
    "contrast": ("contrast", number),
}


def _table(figures: Figures) -> Table:
    rows = [
        (name, *(cell(of[key]) for key, (_, cell) in _COLUMNS.items()))
        for name, of in figures.items()
    ]
    return Table(
        "Ablations, each on the same budget",
        ("student", *(title for title, _ in _COLUMNS.values())),
        rows,
        "Left of “after 1 min” short clips; from there on the last ten of sixty seconds: shares of "
        "windows judged as asked, and looks over those of the first ten.",
    )


ABLATIONS = Measurement("ablations", _run, _table)
