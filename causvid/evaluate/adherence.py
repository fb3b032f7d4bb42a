"""Adherence: how often a clip shows what its prompt asked for."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from causvid.evaluate.measured import Measured
from causvid.world import ATTRIBUTES


@dataclass(frozen=True)
class Adherence:
    """Shares of clips that read as asked, in [0, 1].

    Attributes:
        clips: how many.
        attributes: for each attribute.
        mean: over attributes.
        unseen, seen: the mean over clips of combinations that training never and did sample.
        complete: share of clips with every attribute right.
        misread: how often what was asked for was read as what, most often first.
    """

    clips: int
    attributes: dict[str, float]
    mean: float
    unseen: float | None
    seen: float | None
    complete: float
    misread: dict[str, int]


def adherence(clips: Sequence[Measured]) -> Adherence:
    """Of measured clips, at least one."""
    attributes = {name: _share([clip.right[name] for clip in clips]) for name in ATTRIBUTES}
    return Adherence(
        clips=len(clips),
        attributes=attributes,
        mean=sum(attributes.values()) / len(attributes),
        unseen=_mean([clip for clip in clips if clip.case.unseen]),
        seen=_mean([clip for clip in clips if not clip.case.unseen]),
        complete=_share([all(clip.right.values()) for clip in clips]),
        misread=dict(Counter(_misread(clips)).most_common()),
    )


def _misread(clips: Sequence[Measured]) -> Iterator[str]:
    for clip in clips:
        for name, right in clip.right.items():
            if not right:
                yield f"{getattr(clip.case.scene, name)} as {clip.values[name]}"


def _mean(clips: Sequence[Measured]) -> float | None:
    if not clips:
        return None
    return _share([right for clip in clips for right in clip.right.values()])


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)
