"""The parts of an evaluation, and what they share.

Clips that several parts need are made and measured once. A part returns its figures, ready for
JSON, and sheets to look at.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from causvid.evaluate import sheets
from causvid.evaluate.ablations import rival
from causvid.evaluate.accuracy import accuracy
from causvid.evaluate.adherence import adherence
from causvid.evaluate.cases import Case, cases, changes
from causvid.evaluate.following import followed, video_to_video
from causvid.evaluate.longrun import drift, long_runs
from causvid.evaluate.measured import Grid, Measured, measure
from causvid.evaluate.moving import SECONDS, moving
from causvid.evaluate.pictures import pictures
from causvid.evaluate.starting import image_to_video, started
from causvid.evaluate.subjects import Reconstructed, Rendered, Student, Subject, Weights
from causvid.evaluate.switching import handing, switches
from causvid.training import fidelity
from causvid.world.judge import Judge
from causvid.world.pixels import diorama_clip

Item = TypeVar("Item")

_SALT = 31_088  # sets clips for the codec apart from those of other draws with the same seed
_ANOTHER = 1  # variant of rendered clips: the same scenes, other chances


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        reader_clips: rendered clips that the reader is tested on.
        codec_clips: rendered clips that the codec is tested on.
        prompts: clips of the student, and of the teacher.
        motions: streams whose motion is followed.
        streams, minutes: long streams, and their length.
        switches, images, videos: cases of switching, image-to-video and video-to-video.
    """

    reader_clips: int = 400
    codec_clips: int = 32
    prompts: int = 100
    motions: int = 48
    streams: int = 2
    minutes: float = 10.0
    switches: int = 32
    images: int = 20
    videos: int = 10


QUICK = Sizes(
    reader_clips=60,
    codec_clips=8,
    prompts=12,
    motions=6,
    streams=1,
    minutes=0.5,
    switches=6,
    images=6,
    videos=4,
)


class Part(NamedTuple):
    """What a part came to."""

    figures: dict[str, Any]
    sheets: dict[str, Image.Image]


