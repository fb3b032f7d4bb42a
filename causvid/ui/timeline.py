"""A prompt schedule as a picture: cues on the clock, chunk boundaries, and where each cue goes."""

import html

from causvid.generation.geometry import Timeline
from causvid.generation.prompts import PromptSchedule, ScheduleError

HUES = 6  # as in static/strip.js
_MOST_TICKS = 120


def draw_timeline(schedule: PromptSchedule, seconds: float, timeline: Timeline) -> str:
    """HTML of the schedule over a video of at least `seconds`.

    Args:
        timeline: the model's chunks, for boundaries and snapped times.

    Raises:
        ScheduleError: if a cue starts after the end.
    """
    count = timeline.chunk_count(seconds)
    length = timeline.duration(count)
    ticks = [timeline.start_time(chunk) for chunk in range(1, count)]
    snapped = schedule.snapped(timeline, count).cues
    starts = [min(cue.time, length) if cue.replaced_by is None else None for cue in snapped]
    hues: dict[str, int] = {}
    segments, rows = [], []
    shown = [(cue, start) for cue, start in zip(schedule, starts, strict=True) if start is not None]
    ends = [start for _, start in shown[1:]] + [length]
    for (cue, start), end in zip(shown, ends, strict=True):
        hue = hues.setdefault(cue.prompt, len(hues)) % HUES
        words = html.escape(cue.prompt)
        segments.append(
            f'<li data-hue="{hue}" style="width:{100 * (end - start) / length:.3f}%" '
            f'title="{start:g}–{end:g} s: {words}"><span>{words}</span></li>'
        )
        moved = "" if abs(cue.start - start) < 5e-3 else f" <em>(asked for {cue.start:g} s)</em>"
        change = "" if start == 0 else f' <b class="cv-change">{cue.handover}</b>'
        rows.append(f'<li data-hue="{hue}"><time>{start:.2f} s</time>{change} {words}{moved}</li>')
    for cue, begin in zip(schedule, starts, strict=True):
        if begin is None:
            rows.append(
                f'<li class="cv-lost"><time>{cue.start:g} s</time> {html.escape(cue.prompt)} '
                "<em>(no chunk of its own: the next cue replaces it)</em></li>"
            )
    every = 1 + len(ticks) // _MOST_TICKS  # of a long video not all could be told apart
    marks = "".join(
        f'<i style="left:{100 * tick / length:.3f}%"></i>' for tick in ticks[every - 1 :: every]
    )
    return (
        f'<div class="cv-timeline"><ol class="cv-segments">{"".join(segments)}</ol>'
        f'<div class="cv-ticks" aria-hidden="true">{marks}</div>'
        f'<p class="cv-scale"><span>0 s</span><span>{count} chunks, {length:.2f} s</span></p>'
        f'<ol class="cv-cues">{"".join(rows)}</ol></div>'
    )


def draw_error(error: ScheduleError) -> str:
    return f'<p class="cv-problem" role="alert">{html.escape(str(error))}</p>'


def draw_remark(text: str) -> str:
    """Something to know that does not stand in the way; nothing of an empty text."""
    return f'<p class="cv-remark" role="status">{html.escape(text)}</p>' if text else ""
