"""A run as messages to the player."""

import asyncio
import base64
import io
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from causvid.media import Fragment, FragmentMuxer
from causvid.serving.job import Ended, Made
from causvid.serving.record import ChunkInfo
from causvid.serving.run import Results, Run

Message = dict[str, Any]
"""What `static/stage.js` understands; `kind` says which."""
Beside = Literal["across", "down"]

_JPEG_QUALITY = 80


@dataclass(frozen=True)
class Screen:
    """What the browser says of itself.

    Attributes:
        pictures: whether it needs single pictures, having no MediaSource.
        narrow: whether two pictures of landscape shape should stand one below the other.
    """

    pictures: bool = False
    narrow: bool = False


class Playback:
    """A run that a browser plays while it is made.

        async for message in playback.messages(): …
        playback.results

    Args:
        run: the run.
        screen: where it is shown.
        continues: the run that this one goes on from, if the player shows that.

    Attributes:
        results: what it left, once it has ended with at least one chunk.
    """

    def __init__(self, run: Run, screen: Screen = Screen(), *, continues: str | None = None):
        self.run = run
        self.results: Results | None = None
        self._pictures = screen.pictures
        self._beside = _beside(run, screen)
        self._continues = continues

    async def messages(self) -> AsyncIterator[Message]:
        """
        Raises:
            ValueError, RunError: as `Run.events`.
        """
        run = self.run
        height, width = self._size
        shown = self._shown_muxer()
        try:
            async for place in run.places():
                yield queue_message(place)
            yield open_message(
                run.id,
                shown,
                width=width,
                height=height,
                fps=run.fps,
                seconds=run.expected_seconds,
                continues=self._continues,
                beside=self._beside,
            )
            async with aclosing(run.events()) as events:
                async for event in events:
                    if isinstance(event, Ended):
                        self.results = await asyncio.to_thread(run.save)
                        yield end_message(run.id, _summary(event))
                        return
                    frames = self._with_source(event)
                    fragment = await asyncio.to_thread(self._encode, event, shown, frames)
                    if self._pictures:
                        yield jpeg_message(event.info, frames)
                    else:
                        yield chunk_message(event.info, fragment)
        finally:
            if shown is not run.muxer:
                shown.close()

    def _shown_muxer(self) -> FragmentMuxer:
        """What is shown: the result, or source and result in one picture, so in step."""
        run = self.run
        if self._beside is None:
            return run.muxer
        height, width = self._size
        return FragmentMuxer(run.fps, height, width, begin=run.muxer.frame_count)

    @property
    def _size(self) -> tuple[int, int]:
        """Height and width of what is shown."""
        request = self.run.job.request
        across, down = self._beside == "across", self._beside == "down"
        return request.height * (1 + down), request.width * (1 + across)

    def _with_source(self, made: Made) -> np.ndarray:
        chunk = made.chunk
        if self._beside is None:
            return chunk.frames
        axis = 2 if self._beside == "across" else 1
        return np.concatenate([chunk.source, chunk.frames], axis=axis)

    def _encode(self, made: Made, shown: FragmentMuxer, frames: np.ndarray) -> Fragment:
        fragment = self.run.muxer.append(made.chunk.frames)
        return fragment if shown is self.run.muxer else shown.append(frames)


def _beside(run: Run, screen: Screen) -> Beside | None:
    """How source and result share the picture, where there is a source."""
    request = run.job.request
    if run.job.video is None:
        return None
    return "down" if screen.narrow and request.width > request.height else "across"


def _summary(ended: Ended) -> str:
    video, timings = ended.manifest.video, ended.manifest.timings
    if not video.frames:
        return "Stopped before the first chunk."
    stopped_by = ended.manifest.stopped_by
    verb = "Stopped after" if stopped_by else "Made"
    why = " The GPU was lent for no longer: Extend goes on." if stopped_by == "time" else ""
    return (
        f"{verb} {video.seconds:.1f} s in {timings.total_seconds:.1f} s: "
        f"{timings.times_playback:.1f} times playback speed.{why}"
    )


def queue_message(place: int) -> Message:
    before = "1 video is" if place == 1 else f"{place} videos are"
    return {"kind": "queue", "text": f"{before} before yours …"}


def open_message(
    run: str,
    muxer: FragmentMuxer,
    *,
    width: int,
    height: int,
    fps: float,
    seconds: float | None,
    continues: str | None,
    beside: Beside | None,
) -> Message:
    """Announces a run. `seconds` is its whole length, if it has one; `beside`, where the source of
    video-to-video stands in the picture."""
    return {
        "kind": "open",
        "run": run,
        "mime": muxer.mime,
        "init": base64.b64encode(muxer.init).decode(),
        "width": width,
        "height": height,
        "fps": fps,
        "seconds": seconds,
        "continues": continues,
        "beside": beside,
    }


def chunk_message(info: ChunkInfo, fragment: Fragment) -> Message:
    return {
        "kind": "chunk",
        "run": info.run,
        "info": info.model_dump(mode="json"),
        "data": base64.b64encode(fragment.data).decode(),
        "sent": time.time() * 1000,
    }


def jpeg_message(info: ChunkInfo, frames: np.ndarray) -> Message:
    """A chunk of uint8 frames `[t, h, w, 3]` for browsers without MediaSource."""
    encoded = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=_JPEG_QUALITY)
        encoded.append(base64.b64encode(buffer.getvalue()).decode())
    return {
        "kind": "chunk",
        "run": info.run,
        "info": info.model_dump(mode="json"),
        "frames": encoded,
        "sent": time.time() * 1000,
    }


def end_message(run: str, text: str) -> Message:
    return {"kind": "end", "run": run, "text": text}


def error_message(text: str) -> Message:
    return {"kind": "error", "text": text}
