"""Whether another seed makes another video: how far ten videos of one prompt are apart.

The world answers a caption with many pictures. The spread of a model's ten pictures is held against
that of ten rendered ones in three ways: where things and outlines are, how colours are laid out,
and which colours there are. Seen are pictures one second after the beginning.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from causvid.evaluate.measurement import Figures, Measurement, Part, Table, mean, number
from causvid.evaluate.prompts import Speaker, drawn
from causvid.evaluate.session import SHEET_ROWS, Session, progress
from causvid.evaluate.structure import edges
from causvid.evaluate.subjects import frames_of
from causvid.world.samples import SheetRow, contact_sheet
from causvid.world.wide import Scene, spread
from causvid.world.wide.captions import words_of
from causvid.world.wide.scene import PLACED

SEEDS = 10
AT = 1.0
"""Seconds after which pictures are compared."""

_SALT = 40_277
_POOL = 400
_LAYOUT = (10, 6)
"""Columns and rows of the patches whose colours are compared."""
_SHEET_SEEDS = 5

Pictures = NDArray[np.uint8]


def spreads(pictures: Pictures) -> dict[str, float]:
    """How far pictures uint8 `[n, h, w, 3]` of one prompt are apart, as means over pairs.

    `place`: one minus the correlation of gradients at the same place; 0 for equal outlines.
    `background`: root mean square difference of colours of patches, grey levels.
    `look`: distance of the mean and the deviation of each colour channel, grey levels.
    """
    outlines = [edges(picture) for picture in pictures]
    outlines = [part / np.sqrt(np.square(part).sum() + 1e-6) for part in outlines]
    patches = [_patches(picture) for picture in pictures]
    looks = [np.concatenate([p.mean((0, 1)), p.std((0, 1))]) for p in pictures]

    def apart(values: Sequence[np.ndarray], distance: Callable[[Any, Any], Any]) -> float:
        return mean(float(distance(a, b)) for a, b in combinations(values, 2))

    return {
        "place": apart(outlines, lambda a, b: 1 - (a * b).sum()),
        "background": apart(patches, lambda a, b: np.sqrt(np.square(a - b).mean())),
        "look": apart(looks, lambda a, b: np.linalg.norm(a - b)),
    }


def _patches(picture: Pictures) -> NDArray[np.float32]:
    small = Image.fromarray(picture).resize(_LAYOUT, Image.Resampling.BOX)
    return np.asarray(small, np.float32)


def relative(made: Sequence[Pictures], real: Sequence[Pictures]) -> Figures:
    """Mean spreads of made pictures, one array a prompt, over those of rendered ones."""
    pairs = [(spreads(m), spreads(r)) for m, r in zip(made, real, strict=True)]
    names = tuple(pairs[0][0])
    shares = {n: mean(m[n] for m, _ in pairs) / mean(r[n] for _, r in pairs) for n in names}
    return {"prompts": len(pairs), **shares, "mean": mean(shares.values())}


def prompts(count: int, seed: int, speaker: Speaker) -> list[tuple[Scene, str]]:
    """Scenes of one named thing at a named place, with a prompt each.

    The prompts name both, and are those of a pool of which a model knows the most words.
    """
    rng = np.random.default_rng((_SALT, seed))
    pool: list[tuple[Scene, str]] = []
    while len(pool) < _POOL:
        scene = Scene.sample(rng, "train")
        if scene.background in PLACED and len(scene.things) == 1 and scene.things[0].kind:
            said = speaker.caption(scene, rng)
            if {scene.background, scene.things[0].kind} <= set(words_of(said)):
                pool.append((scene, said))
    return sorted(pool, key=lambda each: -speaker.knows(each[1]))[:count]


def _run(session: Session) -> Part:
    pipe, count = session.subjects.loaded, session.sizes.spreads
    grid, fps = pipe.generator().grid, pipe.generation.fps
    frame = round(AT * fps)
    made: list[Pictures] = []
    real: list[Pictures] = []
    again: list[Pictures] = []
    said: list[str] = []
    asked = prompts(count, session.seed, Speaker.of(pipe))
    for scene, prompt in progress(asked, "seeds", count):
        streams = (pipe.stream(prompt, seed=seed, seconds=AT + 0.5) for seed in range(SEEDS))
        made.append(np.stack([frames_of(stream)[frame] for stream in streams]))
        other = replace(scene, seed=scene.seed + 1)
        for group, source in ((real, scene), (again, other)):
            scenes = spread(source, SEEDS)
            group.append(
                np.stack([drawn(s, frame + 1, grid.height, grid.width)[-1] for s in scenes])
            )
        said.append(prompt)
    figures = {"made": relative(made, real), "rendered again": relative(again, real)}
    return Part(figures, {"seeds": _sheet(said, made, real)})


def _sheet(said: Sequence[str], made: Sequence[Pictures], real: Sequence[Pictures]) -> Image.Image:
    """Two rows for each prompt: pictures of the first seeds, and rendered ones."""
    rows = []
    for prompt, *both in list(zip(said, made, real, strict=True))[: SHEET_ROWS // 2]:
        for name, pictures in zip(("", "rendered: "), both, strict=True):
            rows.append(SheetRow(f"{name}{prompt}", pictures[:_SHEET_SEEDS]))
    return contact_sheet(rows)


def _table(figures: Figures) -> Table:
    names = ("place", "background", "look", "mean")
    rows = [
        (f"{n} ({of['prompts']})", *(number(of[c]) for c in names)) for n, of in figures.items()
    ]
    header = (f"spread of {SEEDS} seeds over that of rendered clips", *names)
    return Table("Seeds", header, rows)


SPREAD = Measurement("seeds", _run, _table)
