"""How far judge and codec can be trusted, on rendered clips of held-out scenes.

The judge's accuracy, and what the codec keeps: error, sharpness, seams.
"""

from collections.abc import Iterable
from dataclasses import asdict

import numpy as np

from causvid.evaluate.measurement import Figures, Measurement, Part, Table, number, percent
from causvid.evaluate.session import Session, progress
from causvid.training import fidelity
from causvid.world import ATTRIBUTES, Scene, render
from causvid.world.judge import Judge
from causvid.world.pixels import diorama_clip

_JUDGE_SALT, _CODEC_SALT = 77_003, 31_088  # separate these clips from other draws of a seed
_LATEST_START = 480  # frames; clips begin anywhere in the first half minute


def accuracy(judge: Judge, indices: Iterable[int], *, frames: int, seed: int) -> Figures:
    """Shares of each attribute judged right, over one clip of `frames` frames for each index.

    `windows` counts single windows, as short as a motion can be judged from; `whole` counts clips
    by all their windows together, as generated clips are judged.
    """
    windows: dict[str, list[np.ndarray]] = {name: [] for name in ATTRIBUTES}
    whole: dict[str, list[bool]] = {name: [] for name in ATTRIBUTES}
    for index in indices:
        rng = np.random.default_rng((_JUDGE_SALT, seed, index))
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


def _run_judge(session: Session) -> Part:
    count, frames = session.sizes.judge_clips, session.subjects.frames
    indices = progress(range(count), "judge", count)
    return Part(accuracy(session.judge, indices, frames=frames, seed=session.seed), {})


def _judge_table(figures: Figures) -> Table:
    rows = [
        (title, *(percent(figures[key][name]) for name in ATTRIBUTES))
        for title, key in (("one window", "windows"), ("whole clip", "whole"))
    ]
    title = f"The judge, on {figures['clips']} rendered clips of held-out scenes"
    return Table(title, ("judged right", *ATTRIBUTES), rows)


JUDGE = Measurement("judge", _run_judge, _judge_table)


def _run_codec(session: Session) -> Part:
    count, subjects = session.sizes.codec_clips, session.subjects
    grid = subjects.pipe.generator().grid
    size = {"frames": subjects.frames, "height": grid.height, "width": grid.width}
    rng = np.random.default_rng((_CODEC_SALT, session.seed))
    clips = (diorama_clip(rng, split="held_out", **size) for _ in range(count))
    kept = fidelity.measure(subjects.pipe.vae, progress(clips, "codec", count))
    return Part({"clips": count, **asdict(kept)}, {})


def _codec_table(figures: Figures) -> Table:
    row = (f"{figures['psnr']:.2f}", number(figures["seam"]), number(figures["sharpness"]))
    title = f"The codec, on {figures['clips']} rendered clips of held-out scenes"
    header = ("reconstructions", "PSNR, dB", "seam", "sharpness")
    note = "Seam and sharpness over those of the clips."
    return Table(title, header, [("as viewers see them", *row)], note)


CODEC = Measurement("codec", _run_codec, _codec_table)
