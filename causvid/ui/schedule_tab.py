"""The schedule tab: a table of cues, drawn as a timeline, with text and JSON in and out."""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from causvid.generation.prompts import PromptSchedule, ScheduleError
from causvid.serving.limits import check_schedule
from causvid.serving.request import Mode, Request
from causvid.serving.service import Service
from causvid.ui.hints import STORIES, Chips, kind_of, remark_on
from causvid.ui.options import Options
from causvid.ui.reading import read_prompts, read_request
from causvid.ui.tabs import Inputs
from causvid.ui.timeline import draw_error, draw_remark, draw_timeline

HEADERS = ["Start (s)", "Prompt", "Hand-over"]
Rows = list[list[Any]]


class ScheduleTab:
    """As `Tab`, with a table in place of the prompt."""

    mode: Mode = "text"

    def __init__(self, service: Service):
        self._service = service
        self._chips = Chips(service, STORIES)
        first = self._stories(service.settings.model)[0]
        self.table = gr.Dataframe(
            first,
            headers=HEADERS,
            datatype=["number", "str", "str"],
            type="array",
            column_count=3,
            column_widths=["18%", "58%", "24%"],
            interactive=True,
            wrap=True,
            buttons=[],
            label="Cues",
            elem_id="cues",
        )
        with gr.Row(elem_classes="cv-tools"):
            add = gr.Button("Add row", size="sm", min_width=80)
            sort = gr.Button("Sort", size="sm", min_width=80)
            clear = gr.Button("Clear", size="sm", min_width=80)
            upload = gr.UploadButton(
                "Open file", size="sm", file_types=[".txt", ".json"], min_width=80
            )
            save_text = gr.DownloadButton("Save text", size="sm", min_width=80)
            save_json = gr.DownloadButton("Save JSON", size="sm", min_width=80)
        self.drawing = gr.HTML(elem_id="timeline")
        gr.Markdown(
            "A prompt can change where a chunk begins. Hand-overs: `swap` changes the words, "
            "`recache` also rewrites what is remembered, `flush` forgets it, `blend:N` goes over "
            "in N chunks.",
            elem_classes="cv-note",
        )
        with gr.Accordion("As text", open=False):
            self.text = gr.Textbox(
                label="One cue a line, or JSON",
                lines=5,
                placeholder="4.5s [recache]: a red car",
                elem_id="schedule-text",
            )
            use = gr.Button("Use this text", size="sm", min_width=110)
        self.options = Options(service, 12.0)
        self.go = gr.Button("Generate", variant="primary", elem_classes="cv-go")
        self.submits: list[Any] = []
        self.components = [self.table, *self.options.components]

        quiet: dict[str, Any] = {
            "show_progress": "hidden",
            "api_visibility": "private",
            "concurrency_limit": None,
        }
        for (kind, name), chip in self._chips.buttons.items():
            rows = rows_of(PromptSchedule.parse(STORIES[kind][name]))
            chip.click(lambda rows=rows: rows, None, self.table, **quiet)
        add.click(self._add, self.table, self.table, **quiet)
        sort.click(_sorted, self.table, self.table, **quiet)
        clear.click(lambda: [[0, "", "swap"]], None, self.table, **quiet)
        use.click(self._import, self.text, self.table, **quiet)
        upload.upload(self._open, upload, self.table, **quiet)
        drawn_from = [self.table, self.options["seconds"]]
        if self.options.model is not None:
            drawn_from.append(self.options.model)
            self.options.model.change(
                self._suit,
                [self.options.model, self.table],
                [self.table, *self._chips.rows.values()],
                **quiet,
            )
        drawn = [self.drawing, self.text, save_text, save_json]
        gr.on(
            [component.change for component in drawn_from],
            self._draw,
            drawn_from,
            drawn,
            trigger_mode="always_last",
            **quiet,
        )
        self.on_load = (self._draw, drawn_from, drawn)

    async def read(self, rows: Rows, *values: Any) -> tuple[Request, Inputs]:
        prompts = read_prompts(self._service, None, rows or [[None, None, None]])
        choices = self.options.read(list(values))
        return read_request(self._service, self.mode, prompts, choices), {}

    def _draw(
        self, rows: Rows, seconds: float, model: str | None = None
    ) -> tuple[Any, Any, Any, Any]:
        """Timeline, text, and the two files; the latter three stay as they were on a mistake."""
        try:
            schedule = check_schedule(rows, self._service.settings)
            model = model or self._service.settings.model
            timeline = self._service.models.timeline(model)
            drawing = draw_timeline(schedule, seconds, timeline)
            words = " ".join(cue.prompt for cue in schedule)
            drawing += draw_remark(remark_on(self._service, model, words))
        except ScheduleError as error:
            return draw_error(error), gr.skip(), gr.skip(), gr.skip()
        text, json = schedule.to_text(), schedule.to_json()
        return drawing, text, self._file("schedule.txt", text), self._file("schedule.json", json)

    def _stories(self, model: str) -> list[Rows]:
        stories = STORIES[kind_of(self._service, model)].values()
        return [rows_of(PromptSchedule.parse(story)) for story in stories]

    def _suit(self, model: str, rows: Rows) -> dict[gr.blocks.Block, Any]:
        """Stories that suit `model`; what the visitor wrote stays."""
        updates = self._chips.suit(model)
        chosen = self._stories(model)
        if rows not in chosen and any(
            rows in self._stories(it) for it in self._service.settings.models
        ):
            updates[self.table] = chosen[0]
        return updates

    def _file(self, name: str, text: str) -> str:
        """A file in Gradio's cache, which Gradio also cleans up."""
        return save_bytes_to_cache(text.encode(), name, self.table.GRADIO_CACHE)

    def _add(self, rows: Rows) -> Rows:
        """One more row, some seconds after the last."""
        starts = [row[0] for row in rows if isinstance(row[0], int | float)]
        return [*rows, [max(starts, default=-4) + 4, "", "recache"]]

    def _import(self, text: str) -> Rows:
        try:
            return rows_of(check_schedule(text, self._service.settings))
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def _open(self, path: str) -> Rows:
        try:
            return rows_of(check_schedule(Path(path), self._service.settings))
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None


def rows_of(schedule: PromptSchedule) -> Rows:
    return [[cue.start, cue.prompt, str(cue.handover)] for cue in schedule]


def _sorted(rows: Rows) -> Rows:
    """By start; rows without a number come last, as they were."""

    def key(row: list[Any]) -> float:
        try:
            return float(row[0])
        except (TypeError, ValueError):
            return float("inf")

    return sorted(rows, key=key)