@dataclass(frozen=True)
class Session:
    """One evaluation: whose weights, judged by whom, how much of it.

    Args:
        subjects: `"student"`, `"teacher"` or both: who is judged by adherence and pictures.
        rivals: stage folders of training runs, by name: students trained in other ways.
    """

    weights: Weights
    reader: Judge
    sizes: Sizes
    subjects: tuple[str, ...]
    seed: int
    rivals: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def cases(self) -> list[Case]:
        return cases(self.sizes.prompts, self.seed)

    @cached_property
    def grid(self) -> Grid:
        return self._grid(self.weights.latents)

    @cached_property
    def judged(self) -> dict[str, list[Measured]]:
        """The clips of every subject."""
        return {name: self._measured(getattr(self.weights, name), name) for name in self.subjects}

    @cached_property
    def rendered(self) -> list[Measured]:
        """The same scenes rendered."""
        return self._measured(Rendered(self.weights.frames), "rendered")

    @cached_property
    def rendered_again(self) -> list[Measured]:
        """The same scenes with other chances: how far apart the figures of two truths are."""
        return self._measured(Rendered(self.weights.frames, _ANOTHER), "rendered again")

    @cached_property
    def reconstructed(self) -> list[Measured]:
        """Those seen through the codec: what no model behind it can exceed."""
        subject = Reconstructed(self.weights.pipe, self.weights.frames, _ANOTHER)
        return self._measured(subject, "reconstructed")

    def _measured(self, subject: Subject, name: str) -> list[Measured]:
        made = measure(subject, self.cases, self.reader, self.grid)
        return list(progress(made, name, len(self.cases)))

    def _grid(self, latents: int) -> Grid:
        pipe = self.weights.pipe
        timeline = pipe.generator().timeline
        starts = (timeline.first_pixel_frame(chunk) for chunk in range(1, latents))
        return Grid(pipe.codec().spatial_stride, tuple(starts))

    def accuracy(self) -> Part:
        """The reader itself, on rendered clips."""
        indices = progress(range(self.sizes.reader_clips), "reader", self.sizes.reader_clips)
        result = accuracy(self.reader, indices, frames=self.weights.frames, seed=self.seed)
        return Part(asdict(result), {})

    def codec(self) -> Part:
        """What the codec keeps of rendered clips of held-out scenes."""
        count, frames = self.sizes.codec_clips, self.weights.frames
        rng = np.random.default_rng((_SALT, self.seed))
        clips = (diorama_clip(rng, frames=frames, split="held_out") for _ in range(count))
        kept = fidelity.measure(self.weights.pipe.vae, progress(clips, "codec", count))
        return Part({"clips": count, **asdict(kept)}, {})

    def adherence(self) -> Part:
        """Whether videos show what was asked for, and whether the codec can show it."""
        judged = {**self.judged, "reconstructed": self.reconstructed}
        return Part(
            {name: asdict(adherence(clips)) for name, clips in judged.items()},
            {name: sheets.of_clips(clips) for name, clips in judged.items()},
        )

    def pictures(self) -> Part:
        """How videos look beside rendered ones of the same scenes."""
        compared = {
            **self.judged,
            "reconstructed": self.reconstructed,
            "rendered again": self.rendered_again,
        }
        figures = {name: pictures(clips, self.rendered) for name, clips in compared.items()}
        return Part({name: asdict(of) for name, of in figures.items()}, {})

    def motion(self) -> Part:
        """Whether motions go on when the window rolls."""
        pipe, count = self.weights.pipe, self.sizes.motions
        timeline = pipe.generator().timeline
        latents = timeline.grid.latent_frames(round(SECONDS * timeline.fps))
        grid, frames = self._grid(latents), timeline.grid.pixel_start(latents)
        figures = {}
        for name, subject in (("student", Student(pipe, latents)), ("rendered", Rendered(frames))):
            asked = progress(cases(count, self.seed), f"motion, {name}", count)
            figures[name] = asdict(moving(subject, asked, self.reader, grid, timeline.fps))
        return Part(figures, {})

    def drift(self) -> Part:
        """Whether long streams stay as they began."""
        sizes = self.sizes
        runs = long_runs(
            self.weights.student, self.cases[: sizes.streams], self.reader, sizes.minutes
        )
        done = list(progress(runs, "long streams", sizes.streams))
        return Part(asdict(drift(done)), {"minutes": sheets.of_long_runs(done)})

    def switch(self) -> Part:
        """What becomes of a prompt that changes."""
        count = self.sizes.switches
        judged = switches(self.weights.student, changes(count, self.seed), self.reader)
        done = list(progress(judged, "switches", count))
        return Part(
            {name: asdict(handing([each[name] for each in done])) for name in done[0]},
            {"switches": sheets.of_switches(done)},
        )

    def image(self) -> Part:
        """Videos that begin with a picture."""
        count = self.sizes.images
        clips = started(self.weights.student, cases(count, self.seed), self.reader)
        done = list(progress(clips, "image to video", count))
        return Part(asdict(image_to_video(done)), {"images": sheets.of_started(done)})

    def video(self) -> Part:
        """Videos that follow another."""
        count = self.sizes.videos
        clips = followed(self.weights.student, changes(count, self.seed), self.reader)
        done = list(progress(clips, "video to video", count))
        figures = {
            str(strength): asdict(video_to_video([each[strength] for each in done]))
            for strength in done[0]
        }
        return Part(figures, {"videos": sheets.of_followed(done)})

    def ablations(self) -> Part:
        """Students that were trained in other ways."""
        figures = {}
        for name, folder in progress(self.rivals.items(), "rivals", len(self.rivals)):
            student = self.weights.rival(folder)
            judged = rival(
                student, self.cases, self.sizes.streams, self.reader, self.grid, self.rendered
            )
            figures[name] = asdict(judged)
        return Part(figures, {})


PARTS: dict[str, Callable[[Session], Part]] = {
    "reader": Session.accuracy,
    "codec": Session.codec,
    "adherence": Session.adherence,
    "pictures": Session.pictures,
    "motion": Session.motion,
    "switch": Session.switch,
    "image": Session.image,
    "video": Session.video,
    "drift": Session.drift,
    "ablations": Session.ablations,
}
"""In the order in which they run, the longest last."""


def progress(items: Iterable[Item], name: str, total: int) -> Iterator[Item]:
    """The items, with a progress bar on the error stream."""
    return iter(tqdm(items, desc=name, total=total, file=sys.stderr, mininterval=2.0))
