"""The page: tabs of inputs, the player beside them, and the events between.

A click on Generate: a tab (`tabs.py`, `schedule_tab.py`) reads its inputs into a request,
`handlers.py` starts a run of it, `playback.py` puts what the run makes into messages, and
`static/stage.js` plays them. `player.py` has the player and its buttons, and their states.

All events here are private to browsers; `endpoints.py` has the public ones.
"""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction
from gradio.exceptions import InvalidPathError
from gradio.queueing import Queue
from gradio.state_holder import SessionState
from gradio.utils import get_upload_folder
from gradio_client.utils import async_traverse, is_file_obj_with_meta, is_http_url_like
from pydantic import ValidationError

from causvid.serving.service import Service
from causvid.ui import PRIVATE, STREAMED
from causvid.ui.about import credits, headline
from causvid.ui.endpoints import add_endpoints
from causvid.ui.files import fetch, static
from causvid.ui.gallery import Gallery
from causvid.ui.handlers import Handlers, explained, without_long_numbers
from causvid.ui.player import PlayerColumn
from causvid.ui.presence import Presence
from causvid.ui.quota import Quota, caller, quota_of
from causvid.ui.remix import Remix
from causvid.ui.schedule_tab import ScheduleTab
from causvid.ui.tabs import ImageTab, Tab, TextTab, VideoTab
from causvid.ui.upstream import LastingQueue

TABS = (TextTab, ImageTab, VideoTab, ScheduleTab)
# Puts a `Screen` in place of the first input. An extension keeps the shape of what it extends.
_SCREEN = """(_, ...values) => {
  const player = document.querySelector('.cv-stage');
  const pictures = !(window.ManagedMediaSource || window.MediaSource);
  return [{pictures, narrow: NARROW}, ...values];
}"""
NEW = _SCREEN.replace("NARROW", "player.clientWidth < 560")
_CLAIM = "() => [JSON.parse(sessionStorage.getItem('causvid.run'))]"  # of `static/claim.js`
GOES_ON = _SCREEN.replace("NARROW", "player.dataset.beside === 'down'")


