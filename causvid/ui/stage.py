"""The stage: Gradio's HTML component with our player in it, and the messages that it understands.

The page never re-renders it: messages reach `static/stage.js` through the component's value.
"""

import base64
import io
import time
from pathlib import Path
from typing import Any, Literal

import gradio as gr
import numpy as np
from PIL import Image

from causvid.media import Fragment, FragmentMuxer

Message = dict[str, Any]
Beside = Literal["across", "down"]

_STATIC = Path(__file__).parent / "static"
_JPEG_QUALITY = 80


def static(name: str) -> str:
    """The text of a file in `static/`."""
    return (_STATIC / name).read_text(encoding="utf-8")


class Stage(gr.HTML):
    """Player, strip and figures. Its value is the latest message."""

    def __init__(self, **options: Any):
        """`options` are Gradio's, which makes copies of a component with some of its own."""
        scripts = [static(name) for name in ("player.js", "strip.js", "stage.js")]
        ours = {
            "html_template": static("stage.html"),
            "js_on_load": "\n".join(scripts),
            "apply_default_css": False,
            "elem_id": "stage",
        }
        super().__init__(**{**options, **ours})


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


def chunk_message(info: dict[str, Any], fragment: Fragment) -> Message:
    return {
        "kind": "chunk",
        "run": info["run"],
        "info": info,
        "data": base64.b64encode(fragment.data).decode(),
        "sent": time.time() * 1000,
    }


def jpeg_message(info: dict[str, Any], frames: np.ndarray) -> Message:
    """A chunk of uint8 frames `[t, h, w, 3]` for browsers without MediaSource."""
    encoded = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=_JPEG_QUALITY)
        encoded.append(base64.b64encode(buffer.getvalue()).decode())
    return {
        "kind": "chunk",
        "run": info["run"],
        "info": info,
        "frames": encoded,
        "sent": time.time() * 1000,
    }


def end_message(run: str, text: str) -> Message:
    return {"kind": "end", "run": run, "text": text}


def error_message(text: str) -> Message:
    return {"kind": "error", "text": text}
