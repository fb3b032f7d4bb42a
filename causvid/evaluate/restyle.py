"""What becomes of a given video: at which strength does it keep its structure and obey the prompt?

Given are rendered clips in daylight and clear weather, and photographs that a camera passes over.
A prompt asks for another time of day or another weather. What is shown is read with the world's own
operators, which act on any picture: of the source at every time of day, or in every weather, the
one that the made video resembles most.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from causvid.evaluate.given import photograph
from causvid.evaluate.measurement import Figures, Measurement, Part, Table, mean, number, percent
from causvid.evaluate.prompts import Speaker, drawn
from causvid.evaluate.session import SHEET_ROWS, Session, progress, strip
from causvid.evaluate.structure import Reference
from causvid.evaluate.subjects import frames_of
from causvid.world.samples import SheetRow, contact_sheet
from causvid.world.wide import FPS, Scene, light, words

STRENGTHS = (0.3, 0.5, 0.7, 0.85, 0.95)
KEPT = 0.75

_SECONDS = 2.0
_LOOKS = 4
"""Frames over a clip at which structure is compared."""
_PAN = 0.12
"""Heights a second by which photographs are passed over."""
_ASKED = (("time", "night"), ("weather", "snowfall"), ("time", "sunset"), ("weather", "rain"))
_SALT = 70_117

Frames = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Source:
    """A video, and what a prompt asks of it.

    Attributes:
        frames: uint8 `[t, h, w, 3]`, in daylight and clear weather.
        attribute, value: `time` or `weather`, and the one that is asked for.
    """

    frames: Frames
    attribute: str
    value: str
    prompt: str
    seed: int


def relit(frames: Frames, time: str, weather: str, seed: int = 0) -> Frames:
    """A video by day and in clear weather, at another time of day or in another weather."""
    height, width = frames.shape[1:3]
    falling = light.Falling(weather, time, np.random.default_rng(seed), width, height)
    made = []
    for index, frame in enumerate(frames):
        picture = light.under(light.at(Image.fromarray(frame), time), weather)
        falling.draw(picture, index / FPS)
        made.append(np.asarray(picture))
    return np.stack(made)


def reading(source: Source, made: Frames) -> str:
    """The time of day, or the weather, that a video shows: a value of the asked attribute."""
    values = light.TIMES if source.attribute == "time" else light.WEATHERS
    seen = _signature(made[: len(source.frames)])

    def distance(value: str) -> float:
        changed = {"time": "day", "weather": "clear", source.attribute: value}
        other = _signature(relit(source.frames, changed["time"], changed["weather"]))
        return float(np.abs(np.subtract(seen, other)).sum())

    return min(values, key=distance)


def _signature(frames: Frames) -> NDArray[np.float64]:
    """Colours of quarters of the picture, their contrast, and what flickers, in grey levels."""
    values = frames[::2].astype(np.float32)
    halves = [half for part in np.array_split(values, 2, 1) for half in np.array_split(part, 2, 2)]
    colours = np.concatenate([half.mean((0, 1, 2)) for half in halves])
    contrast = values.std((1, 2)).mean(0)
    grey = values.mean(-1)
    # Brighter than both before and after: what falls past a pixel.
    passing = np.minimum(grey[1:-1] - grey[:-2], grey[1:-1] - grey[2:]).clip(0)
    passed = 12 * passing.mean()
    return np.concatenate([colours / len(halves), contrast, [3 * passed]])


@dataclass(frozen=True, eq=False)
class Restyled:
    """One source at one strength; `kept` is the mean structure kept, frame by frame."""

    source: Source
    kept: float
    shown: str
    strip: Frames

    @classmethod
    def of(cls, source: Source, made: Frames) -> "Restyled":
        length = min(len(made), len(source.frames))
        looks = np.linspace(0, length - 1, _LOOKS).round().astype(int)
        kept = mean(Reference(source.frames[i], zooms=(1.0,)).find(made[i]).kept for i in looks)
        return cls(source, kept, reading(source, made), strip(made[:length]))

    @property
    def obeys(self) -> bool:
        return self.shown == self.source.value


def summary(clips: Sequence[Restyled]) -> Figures:
    """Figures of at least one clip, all at one strength."""
    return {
        "clips": len(clips),
        "prompt": mean(clip.obeys for clip in clips),
        "structure": mean(clip.kept for clip in clips),
        "kept": mean(clip.kept >= KEPT for clip in clips),
        "both": mean(clip.obeys and clip.kept >= KEPT for clip in clips),
    }


def sources(count: int, seed: int, height: int, width: int, speaker: Speaker) -> Iterator[Source]:
    """The first `count` videos; every other one is a photograph that a camera passes over."""
    frames = round(_SECONDS * FPS) + 1
    for index in range(count):
        rng = np.random.default_rng((_SALT, seed, index))
        attribute, value = _ASKED[index // 2 % len(_ASKED)]
        if index % 2:
            video = _passed(photograph(index // 2), frames, height, width)
        else:
            video = drawn(_plain(rng), frames, height, width)
        table = words.TIMES if attribute == "time" else words.WEATHERS
        said = [table[value][i] for i in rng.permutation(len(table[value]))]
        yield Source(video, attribute, value, speaker.best(said), int(rng.integers(2**31)))


def _plain(rng: np.random.Generator) -> Scene:
    """A held-out scene in daylight and clear weather that can have another."""
    while True:
        scene = replace(Scene.sample(rng, "held_out"), time="day", weather="clear")
        if scene.split == "held_out" and scene.background not in ("space", "underwater", "room"):
            return scene


def _passed(picture: Frames, frames: int, height: int, width: int) -> Frames:
    reach = round(_PAN * height * frames / FPS)
    wide = ImageOps.fit(Image.fromarray(picture), (width + reach, height))
    whole = np.asarray(wide)
    places = np.linspace(0, reach, frames).round().astype(int)
    return np.stack([whole[:, x : x + width] for x in places])


def _run(session: Session) -> Part:
    pipe, count = session.subjects.loaded, session.sizes.restyled
    grid = pipe.generator().grid
    asked = sources(count, session.seed, grid.height, grid.width, Speaker.of(pipe))
    done: list[dict[float | str, Restyled]] = []
    for it in progress(asked, "restyle", count):
        clips: dict[float | str, Restyled] = {}
        for strength in STRENGTHS:
            stream = pipe.stream(it.prompt, seed=it.seed, video=it.frames, strength=strength)
            clips[strength] = Restyled.of(it, frames_of(stream))
        changed = {"time": "day", "weather": "clear", it.attribute: it.value}
        clips["rendered"] = Restyled.of(
            it, relit(it.frames, changed["time"], changed["weather"], seed=1)
        )
        done.append(clips)
    figures = {str(name): summary([each[name] for each in done]) for name in done[0]}
    return Part(figures, {"restyle": _sheet(done)})


def _sheet(clips: Sequence[Mapping[float | str, Restyled]]) -> Image.Image:
    """One row for each source and strength."""
    rows = []
    for each in clips[: SHEET_ROWS // len(clips[0])]:
        for name, clip in each.items():
            fault = "" if clip.obeys else clip.shown
            text = f"{name}  {clip.source.prompt}  {clip.kept:.2f}"
            rows.append(SheetRow(text, clip.strip, fault))
    return contact_sheet(rows)


def _table(figures: Figures) -> Table:
    rows = [
        (
            f"{name} ({of['clips']})",
            percent(of["prompt"]),
            percent(of["kept"]),
            number(of["structure"]),
            percent(of["both"]),
        )
        for name, of in figures.items()
    ]
    header = ("a given video, by strength", "prompt shown", "kept", "structure", "both")
    note = f"Kept: at least {KEPT} of the structure, frame by frame."
    return Table("Given videos", header, rows, note)


RESTYLE = Measurement("restyle", _run, _table)