class Page(gr.Blocks):
    """Blocks whose inputs may be URLs of files, or paths of uploaded ones; no update is lost, and
    every error is a sentence.

    Args:
        upload_bytes: the largest file.
        presence: tells who is there.
        quota: of uploads.

    Attributes:
        leave: called with the claim of the run that a page shows which is closed.
    """

    leave: Callable[[str], None]

    def __init__(self, *, upload_bytes: int, presence: Presence, quota: Quota, **options: Any):
        self._upload_bytes = upload_bytes
        self._quota = quota
        self._presence = presence
        super().__init__(**options)

    def queue(self, *args: Any, **options: Any) -> "Page":
        """Gradio's, with a queue that lasts."""
        super().queue(*args, **options)
        self._queue: Queue = LastingQueue(self._queue, self._presence)
        return self

    async def process_api(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Gradio's, less its answer to errors of the inside, which is `{"error": null}`."""
        with explained():
            return await super().process_api(*args, **options)

    async def preprocess_data(
        self,
        block_fn: BlockFunction,
        inputs: list[Any],
        state: SessionState | None,
        explicit_call: bool = False,
    ) -> list[Any]:
        """Gradio's step from what was sent to what a handler gets; mistakes become sentences."""

        async def local(file: dict[str, Any]) -> dict[str, Any]:
            if "\0" in file["path"]:
                raise InvalidPathError
            if not is_http_url_like(file["path"]):
                return file
            with self._quota.upload(caller()) as upload:
                folder = Path(get_upload_folder())
                path = await fetch(file["path"], folder, self._upload_bytes, upload.add)
                upload.kept = True
            return {**file, "path": str(path), "url": None}

        try:
            inputs = await async_traverse(inputs, local, is_file_obj_with_meta)
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except gr.Error as error:
            raise gr.Error(
                without_long_numbers(error.message)[:400], print_exception=False
            ) from None
        except (InvalidPathError, OSError):  # a name that no file can have is an OSError
            raise gr.Error(
                "got the path of a file that was not uploaded; expected handle_file(PATH) of "
                "gradio_client, or what /gradio_api/upload answered",
                print_exception=False,
            ) from None
        except (ValidationError, TypeError, LookupError, AttributeError, ArithmeticError):
            raise gr.Error(
                "got values of other types than this function has", print_exception=False
            ) from None
        except ValueError as error:  # everything here was sent from outside
            raise gr.Error(without_long_numbers(str(error))[:400], print_exception=False) from None

    def handle_streaming_diffs(
        self,
        block_fn: BlockFunction,
        data: list[Any],
        session_hash: str | None,
        run: str | None,
        final: bool,
        simple_format: bool = False,
    ) -> list[Any]:
        """Gradio's step from what a handler yields to what is sent: what has changed, whole.

        Gradio sends edits, which its front end makes in the object it got before. In a busy browser
        that one still waits to be shown: of several messages only the last would be seen.
        """
        values = list(data)
        goes_on = session_hash is not None and run in self.pending_diff_streams[session_hash]
        sent = super().handle_streaming_diffs(
            block_fn, data, session_hash, run, final, simple_format
        )
        if final or simple_format or not goes_on:
            return sent
        return [
            edits and [("replace", [], value)] for edits, value in zip(sent, values, strict=True)
        ]


def build_page(
    service: Service, presence: Presence | None = None, quota: Quota | None = None
) -> Page:
    """The whole interface, not yet launched; `presence` tells who is there."""
    presence = presence or Presence()
    kept = math.ceil(60 * service.settings.keep_minutes)  # seconds, for uploads as for runs
    with Page(
        quota=quota or quota_of(service.settings),
        upload_bytes=service.settings.upload_mb * 10**6,
        presence=presence,
        title="CausVid Live",
        delete_cache=(min(60, kept), kept),
        analytics_enabled=False,
        fill_width=True,
    ) as page:
        head = gr.HTML(headline(service), elem_classes="cv-headline")
        screen = gr.JSON({}, visible=False)  # not a State, which browsers cannot set
        with gr.Row(elem_classes="cv-main"):
            with gr.Column(scale=1, min_width=440):
                remix = Remix(service)
                with gr.Tabs() as selection:
                    tabs: dict[type[Tab], Any] = {}
                    for kind in TABS:
                        with gr.Tab(kind.title, id=kind.title, render_children=True):
                            tabs[kind] = kind(service)
                remix.build()
            with gr.Column(scale=1, min_width=440, elem_classes="cv-side"):
                column = PlayerColumn(service)
        own_runs = gr.HTML(
            static("runs.html"),
            js_on_load=static("runs.js"),
            apply_default_css=False,
            elem_classes="cv-gallery cv-runs",
            padding=False,
        )
        gallery = Gallery(service, tabs[TextTab].prompt)
        with gr.Accordion("How it works", open=False, elem_classes="cv-about"):
            gr.HTML(static("about.html"))
        with gr.Accordion("Credits and licences", open=False, elem_classes="cv-about"):
            gr.HTML(credits(service))
        add_endpoints(service, presence)

        handlers = Handlers(service, column, presence)
        for tab in tabs.values():
            gr.on(
                [tab.go.click, *tab.submits],
                handlers.generate(tab.read, screen),
                {screen, *tab.inputs},
                column.outputs,
                js=NEW,
                **STREAMED,
            )
        choosers = [tab.options.model for tab in tabs.values() if tab.options.model is not None]

        def choose(model: str, *prompts: Any) -> dict[gr.blocks.Block, Any]:
            """One model is chosen for all tabs that it serves, and the page speaks of that one."""
            updates = {head: headline(service, model), **gallery.suit(model)}
            for tab, prompt in itertools.zip_longest(tabs.values(), prompts):
                if model in service.models.able(tab.mode):
                    updates |= tab.suit(model, prompt)
                    if tab.options.model is not None:
                        updates[tab.options.model] = model
            return updates

        prompts = [tab.prompt for tab in tabs.values()]
        choosable = set().union(*map(choose, service.settings.models))
        for chooser in choosers:
            chooser.input(choose, [chooser, *prompts], [*prompts, *choosable], **PRIVATE)
        remix.connect(selection, tabs, choose, choosable)
        handovers = [column.handover, *(tab.options.handover for tab in tabs.values())]
        for handover in handovers:
            others = [it for it in handovers if it is not handover]
            copies = f"(value) => Array({len(others)}).fill(value)"
            handover.input(None, handover, others, js=copies, **PRIVATE)
        changed = [column.prompt, column.handover]
        longer = [screen, column.seconds]
        column.extend.click(handlers.extend, longer, column.outputs, js=GOES_ON, **STREAMED)
        column.branch.click(
            handlers.extend, [*longer, *changed], column.outputs, js=GOES_ON, **STREAMED
        )
        own_runs.extend(handlers.extend_kept, longer, column.outputs, js=GOES_ON, **STREAMED)
        gr.on([column.steer.click, column.prompt.submit], handlers.steer, changed, None, **STREAMED)
        for suffix, button in column.animations.items():
            button.click(handlers.animate(suffix), None, column.player, **STREAMED)
        if (live := tabs[VideoTab].live) is not None:
            live.panel.began(handlers.adopt, None, column.outputs, **STREAMED)
            live.panel.ended(handlers.keep, None, column.outputs, **STREAMED)
        column.stop.click(handlers.stop, None, None, **PRIVATE)
        take_up = gr.Button(visible="hidden", elem_id="take-up")  # `static/claim.js` presses it
        take_up.click(handlers.take_up, screen, column.outputs, js=_CLAIM, **STREAMED)
        page.unload(handlers.lose)
        page.leave = handlers.leave
    return page
