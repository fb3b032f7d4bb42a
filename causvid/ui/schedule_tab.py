"""The schedule tab: a table of cues, drawn as a timeline, with text and JSON in and out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from causvid.generation.parameters import Mode
from causvid.generation.prompts import PromptSchedule, ScheduleError
from causvid.serving.limits import check_schedule
from causvid.ui import PRIVATE, STREAMED
from causvid.ui.hints import STORIES, Chips, kind_of, remark_on
from causvid.ui.tabs import Tab
from causvid.ui.timeline import draw_error, draw_remark, draw_timeline

HEADERS = ["Start (s)", "Prompt", "Hand-over"]
Rows = list[list[Any]]


class ScheduleTab(Tab):
    """A table of cues in place of the prompt."""

    title = "Prompt schedule"
    mode: Mode = "text"
    seconds = 12.0

    def build_prompt(self) -> tuple[gr.components.Component, Chips]:
        chips = Chips(self._service, STORIES, self.mode)
        table = gr.Dataframe(
            self.starts(self._first_model)[0],
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
        drawing = gr.HTML(elem_id="timeline")
        gr.Markdown(
            "A prompt can change where a chunk begins. Hand-overs: `swap` changes the words, "
            "`recache` also rewrites what is remembered, `flush` forgets it, `blend:N` goes over "
            "in N chunks.",
            elem_classes="cv-note",
        )
        with gr.Accordion("As text", open=False):
            text = gr.Textbox(
                label="One cue a line, or JSON",
                lines=5,
                placeholder="4.5s [recache]: a red car",
                elem_id="schedule-text",
            )
            use = gr.Button("Use this text", size="sm", min_width=110)
        for (kind, name), chip in chips.buttons.items():
            rows = rows_of(PromptSchedule.parse(STORIES[kind][name]))
            chip.click(lambda rows=rows: rows, None, table, **PRIVATE)
        add.click(_with_row, table, table, **PRIVATE)
        sort.click(_sorted, table, table, **PRIVATE)
        clear.click(lambda: [[0, "", "swap"]], None, table, **PRIVATE)
        use.click(self._rows, text, table, **STREAMED)
        upload.upload(self._rows_of_file, upload, table, **STREAMED)
        self._drawn = [drawing, text, save_text, save_json]
        return table, chips

    def connect(self) -> None:
        drawn_from = [self.prompt, self.options["seconds"]]
        if self.options.model is not None:
            drawn_from.append(self.options.model)
        # Without triggers: when the page is loaded, and at each change of an input.
        gr.on(None, self._draw, drawn_from, self._drawn, trigger_mode="always_last", **PRIVATE)

    def starts(self, model: str) -> Sequence[Rows]:
        stories = STORIES[kind_of(self._service, model)].values()
        return [rows_of(PromptSchedule.parse(story)) for story in stories]

    def read_prompts(self, rows: Rows) -> PromptSchedule:
        return check_schedule(rows or [[None, None, None]], self._service.settings)

    def write_prompts(self, prompts: PromptSchedule) -> Rows:
        return rows_of(prompts)

    def _draw(
        self, rows: Rows, seconds: float, model: str | None = None
    ) -> tuple[Any, Any, Any, Any]:
        """Timeline, text, and the two files; the latter three stay as they were on a mistake."""
        try:
            schedule = check_schedule(rows, self._service.settings)
            model = model or self._first_model
            timeline = self._service.models.timeline(model)
            drawing = draw_timeline(schedule, seconds, timeline)
            words = " ".join(cue.prompt for cue in schedule)
            drawing += draw_remark(remark_on(self._service, model, words))
        except ScheduleError as error:
            return draw_error(error), gr.skip(), gr.skip(), gr.skip()
        text, json = schedule.to_text(), schedule.to_json()
        return drawing, text, self._file("schedule.txt", text), self._file("schedule.json", json)

    def _file(self, name: str, text: str) -> str:
        """A file in Gradio's cache, which Gradio also cleans up."""
        return save_bytes_to_cache(text.encode(), name, self.prompt.GRADIO_CACHE)

    def _rows_of_file(self, path: str | None) -> Rows:
        return self._rows(Path(path) if path else "")

    def _rows(self, schedule: str | Path) -> Rows:
        """The table of a schedule that came as text or as a file."""
        try:
            return rows_of(check_schedule(schedule, self._service.settings))
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None


def rows_of(schedule: PromptSchedule) -> Rows:
    return [[cue.start, cue.prompt, str(cue.handover)] for cue in schedule]


def _with_row(rows: Rows) -> Rows:
    """One more row, four seconds after the last."""
    starts = [row[0] for row in rows if isinstance(row[0], int | float)]
    return [*rows, [max(starts, default=-4) + 4, "", "recache"]]


def _sorted(rows: Rows) -> Rows:
    """By start; rows without a number come last, as they were."""

    def key(row: list[Any]) -> float:
        try:
            return float(row[0])
        except (TypeError, ValueError):
            return float("inf")

    return sorted(rows, key=key)
