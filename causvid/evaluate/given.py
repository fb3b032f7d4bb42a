"""What becomes of a given picture: is it still there after 1, 3, 10 s, and does the camera obey?

Given are first frames of rendered scenes, drawings and photographs. Each is asked to rest, and,
again, to be seen by a camera that pans or zooms. Kept is structure (`structure`), after the
camera's motion is undone; the rendered clips of the same scenes show what the figure can be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageOps

from causvid.evaluate.doodles import doodle
from causvid.evaluate.measurement import Figures, Measurement, Part, Table, mean, number, percent
from causvid.evaluate.prompts import Speaker, drawn
from causvid.evaluate.session import SHEET_ROWS, Session, progress
from causvid.evaluate.structure import Alignment, Reference
from causvid.evaluate.subjects import frames_of
from causvid.world.samples import SheetRow, contact_sheet
from causvid.world.wide import Scene
from causvid.world.wide.words import CAMERAS, STANDSTILL

KINDS = ("world", "doodles", "photographs")
AGES = (1.0, 3.0, 10.0)
"""Seconds after which a picture that rests is looked for."""
MOVED_AGES = AGES[:2]
"""Those of a moving camera: in ten seconds it has gone past the picture."""
KEPT = 0.75
"""What counts as kept. Pictures that have nothing in common reach a third, a picture that is
blurred to cells of 16 pixels a half."""

_MOVES = ("left", "right", "in", "out")
_READ_AT = 2.0
_FOUND = 0.5
"""Below that, a picture is not found at all, and no camera is read."""
_ZOOMED, _PANNED = 1.1, 0.04
_SALT = 61_018


@dataclass(frozen=True, eq=False)
class Given:
    """A picture, and what is asked of it.

    Attributes:
        kind: one of `KINDS`.
        picture: uint8 `[h, w, 3]`.
        camera: `still`, or how it shall move.
        scene: what drew it, for kind `world`.
    """

    kind: str
    picture: np.ndarray
    camera: str
    prompt: str
    seed: int
    scene: Scene | None = None

    @property
    def seconds(self) -> float:
        return (AGES if self.camera == "still" else MOVED_AGES)[-1]


@dataclass(frozen=True, eq=False)
class Kept:
    """What a video from a given picture shows of it.

    Attributes:
        ages: seconds → what is kept.
        camera: how the camera moved, `None` if the picture cannot be found.
        strip: frames at the beginning and at every age.
    """

    given: Given
    ages: dict[float, float]
    camera: str | None
    strip: np.ndarray

    @classmethod
    def of(cls, given: Given, frames: np.ndarray, fps: float) -> "Kept":
        """Read a video that begins with the picture."""
        reference = Reference(given.picture)
        ages = [age for age in AGES if age <= given.seconds]
        shown = [min(round(age * fps), len(frames) - 1) for age in ages]
        found = {age: reference.find(frames[i]).kept for age, i in zip(ages, shown, strict=True)}
        seen = reference.find(frames[min(round(_READ_AT * fps), len(frames) - 1)])
        strip = np.stack([given.picture, *(frames[i] for i in (round(0.25 * fps), *shown))])
        return cls(given, found, camera_of(seen), strip)


def camera_of(seen: Alignment) -> str | None:
    """How a camera moved that shows a picture so after two seconds: one of the world's `CAMERAS`.

    `None` if the picture cannot be found in what it shows.
    """
    if seen.kept < _FOUND:
        return None
    if not 1 / _ZOOMED < seen.zoom < _ZOOMED:
        return "in" if seen.zoom > 1 else "out"
    if max(abs(seen.right), abs(seen.down)) < _PANNED:
        return "still"
    if abs(seen.right) >= abs(seen.down):
        return "left" if seen.right > 0 else "right"
    return "up" if seen.down > 0 else "down"


def given_pictures(
    kind: str, count: int, seed: int, height: int, width: int, speaker: Speaker
) -> Iterator[Given]:
    """The first `count` pictures of a kind, each resting and under a moving camera."""
    for index in range(count):
        rng = np.random.default_rng((_SALT, seed, KINDS.index(kind), index))
        move = _MOVES[index % len(_MOVES)]
        noise = int(rng.integers(2**31))
        if kind == "world":
            for camera in ("still", move):
                scene = _resting(rng, camera)
                picture = drawn(scene, 1, height, width)[0]
                yield Given(kind, picture, camera, speaker.caption(scene, rng), noise, scene)
            continue
        picture = doodle(rng, height, width) if kind == "doodles" else photograph(index)
        picture = np.asarray(ImageOps.fit(Image.fromarray(picture), (width, height)))
        for camera, words in (("still", STANDSTILL), (move, CAMERAS[move])):
            said = [words[i] for i in rng.permutation(len(words))]
            yield Given(kind, picture, camera, speaker.best(said), noise)


def _resting(rng: np.random.Generator, camera: str) -> Scene:
    """A scene of held-out combinations in clear weather in which nothing but the camera moves."""
    while True:
        scene = Scene.sample(rng, "held_out")
        things = tuple(replace(thing, motion="still") for thing in scene.things)
        scene = replace(scene, things=things, camera=camera, weather="clear", cover="")
        if scene.split == "held_out":
            return scene


def photograph(index: int) -> np.ndarray:
    """A photograph of those that come with scikit-image, uint8 `[h, w, 3]`.

    Raises:
        ValueError: if scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError:
        raise ValueError(
            "photographs are those of scikit-image: pip install 'causvid-live[test]'"
        ) from None
    names = (
        *("astronaut", "coffee", "chelsea", "rocket"),
        *("camera", "stereo_motorcycle", "hubble_deep_field", "coins"),
    )
    picture = getattr(data, names[index % len(names)])()
    picture = picture[0] if isinstance(picture, tuple) else picture
    return np.asarray(Image.fromarray(picture).convert("RGB"))


