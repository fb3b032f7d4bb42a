"""Whether the model of the procedural world shows what it is asked for, and for how long.

A measurement is one module: how it is run, its figures, table, contact sheet and plot. All take a
`Session` (which model, which judge, how many clips); `report` keeps what they return. Prompts are
fixed, half of them of combinations that no training stage samples, and the student is streamed as
a viewer gets it. This module itself loads no model and no torch.
"""

from dataclasses import dataclass, field

PARTS = (
    "judge",
    "codec",
    "adherence",
    "pictures",
    "motion",
    "switch",
    "image",
    "video",
    "drift",
    "ablations",
    "given",
    "seeds",
    "restyle",
)
"""The names of the measurements, in the order in which they run."""

OF_ANY_MODEL = ("given", "seeds", "restyle")
"""Those that ask neither the judge nor the world of the first pocket model."""


def _number_of(what: str, default: int) -> int:
    return field(default=default, metadata={"help": f"number of {what}"})


@dataclass(frozen=True)
class Sizes:
    """How much is measured; each field is an option of the command."""

    judge_clips: int = _number_of("rendered clips that the judge is tested on", 400)
    codec_clips: int = _number_of("rendered clips that the codec is tested on", 32)
    prompts: int = _number_of("clips of each subject", 100)
    motions: int = _number_of("streams of ten seconds whose motion is judged", 48)
    switches: int = _number_of("prompt switches, each under every hand-over", 32)
    images: int = _number_of("image-to-video clips", 20)
    videos: int = _number_of("video-to-video sources, each at every strength", 10)
    streams: int = _number_of("long streams", 2)
    given: int = _number_of("pictures of each kind that clips are made from", 12)
    spreads: int = _number_of("prompts, each with ten seeds", 12)
    restyled: int = _number_of("given videos, each at every strength", 16)
    minutes: float = field(default=10.0, metadata={"help": "length of a long stream"})


QUICK = Sizes(60, 8, 12, 6, 6, 6, 4, 1, 4, 3, 4, 0.5)
"""About a tenth of everything."""
