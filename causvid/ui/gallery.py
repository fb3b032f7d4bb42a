"""Examples with their results, made beforehand: a click plays one at once and fills in its prompt.

The clips and their manifests lie in `examples/gallery`; `examples/render_gallery.py` makes them.
"""

import html
from pathlib import Path
from typing import NamedTuple

import gradio as gr

from causvid.media import VideoReader
from causvid.resources import ROOT
from causvid.serving.record import Manifest
from causvid.serving.service import Service
from causvid.ui import PRIVATE
from causvid.ui.files import static
from causvid.ui.links import link_of
from causvid.ui.playback import address_of, jpeg

_WELCOME = "Made beforehand from this prompt. Generate makes a new one, live."
FOLDER = ROOT / "examples" / "gallery"


class Clip(NamedTuple):
    """A finished example."""

    path: Path
    manifest: Manifest

    @property
    def prompt(self) -> str:
        return self.manifest.request.prompts.cues[0].prompt


def clips_of(model: str) -> list[Clip]:
    """The examples that `model` has made."""
    clips = [
        Clip(path.with_suffix(".mp4"), Manifest.read(path))
        for path in sorted(FOLDER.glob("*.json"))
    ]
    return [it for it in clips if it.manifest.model.name == model and it.path.exists()]


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
        """Updates of `parts` when `model` is chosen; one without examples leaves them."""
        if model not in self.parts:
            return {}
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
    gallery.choose(chosen, None, prompt, **PRIVATE)


def _card(clip: Clip, *, welcome: bool) -> str:
    """`welcome`: whether it plays in the empty player, as what the first click would make."""
    source, prompt = (html.escape(it) for it in (address_of(clip.path), clip.prompt))
    video, link = clip.manifest.video, link_of(clip.manifest.request)
    greeting = f' data-welcome="{html.escape(_WELCOME)}"' if welcome else ""
    return (
        f'<div class="cv-card"><button type="button" data-url="{source}" data-link="{link}" '
        f'data-width="{video.width}" data-height="{video.height}" data-fps="{video.fps}" '
        f'data-prompt="{prompt}" aria-label="Play: {prompt}" '
        f'data-summary="Made beforehand, {video.seconds:.1f} s long"{greeting}>'
        # A poster, as previews that load themselves would take all of a browser's connections.
        f'<video src="{source}" poster="{poster(clip)}" preload="none" muted playsinline loop>'
        f"</video><span>{prompt}</span></button>"
        f'<p><button type="button" data-remix="{link}" aria-label="Remix this: {prompt}">'
        f'Remix this</button> <button type="button" data-copy="{link}" '
        f'aria-label="Copy the link of: {prompt}">Copy link</button></p></div>'
    )


def poster(clip: Clip) -> str:
    """The picture after one second, as a data URL."""
    size = clip.manifest.video
    with VideoReader(clip.path, fps=1, height=size.height, width=size.width) as video:
        return f"data:image/jpeg;base64,{jpeg(video.read(2)[-1])}"


def chosen(event: gr.EventData) -> str:
    """The prompt of an example that was clicked."""
    try:
        return str(event.prompt)
    except (AttributeError, TypeError, KeyError):  # not of our page
        raise gr.Error("expected an example with its prompt", print_exception=False) from None
