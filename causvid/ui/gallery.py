"""Examples with their results, made beforehand: a click plays one at once and fills in its prompt.

The clips and their manifests lie in `examples/gallery`; `examples/render_gallery.py` makes them.
"""

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from PIL import Image

from causvid.media import VideoReader
from causvid.resources import ROOT
from causvid.serving.record import Manifest
from causvid.serving.service import Service
from causvid.ui.files import static

_WELCOME = "Made beforehand from this prompt. Generate makes a new one, live."
FOLDER = ROOT / "examples" / "gallery"


@dataclass(frozen=True)
class Clip:
    """A finished example."""

    path: Path
    prompt: str
    width: int
    height: int
    summary: str


def clips_of(model: str) -> list[Clip]:
    """The examples that `model` has made."""
    clips = []
    for record in sorted(FOLDER.glob("*.json")):
        manifest = Manifest.read(record)
        video = record.with_suffix(".mp4")
        if manifest.model.name != model or not video.exists():
            continue
        clips.append(
            Clip(
                path=video,
                prompt=manifest.request.prompts.cues[0].prompt,
                width=manifest.video.width,
                height=manifest.video.height,
                summary=f"Made beforehand, {manifest.video.seconds:.1f} s long",
            )
        )
    return clips


class Gallery:
    """The examples of every model that is offered; those of the chosen one are in sight.

    Args:
        prompt: takes the words of the example that is chosen.
    """

    def __init__(self, service: Service, prompt: gr.Textbox):
        self.parts: dict[str, gr.Column] = {}
        for model in service.settings.models:
            if clips := clips_of(model):
                first = model == service.settings.model
                with gr.Column(visible=first) as self.parts[model]:
                    _show(clips, prompt, welcome=first)

    def suit(self, model: str) -> dict[gr.blocks.Block, gr.Column]:
        """Updates of `parts` when `model` is chosen."""
        return {part: gr.Column(visible=name == model) for name, part in self.parts.items()}


def _show(clips: list[Clip], prompt: gr.Textbox, *, welcome: bool) -> None:
    gr.set_static_paths([FOLDER])
    gr.Markdown("#### Made beforehand: play one at once", elem_classes="cv-examples")
    gallery = gr.HTML(
        "".join(_card(clip, welcome=welcome and clip.prompt == prompt.value) for clip in clips),
        js_on_load=static("gallery.js"),
        apply_default_css=False,
        elem_classes="cv-gallery",
        label="Examples",
    )
    gallery.choose(_chosen, None, prompt, show_progress="hidden", api_visibility="private")


def _card(clip: Clip, *, welcome: bool) -> str:
    """`welcome`: whether it plays on the empty stage, as what the first click would make."""
    source = f"gradio_api/file={clip.path}"
    greeting = f' data-welcome="{html.escape(_WELCOME)}"' if welcome else ""
    return (
        f'<button type="button" data-url="{html.escape(source)}" data-width="{clip.width}" '
        f'data-height="{clip.height}" data-summary="{html.escape(clip.summary)}" '
        f'data-prompt="{html.escape(clip.prompt)}" aria-label="Play: {html.escape(clip.prompt)}"'
        f"{greeting}>"
        # A poster, as previews that load themselves would take all of a browser's connections.
        f'<video src="{html.escape(source)}" poster="{_poster(clip)}" preload="none" muted '
        "playsinline loop></video>"
        f"<span>{html.escape(clip.prompt)}</span></button>"
    )


def _poster(clip: Clip) -> str:
    """The picture after one second, as a data URL."""
    with VideoReader(clip.path, fps=1, height=clip.height, width=clip.width) as video:
        picture = Image.fromarray(video.read(2)[-1])
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _chosen(event: gr.EventData) -> str:
    return event.prompt
