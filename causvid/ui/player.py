"""The player and the controls beside it: stop, change the prompt, extend, branch, results.

The page never renders the player again: messages (`playback.py`) reach `static/stage.js` through
the component's value.
"""

from typing import Any

import gradio as gr

from causvid.media.animation import SUFFIXES
from causvid.serving.service import Service
from causvid.ui.files import static
from causvid.ui.form import handover_choice
from causvid.ui.hints import Remark
from causvid.ui.playback import Results

Updates = dict[gr.components.Component, Any]


class PlayerColumn:
    """The player, its controls, and what these become when a run begins and ends."""

    def __init__(self, service: Service):
        scripts = ("player.js", "strip.js", "controls.js", "compare.js", "claim.js", "stage.js")
        self.player = gr.HTML(
            html_template=static("stage.html"),
            js_on_load="\n".join(map(static, scripts)),
            apply_default_css=False,
            elem_id="stage",
        )
        self.stop = gr.Button(
            "Stop", variant="stop", interactive=False, size="md", elem_id="stop-button"
        )
        with gr.Group(elem_classes="cv-steer"):
            self.prompt = gr.Textbox(
                label="Change the prompt now",
                placeholder="From the next chunk on, show …",
                max_lines=3,
                elem_id="steer-prompt",
            )
            with gr.Row():
                self.handover = handover_choice("Hand-over")
                self.seconds = gr.Number(5, label="Extend by (s)", min_width=90)
        self.model = gr.State(service.settings.model)  # of the run that is shown
        Remark(service).show_for(self.prompt, self.model)
        with gr.Row(elem_classes="cv-actions"):
            self.steer = gr.Button("Change now", size="md", interactive=False, min_width=90)
            self.extend = gr.Button("Extend", size="md", interactive=False, min_width=90)
            self.branch = gr.Button("Branch", size="md", interactive=False, min_width=90)
        gr.Markdown(
            "**Change now** while a video is made. When it has ended, **Extend** goes on from "
            "its last frame, and **Branch** does so with the prompt above.",
            elem_classes="cv-note",
        )
        with gr.Row(visible=False, elem_classes="cv-results") as self.results:
            self.video = gr.DownloadButton(
                "Download MP4", variant="primary", size="md", min_width=130
            )
            self.animations = {
                suffix: gr.Button(name, size="md", min_width=70)
                for suffix, name in zip(SUFFIXES, ("WebP", "GIF"), strict=True)
            }
            self.record = gr.DownloadButton("Manifest as JSON", size="md", min_width=130)
        with gr.Accordion("Manifest", open=False, visible=False) as self.details:
            self.manifest = gr.JSON(show_label=False, max_height=420)

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [
            self.player,
            self.model,
            self.stop,
            self.steer,
            self.branch,
            self.extend,
            self.results,
            self.video,
            self.record,
            self.details,
            self.manifest,
        ]

    def began(self, model: str) -> Updates:
        """When a run of `model` begins."""
        return {
            self.model: model,
            self.stop: gr.Button(interactive=True),
            self.steer: gr.Button(interactive=True),
            self.branch: gr.Button(interactive=False),
            self.extend: gr.Button(interactive=False),
            self.results: gr.Row(visible=False),
            self.details: gr.Accordion(visible=False),
        }

    def ended(self, results: Results | None = None, continuable: bool = False) -> Updates:
        """When a run has ended; `results` is `None` if it left no video."""
        updates: Updates = {
            self.stop: gr.Button(interactive=False),
            self.steer: gr.Button(interactive=False),
            self.branch: gr.Button(interactive=continuable),
            self.extend: gr.Button(interactive=continuable),
        }
        if results is not None:
            updates |= {
                self.results: gr.Row(visible=True),
                self.video: str(results.video),
                self.record: str(results.record),
                self.details: gr.Accordion(visible=True),
                self.manifest: results.manifest.model_dump(mode="json"),
            }
        return updates
