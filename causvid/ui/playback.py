"""A run as messages to the player."""

import asyncio
import base64
import contextlib
import io
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from causvid.media import FragmentMuxer, NoRoomError
from causvid.serving.job import Ended, Made
from causvid.serving.run import Results, Run, RunError
from causvid.ui.links import link_of

SILENT = "The sound of the source could not be taken along."
_SHORTENED = " The server's disk was full: the MP4 ends earlier."

Message = dict[str, Any]
"""What `static/stage.js` understands; `kind` is "queue", "open", "chunk", "end", "error" or "file"
(one to download)."""


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

    async def messages(self) -> AsyncGenerator[Message, None]:
        """
        Raises:
            ValueError, RunError: as `Run.events`.
        """
        run, beside = self.run, self._beside
        height, width = run.job.request.size
        width *= 1 + (beside == "across")
        height *= 1 + (beside == "down")
        muxer = run.muxer
        if beside is not None:  # source and result in one picture, so that they are in step
            muxer = FragmentMuxer(run.fps, height, width, begin=run.muxer.frame_count)
        try:
            async for place in run.places():
                before = "1 video is" if place == 1 else f"{place} videos are"
                yield {"kind": "queue", "text": f"{before} before yours …"}
            yield {
                "kind": "open",
                "run": run.id,
                "mime": muxer.mime,
                "init": _text(muxer.init),
                "width": width,
                "height": height,
                "fps": run.fps,
                "seconds": run.expected_seconds,  # the whole length, if there is one
                "continues": self._continues,
                "beside": beside,
                "link": link_of(run.job.request),
            }
            async with aclosing(run.events()) as events:
                async for event in events:
                    if isinstance(event, Ended):
                        self.results = await asyncio.to_thread(run.save)
                        text = _summary(event) + (_SHORTENED if run.shortened else "")
                        if self.results and self.results.silent:
                            text = f"{text} {SILENT}"
                        link = link_of(event.manifest.request)  # with all that was steered
                        url = address_of(self.results.video) if self.results else None
                        yield {"kind": "end", "run": run.id, "text": text, "link": link, "url": url}
                        return
                    yield await asyncio.to_thread(self._chunk, event, muxer)
        except (ValueError, RunError):
            if self.results is None and run.ended is not None:  # it broke: what was made is kept
                with contextlib.suppress(NoRoomError):
                    self.results = await asyncio.to_thread(run.save)
            raise
        finally:
            if muxer is not run.muxer:
                muxer.close()

    def _chunk(self, made: Made, muxer: FragmentMuxer) -> Message:
        """Append a chunk to the run's video, and to what is shown if that is another."""
        frames = made.chunk.frames
        fragment = self.run.muxer.append(frames)
        if self._beside is not None:
            axis = 2 if self._beside == "across" else 1
            frames = np.concatenate([made.chunk.source, frames], axis=axis)
            fragment = muxer.append(frames)
        if self._pictures:
            data: Message = {"frames": [jpeg(frame) for frame in frames]}
        else:
            data = {"data": _text(fragment.data)}
        info = made.info.model_dump(mode="json")
        sent = time.time() * 1000
        return {"kind": "chunk", "run": self.run.id, "info": info, **data, "sent": sent}


def address_of(file: Path) -> str:
    """Of a file that viewers may fetch, relative to the page."""
    return f"gradio_api/file={file}"


def jpeg(frame: np.ndarray) -> str:
    """A picture, uint8 `[h, w, 3]`, as a JPEG file in base64."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=82)
    return _text(buffer.getvalue())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _beside(run: Run, screen: Screen) -> Literal["across", "down"] | None:
    """How source and result share the picture, where there is a source."""
    if run.job.video is None:
        return None
    height, width = run.job.request.size
    return "down" if screen.narrow and width > height else "across"


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
