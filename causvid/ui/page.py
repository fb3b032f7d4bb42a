"""The page: tabs with inputs, the player beside them, and the events between.

All events here are private to browsers; `publish.py` has the public ones.
"""

import math
from typing import Any

import gradio as gr

from causvid.serving.service import Service
from causvid.ui.about import credits, headline, how_it_works, measured
from causvid.ui.files import Page
from causvid.ui.gallery import Gallery
from causvid.ui.handlers import Handlers
from causvid.ui.player import PlayerColumn
from causvid.ui.presence import Presence
from causvid.ui.publish import add_endpoints
from causvid.ui.schedule_tab import ScheduleTab
from causvid.ui.tabs import ImageTab, TextTab, VideoTab

TABS = {
    "Text to video": TextTab,
    "Image to video": ImageTab,
    "Video to video": VideoTab,
    "Prompt schedule": ScheduleTab,
}
# A `Screen`, in place of the first input. A video that goes on keeps its shape.
_SCREEN = """(_, ...values) => {
  const stage = document.querySelector('.cv-stage');
  const pictures = !(window.ManagedMediaSource || window.MediaSource);
  return [{pictures, narrow: NARROW}, ...values];
}"""
NEW = _SCREEN.replace("NARROW", "stage.clientWidth < 560")
GOES_ON = _SCREEN.replace("NARROW", "stage.dataset.beside === 'down'")


def build_page(service: Service, presence: Presence | None = None) -> gr.Blocks:
    """The whole interface, not yet launched; `presence` tells who is there."""
    presence = presence or Presence()
    kept = math.ceil(60 * service.settings.keep_minutes)  # seconds, for uploads as for runs
    with Page(
        upload_bytes=service.settings.upload_mb * 10**6,
        title="CausVid Live",
        delete_cache=(min(60, kept), kept),
        analytics_enabled=False,
        fill_width=True,
    ) as page:
        head = gr.HTML(headline(service, service.settings.model), elem_classes="cv-headline")
        screen = gr.JSON({}, visible=False)  # not a State, which browsers cannot set
        with gr.Row(elem_classes="cv-main"):
            with gr.Column(scale=1, min_width=440), gr.Tabs():
                tabs = {}
                for name, kind in TABS.items():
                    with gr.Tab(name, render_children=True):
                        tabs[name] = kind(service)
            with gr.Column(scale=1, min_width=440, elem_classes="cv-side"):
                column = PlayerColumn(service)
        gallery = Gallery(service, tabs["Text to video"].prompt)
        with gr.Accordion("How it works", open=False, elem_classes="cv-about"):
            gr.HTML(how_it_works())
            if figures := measured():
                gr.Markdown(f"#### Measured\n\n{figures}", elem_classes="cv-measured")
        with gr.Accordion("Credits and licences", open=False, elem_classes="cv-about"):
            gr.HTML(credits(service))
        add_endpoints(service, presence)

        handlers = Handlers(service, column, presence)
        streaming: dict[str, Any] = {
            "show_progress": "hidden",
            "api_visibility": "private",
            "concurrency_limit": None,
        }
        for tab in tabs.values():
            gr.on(
                [tab.go.click, *tab.submits],
                handlers.generate(tab.read),
                [screen, *tab.components],
                column.outputs,
                js=NEW,
                **streaming,
            )
        tabs["Image to video"].connect()
        choosers = [tab.options.model for tab in tabs.values() if tab.options.model is not None]

        def choose(model: str) -> dict[gr.blocks.Block, Any]:
            """One model is chosen for all tabs, and the page speaks of that one."""
            updates = dict.fromkeys(choosers, model)
            return {**updates, head: headline(service, model), **gallery.suit(model)}

        for chooser in choosers:
            chooser.input(
                choose,
                chooser,
                [*choosers, head, *gallery.parts.values()],
                queue=False,
                show_progress="hidden",
                api_visibility="private",
            )
        handovers = [column.handover, *(tab.options.handover for tab in tabs.values())]
        for handover in handovers:
            others = [it for it in handovers if it is not handover]
            handover.input(
                None,
                handover,
                others,
                js=f"(value) => Array({len(others)}).fill(value)",
                api_visibility="private",
            )
        draw, inputs, outputs = tabs["Prompt schedule"].on_load
        page.load(draw, inputs, outputs, **streaming)
        column.extend.click(
            handlers.extend, [screen, column.seconds], column.outputs, js=GOES_ON, **streaming
        )
        column.branch.click(
            handlers.branch,
            [screen, column.seconds, column.prompt, column.handover],
            column.outputs,
            js=GOES_ON,
            **streaming,
        )
        gr.on(
            [column.steer.click, column.prompt.submit],
            handlers.steer,
            [column.prompt, column.handover],
            None,
            **streaming,
        )
        column.stop.click(handlers.stop, None, None, **streaming)
        page.unload(handlers.leave)
    return page