def summary(clips: Sequence[Kept]) -> Figures:
    """Figures of at least one clip that rests and one under a camera, all of one kind."""
    resting = [clip for clip in clips if clip.given.camera == "still"]
    moved = [clip for clip in clips if clip.given.camera != "still"]
    return {
        "pictures": len(resting),
        # Means of what is kept, and shares of clips that keep enough.
        "resting": {age: mean(clip.ages[age] for clip in resting) for age in AGES},
        "kept": {age: mean(clip.ages[age] >= KEPT for clip in resting) for age in AGES},
        "moved": {age: mean(clip.ages[age] for clip in moved) for age in MOVED_AGES},
        "kept_moved": {age: mean(clip.ages[age] >= KEPT for clip in moved) for age in MOVED_AGES},
        "as_asked": mean(clip.camera == clip.given.camera for clip in clips),
        "moved_as_asked": mean(clip.camera == clip.given.camera for clip in moved),
    }


def _run(session: Session) -> Part:
    pipe, count = session.subjects.loaded, session.sizes.given
    grid, fps = pipe.generator().grid, pipe.generation.fps
    speaker = Speaker.of(pipe)
    figures: Figures = {}
    made: dict[str, list[Kept]] = {}
    for kind in KINDS:
        asked = given_pictures(kind, count, session.seed, grid.height, grid.width, speaker)
        made[kind], rendered = [], []
        for it in progress(asked, f"given {kind}", 2 * count):
            stream = pipe.stream(it.prompt, seed=it.seed, image=it.picture, seconds=it.seconds)
            made[kind].append(Kept.of(it, frames_of(stream), fps))
            if it.scene is not None:
                frames = drawn(it.scene, round(it.seconds * fps) + 1, grid.height, grid.width)
                rendered.append(Kept.of(it, frames, fps))
        figures[kind] = summary(made[kind])
        if rendered:
            figures["rendered"] = summary(rendered)
    return Part(figures, {f"given-{kind}": _sheet(clips) for kind, clips in made.items()})


def _sheet(clips: Sequence[Kept]) -> Image.Image:
    """One row for each clip, the given picture first."""
    rows = []
    length = max(len(clip.strip) for clip in clips)
    for clip in clips[:SHEET_ROWS]:
        missing = [clip.strip[-1:]] * (length - len(clip.strip))
        strip = np.concatenate([clip.strip, *missing])
        ages = "  ".join(f"{age:g} s {score:.2f}" for age, score in clip.ages.items())
        fault = f"camera {clip.camera}" if clip.camera != clip.given.camera else ""
        rows.append(SheetRow(f"{clip.given.prompt}   {ages}", strip, fault))
    return contact_sheet(rows)


def _table(figures: Figures) -> Table:
    header = ("a given picture", *(f"kept after {age:g} s" for age in AGES))
    header = (*header, *(f"panned, {age:g} s" for age in MOVED_AGES), "camera as asked")
    rows = [
        (
            f"{kind} ({of['pictures']})",
            *(f"{percent(of['kept'][a])} ({number(of['resting'][a])})" for a in of["kept"]),
            *(f"{percent(of['kept_moved'][a])} ({number(of['moved'][a])})" for a in of["moved"]),
            percent(of["moved_as_asked"]),
        )
        for kind, of in figures.items()
    ]
    note = (
        f"Shares of clips that keep at least {KEPT} of the picture's structure, in brackets the "
        "mean. Pictures that have nothing in common reach 0.31."
    )
    return Table("Given pictures", header, rows, note)


GIVEN = Measurement("given", _run, _table)
