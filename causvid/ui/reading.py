"""From what tabs and endpoints receive to a checked `Request`: one way for both."""

import math
from dataclasses import dataclass
from typing import Any

from causvid.generation.parameters import parse_size
from causvid.generation.prompts import PromptSchedule
from causvid.serving.limits import check_prompt, check_request, check_schedule
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
    height, width = parse_size(choices.size)
    seconds = choices.seconds
    if mode != "video" and seconds == 0 and not isinstance(seconds, bool):
        seconds = math.inf
    request = Request.read(
        {
            "model": choices.model or service.settings.model,
            "mode": mode,
            "prompts": prompts,
            "seconds": seconds,
            "seed": choices.seed,
            "height": height,
            "width": width,
            "strength": choices.strength,
            "adaptive_strength": choices.adaptive_strength,
            "steps": choices.steps,
            "window": choices.window,
            "sink": choices.sink,
            "decoder": choices.decoder,
        }
    )
    return check_request(request, service.models.preset(request.model), service.settings)
