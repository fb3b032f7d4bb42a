"""From what tabs and endpoints receive to a checked `Request`: one way for both."""

import math
from dataclasses import dataclass
from typing import Any

from causvid.generation.prompts import PromptSchedule
from causvid.pipeline import DEFAULT_SECONDS
from causvid.serving.limits import (
    check_number,
    check_prompt,
    check_request,
    check_schedule,
    read_size,
)
from causvid.serving.request import Mode, Request
from causvid.serving.service import Service


@dataclass(frozen=True)
class Choices:
    """The parameters that every way to a video has; numbers may come as floats.

    Args:
        seconds: 0 for an endless video; `None` for 5, or the whole source of video-to-video.
        seed: of the noise.
        size: WIDTHxHEIGHT; `None` for the model's own, as for the next three.
        steps, window, sink: as in `Request`.
        decoder: "full" or "tiny".
        model: `None` for the server's first.
        strength, adaptive_strength: video-to-video.
    """

    seconds: float | None = 5.0
    seed: float = 0
    size: str | None = None
    steps: float | None = None
    window: float | None = None
    sink: float | None = None
    decoder: str = "full"
    model: str | None = None
    strength: float = 0.7
    adaptive_strength: bool = False


def read_prompts(service: Service, prompt: str | None, schedule: Any = None) -> PromptSchedule:
    """One prompt, or a schedule in any form in place of it.

    Raises:
        ValueError: names the line or row.
    """
    if schedule:
        return check_schedule(schedule, service.settings)
    return PromptSchedule.constant(check_prompt(prompt, service.settings))


def read_request(
    service: Service, mode: Mode, prompts: PromptSchedule, choices: Choices
) -> Request:
    """A request within the limits, its size filled in.

    Raises:
        ValueError: says what came and what is allowed.
    """
    height, width = read_size(choices.size)
    seconds = choices.seconds
    if seconds is not None:
        seconds = check_number("length", seconds)
    if mode != "video":
        seconds = {None: DEFAULT_SECONDS, 0: math.inf}.get(seconds, seconds)
    if choices.decoder not in ("full", "tiny"):
        raise ValueError(f"the decoder is {choices.decoder!r:.40}; expected full or tiny")
    request = Request(
        model=choices.model or service.settings.model,
        mode=mode,
        prompts=prompts,
        seconds=seconds,
        seed=check_number("seed", choices.seed, whole=True),
        height=height,
        width=width,
        strength=check_number("strength", choices.strength),
        adaptive_strength=bool(choices.adaptive_strength),
        steps=_whole("number of steps", choices.steps),
        window=_whole("window", choices.window),
        sink=_whole("sink", choices.sink),
        decoder=choices.decoder,
    )
    return check_request(request, service.models.preset(request.model), service.settings)


def _whole(name: str, value: float | None) -> int | None:
    """`None`, the model's own, stays."""
    return None if value is None else check_number(name, value, whole=True)
