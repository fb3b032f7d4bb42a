"""Limits, enforced before anything is queued. Every refusal says what came and what is allowed."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from causvid.generation.prompts import PromptSchedule, ScheduleError
from causvid.media import MAX_VIDEO_PIXELS, VideoInfo, fit, probe, read_image
from causvid.presets.preset import Preset
from causvid.serving.request import Request
from causvid.serving.settings import Settings

FRAME_BYTES = 2_000_000  # of one picture of a camera, compressed
FRAME_PIXELS = 1920 * 1088  # a camera's client makes them no larger than the model's
GRACE = 0.5  # seconds that a source may be longer, as containers round their length up


def check_prompt(prompt: str | None, settings: Settings) -> str:
    """The prompt without white space around it.

    Raises:
        ValueError: if it is empty or too long.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError("the prompt is empty; say what to show")
    if len(prompt) > settings.max_prompt:
        raise ValueError(
            f"the prompt has {len(prompt)} characters; allowed are {settings.max_prompt}"
        )
    return prompt.strip()


def check_schedule(source: Any, settings: Settings) -> PromptSchedule:
    """A schedule in any of its forms, within the limits.

    Raises:
        ValueError: names the line or row.
    """
    if isinstance(source, str) and len(source) > settings.max_prompt * settings.max_cues:
        raise ValueError(
            f"the schedule has {len(source)} characters; allowed are "
            f"{settings.max_prompt * settings.max_cues}"
        )
    schedule = PromptSchedule.parse(source)
    if len(schedule) > settings.max_cues:
        raise ValueError(f"the schedule has {len(schedule)} cues; allowed are {settings.max_cues}")
    for number, cue in enumerate(schedule, start=1):
        if len(cue.prompt) > settings.max_prompt:
            raise ScheduleError(
                f"the prompt has {len(cue.prompt)} characters; allowed are {settings.max_prompt}",
                f"cue {number}",
            )
    return schedule


def largest_window(preset: Preset) -> int:
    """Latent frames: what the published models attend to, or the model's own window. Memory grows
    with it."""
    return max(21, preset.generation.window)


def check_prompts(prompt: str | None, schedule: Any, settings: Settings) -> PromptSchedule:
    """One prompt, or a schedule in any of its forms in place of it.

    Raises:
        ValueError: names the line or row.
    """
    if schedule:
        return check_schedule(schedule, settings)
    return PromptSchedule.constant(check_prompt(prompt, settings))


def check_request(request: Request, preset: Preset, settings: Settings) -> Request:
    """The request with its size filled in.

    Raises:
        ValueError: if it is beyond the limits.
    """
    generation = preset.generation
    height = generation.height if request.height is None else request.height
    width = generation.width if request.width is None else request.width
    if height * width > settings.max_pixels:
        raise ValueError(
            f"{width}x{height} are {width * height:,} pixels; allowed are {settings.max_pixels:,}"
        )
    seconds = request.seconds
    if seconds == math.inf:
        if not settings.endless_seconds:
            raise ValueError(f"endless runs are off; ask for up to {settings.max_seconds:g} s")
    elif seconds is not None:
        if seconds > settings.max_seconds:
            raise ValueError(f"the length is {seconds:g} s; allowed are {settings.max_seconds:g}")
        _check_work(seconds, height, width, settings)
    if request.window is not None and request.window > largest_window(preset):
        raise ValueError(
            f"the window is {request.window} latent frames; allowed are {largest_window(preset)}"
        )
    return request.model_copy(update={"height": height, "width": width})


def check_image(path: str | Path | None, height: int, width: int, settings: Settings) -> np.ndarray:
    """The picture in a file, cropped and scaled to uint8 `[height, width, 3]`.

    Raises:
        ValueError: if there is none, it cannot be read, or is too large.
    """
    if path is None:
        raise ValueError("there is no picture; choose one first")
    _check_bytes(path, settings)
    picture = read_image(Path(path), max_pixels=settings.upload_pixels, to_fit=(height, width))
    return fit(picture, height, width)


def check_frame(data: bytes, height: int, width: int) -> np.ndarray:
    """One picture of a camera, likewise. What is sent many times a second is to be small.

    Raises:
        ValueError: if it is too large, or cannot be read.
    """
    if len(data) > FRAME_BYTES:
        raise ValueError(
            f"the picture has {len(data):,} bytes; of a camera, allowed are {FRAME_BYTES:,}"
        )
    return fit(read_image(data, max_pixels=FRAME_PIXELS), height, width)


def check_video(path: str | Path | None, request: Request, settings: Settings) -> VideoInfo:
    """What is in a video file that a checked request is to be made from, as found by reading it.

    Raises:
        ValueError: if there is none, it cannot be read, or is too large, fast or long.
    """
    if path is None:
        raise ValueError("there is no video; choose one first")
    _check_bytes(path, settings)
    path, pixels = Path(path), min(settings.upload_pixels, MAX_VIDEO_PIXELS)
    info = probe(path, max_pixels=pixels, whole=True)
    length = info.duration or 0.0
    if request.seconds is None and length > settings.max_seconds + GRACE:
        raise ValueError(
            f"{path.name} is {length:.1f} s long; allowed are {settings.max_seconds:g} s: ask for "
            "so many seconds of it"
        )
    _check_work(min(length, request.seconds or math.inf), *request.size, settings)
    return info


def longest_run(request: Request, settings: Settings) -> float:
    """Seconds after which a run of a checked request ends, whatever its source still holds."""
    if request.seconds == math.inf:
        return settings.endless_seconds
    height, width = request.size
    return min(settings.max_seconds, settings.max_work / (height * width)) + GRACE


def _check_work(seconds: float, height: int, width: int, settings: Settings) -> None:
    if seconds * height * width > settings.max_work:
        raise ValueError(
            f"{round(seconds, 2):g} s at {width}x{height} are too much; at this size, allowed are "
            f"{settings.max_work / (height * width):.0f} s"
        )


def _check_bytes(path: str | Path, settings: Settings) -> None:
    try:
        size = Path(path).stat().st_size
    except FileNotFoundError:
        raise ValueError(
            f"{Path(path).name} is not on the server any more, where uploads are kept for a while: "
            "upload it again"
        ) from None
    if size > settings.upload_mb * 10**6:
        raise ValueError(
            f"{Path(path).name} has {size / 1e6:.1f} MB; allowed are {settings.upload_mb}"
        )
    if not size:
        raise ValueError(f"{Path(path).name} is empty")
