"""The column of the stage: player, Stop, change the prompt, extend, branch, results."""

from typing import Any

import gradio as gr

from causvid.serving.service import Service
from causvid.ui.options import handover_choice
from causvid.ui.remarks import Remark
from causvid.ui.stage import Stage
from causvid.ui.watching import Results

Updates = dict[gr.components.Component, Any]


class Stagehand:
    """The stage and its controls, and what they become as a run goes on."""

    def __init__(self, service: Service):
        self.stage = Stage()
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
        self.model = gr.State(service.settings.model)  # of the run on the stage
        Remark(service).follow(self.prompt, self.model)
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
            self.record = gr.DownloadButton("Manifest as JSON", size="md", min_width=130)
        with gr.Accordion("Manifest", open=False, visible=False) as self.details:
            self.manifest = gr.JSON(show_label=False, max_height=420)

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [
            self.stage,
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
        """After a run; `None` if it left no video."""
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
                self.manifest: results.manifest,
            }
        return updates
