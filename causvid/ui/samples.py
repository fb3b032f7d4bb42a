"""Something to try where a picture or a video is asked for: frames and clips of the gallery."""

import html
from itertools import cycle

import gradio as gr

from causvid.generation.parameters import Mode
from causvid.serving.service import Service
from causvid.ui import PRIVATE
from causvid.ui.files import static
from causvid.ui.gallery import chosen, clips_of, poster
from causvid.ui.hints import PROMPTS, kind_of
from causvid.ui.playback import address_of

MOST = 4


class Samples:
    """A row of buttons, where it is built; none if the first model has no gallery.

    Args:
        mode: `image` or `video`.
    """

    def __init__(self, service: Service, mode: Mode):
        model = service.settings.model_for(mode)
        clips, buttons = clips_of(service.settings.model)[:MOST], []
        own = model == service.settings.model
        prompts = [clip.prompt for clip in clips] if own else PROMPTS[kind_of(service, model)]
        for clip, prompt in zip(clips, cycle(prompts), strict=False):
            picture, name = poster(clip), clip.path.stem
            source = "" if mode == "image" else address_of(clip.path)  # or the picture itself
            buttons.append(
                f'<button type="button" data-sample="{html.escape(source)}" '
                f'data-name="{name}{".jpg" if mode == "image" else ".mp4"}" '
                f'data-type="{"image/jpeg" if mode == "image" else "video/mp4"}" '
                f'data-prompt="{html.escape(prompt)}">'
                f'<img src="{picture}" alt="">Try {html.escape(name.replace("-", " "))}</button>'
            )
        self._row = gr.HTML(
            f'<span data-kind="{mode}"></span>{"".join(buttons)}',
            js_on_load=static("samples.js"),
            apply_default_css=False,
            elem_classes="cv-note cv-samples",
            padding=False,
        )

    def fill(self, prompt: gr.Textbox) -> None:
        """Let a sample bring its words."""
        self._row.choose(chosen, None, prompt, **PRIVATE)
