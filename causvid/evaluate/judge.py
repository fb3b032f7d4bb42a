"""How far the judge can be trusted: its accuracy on rendered clips of held-out scenes."""

from collections.abc import Iterable

import numpy as np

from causvid.evaluate.measurement import Figures, Measurement, Part, Table, percent
from causvid.evaluate.session import Session, progress
from causvid.world import ATTRIBUTES, Scene, render
from causvid.world.judge import Judge

_SALT = 77_003
_LATEST_START = 480  # frames; clips begin anywhere in the first half minute


def accuracy(judge: Judge, indices: Iterable[int], *, frames: int, seed: int) -> Figures:
    """Shares of each attribute judged right, over one clip of `frames` frames for each index.

    `windows` counts single windows, as short as a motion can be judged from; `whole` counts clips
    by all their windows together, as generated clips are judged.
    """
    windows: dict[str, list[np.ndarray]] = {name: [] for name in ATTRIBUTES}
    whole: dict[str, list[bool]] = {name: [] for name in ATTRIBUTES}
    for index in indices:
        rng = np.random.default_rng((_SALT, seed, index))
        scene = Scene.sample(rng, "held_out")
        start = int(rng.integers(_LATEST_START))
        clip = render(scene, frames=frames, start=start, seed=int(rng.integers(2**31)))
        judgement = judge.assess(clip)
        for name, matches in judgement.matches(scene).items():
            windows[name].append(matches)
            whole[name].append(judgement.values[name] == getattr(scene, name))
    return {
        "clips": len(whole["object"]),
        "windows": {name: float(np.concatenate(flags).mean()) for name, flags in windows.items()},
        "whole": {name: float(np.mean(flags)) for name, flags in whole.items()},
    }


def _run(session: Session) -> Part:
    count, frames = session.sizes.judge_clips, session.subjects.frames
    indices = progress(range(count), "judge", count)
    return Part(accuracy(session.judge, indices, frames=frames, seed=session.seed), {})


def _table(figures: Figures) -> Table:
    rows = [
        (title, *(percent(figures[key][name]) for name in ATTRIBUTES))
        for title, key in (("one window", "windows"), ("whole clip", "whole"))
    ]
    title = f"The judge, on {figures['clips']} rendered clips of held-out scenes"
    return Table(title, ("judged right", *ATTRIBUTES), rows)


JUDGE = Measurement("judge", _run, _table)
