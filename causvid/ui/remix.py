"""Fills the form in from a link, a manifest or *Remix this*, which take one way. Nothing starts."""

import html
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import gradio as gr

from causvid.serving.service import Service
from causvid.ui import PRIVATE
from causvid.ui.files import static
from causvid.ui.form import Updates
from causvid.ui.links import read_request
from causvid.ui.schedule_tab import ScheduleTab
from causvid.ui.tabs import ImageTab, Tab, TextTab, VideoTab

_OF_MODE: dict[str, type[Tab]] = {"text": TextTab, "image": ImageTab, "video": VideoTab}
_MISSING = {
    "image": "Choose the picture, which a link does not hold. ",
    "video": "Choose the video, which a link does not hold. ",
}


class Remix:
    """Fills the form in. Built where it says so; `build` has the button that opens a manifest."""

    def __init__(self, service: Service):
        self._service = service
        self.note = gr.HTML("", apply_default_css=False, elem_classes="cv-remixed", padding=False)

    def build(self) -> None:
        self._door = gr.HTML(
            static("remix.html"),
            js_on_load=static("remix.js"),
            apply_default_css=False,
            elem_classes="cv-note",
            padding=False,
        )

    def connect(
        self,
        selection: gr.Tabs,
        tabs: Mapping[type[Tab], Tab],
        choose: Callable[[str], Updates],
        choosable: Iterable[gr.blocks.Block],
    ) -> None:
        """Let links, manifests and buttons fill the form in.

        Args:
            selection: holds `tabs`, whose ids are their titles.
            choose: the updates by which a model is chosen; they are of `choosable`.
        """
        outputs = {self.note, selection, *choosable}
        for tab in tabs.values():
            outputs |= {tab.prompt, *tab.options.components}

        def fill(event: gr.EventData) -> Updates:
            try:
                request = read_request(_text(event), self._service)
                kind = _OF_MODE[request.mode]
                if request.mode == "text" and len(request.prompts) > 1:
                    kind = ScheduleTab
                updates = choose(request.model) | tabs[kind].write(request)
            except ValueError as error:
                return {self.note: _note(f"Not filled in: {error!s:.400}", "alert")}
            said = "Filled in. Nothing is made until you press Generate."
            if len(request.prompts) > 1 and kind is not ScheduleTab:
                said = f"The first of its {len(request.prompts)} prompts is filled in. {said}"
            said = ("" if _held(event) else _MISSING.get(request.mode, "")) + said
            return {**updates, selection: gr.Tabs(selected=kind.title), self.note: _note(said)}

        self._door.remix(fill, None, [*outputs], **PRIVATE)


def _text(event: gr.EventData) -> str:
    try:
        return str(event.text)
    except (AttributeError, TypeError, KeyError):  # not of our page
        raise ValueError("expected a link or a manifest as text") from None


def _held(event: gr.EventData) -> bool:
    """Whether the browser has the picture or the video, and fills it in."""
    try:
        return event.held is True
    except (AttributeError, TypeError, KeyError):
        return False


def _note(text: str, role: Literal["status", "alert"] = "status") -> str:
    kind = "cv-problem" if role == "alert" else "cv-remark"
    return f'<p class="{kind}" role="{role}">{html.escape(text)}</p>'
