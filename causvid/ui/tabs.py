"""Tabs: the inputs of one way to a video, and their values as a request.

A tab knows its inputs only. `page.py` connects them with the player, which all tabs share.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
import PIL.Image

from causvid.generation.parameters import Mode, parse_size
from causvid.generation.prompts import PromptSchedule
from causvid.media.kinds import KINDS, SUFFIXES
from causvid.serving.limits import check_prompts
from causvid.serving.request import Request
from causvid.serving.service import Service
from causvid.ui import PRIVATE, STREAMED
from causvid.ui.camera import CameraButtons
from causvid.ui.files import static
from causvid.ui.form import Options, Updates
from causvid.ui.hints import PROMPTS, Chips, Remark, kind_of
from causvid.ui.samples import Samples

Inputs = dict[str, Any]
"""What `Service.start` takes besides the request: a picture or a video."""

Values = Mapping[gr.components.Component, Any]


class UploadedImage(gr.Image):
    """An image input that hands over the file itself, which `causvid.media` reads within limits."""

    def get_block_name(self) -> str:
        return "image"

    def preprocess(self, payload: Any) -> str | None:
        return None if payload is None else payload.path


class Tab:
    """A prompt with examples and a remark, options, and the Generate button.

    Subclasses add an input (`build_source`) or replace the prompt (`build_prompt`, `starts`), and
    tell what their values mean (`read_prompts`, `read_source`).

    Attributes:
        prompt: the component that the examples fill in.
        go: the button; `submits` are other ways to press it.
        inputs: the components whose values `read` takes.
    """

    title: str
    mode: Mode
    seconds: float | None = 5.0  # where the slider starts; `None` where the source decides

    def __init__(self, service: Service):
        self._service = service
        self._first_model = service.settings.model_for(self.mode)
        self.submits: list[Any] = []
        self._source = self.build_source()
        self.prompt, self._chips = self.build_prompt()
        self.options = Options(service, self.mode, self.seconds)
        self.go = gr.Button("Generate", variant="primary", elem_classes="cv-go")
        self.inputs = {self.prompt, *self.options.components}
        if self._source is not None:
            self.inputs.add(self._source)
        self.connect()

    def build_source(self) -> gr.components.Component | None:
        """An input above the prompt: what the video starts from."""
        return None

    def build_prompt(self) -> tuple[gr.components.Component, Chips]:
        """The prompt, and buttons that fill in examples."""
        first = self.starts(self._first_model)[0]
        prompt = gr.Textbox(
            label="Prompt",
            placeholder="What to show",
            value=first if self.mode == "text" else "",
            lines=2,
            max_lines=6,
            submit_btn=False,
            elem_classes="cv-prompt",
        )
        self.submits.append(prompt.submit)
        self._remark = Remark(self._service)
        chips = Chips(self._service, PROMPTS, self.mode)
        for (_, example), chip in chips.buttons.items():
            chip.click(None, None, prompt, js=f"() => {json.dumps(example)}", **PRIVATE)
        return prompt, chips

    def connect(self) -> None:
        """Events between the components, all of which are there now."""
        self._remark.show_for(self.prompt, self.options.model)

    def starts(self, model: str) -> Sequence[Any]:
        """Values of `prompt` that suit `model`, the first one to begin with."""
        return PROMPTS[kind_of(self._service, model)]

    def suit(self, model: str, value: Any = None) -> Updates:
        """Inputs and examples that suit `model`, when it is chosen; what the visitor wrote, `value`
        of the prompt, stays."""
        updates = self.options.suit(model) | self._chips.suit(model)
        suitable = self.starts(model)
        offered = self._service.models.able(self.mode)
        if value not in suitable and any(value in self.starts(other) for other in offered):
            updates[self.prompt] = suitable[0]
        return updates

    async def read(self, values: Values) -> tuple[Request, Inputs]:
        """The request and its inputs from the values of `inputs`.

        Raises:
            ValueError: says what came and what is allowed.
        """
        prompts = self.read_prompts(values[self.prompt])
        request = self._service.read(self.mode, prompts, self.options.read(values))
        if self._source is None:
            return request, {}
        return request, await self.read_source(request, values[self._source])

    def write(self, request: Request) -> Updates:
        """The inverse, for a checked request: updates of `inputs` but for a picture or a video.

        Raises:
            ValueError: if the page has no place for a value.
        """
        return {self.prompt: self.write_prompts(request.prompts), **self.options.write(request)}

    def write_prompts(self, prompts: PromptSchedule) -> Any:
        return prompts.cues[0].prompt

    def read_prompts(self, prompt: Any) -> PromptSchedule:
        return check_prompts(prompt, None, self._service.settings)

    async def read_source(self, request: Request, path: str | None) -> Inputs:
        raise NotImplementedError


class TextTab(Tab):
    title = "Text to video"
    mode: Mode = "text"


class ImageTab(Tab):
    title = "Image to video"
    mode: Mode = "image"

    def build_source(self) -> gr.components.Component:
        with gr.Row():
            picture = UploadedImage(
                label="Picture",
                type="filepath",
                sources=["upload", "clipboard", "webcam"],
                webcam_options=gr.WebcamOptions(mirror=False),
                buttons=[],
                height=220,
                min_width=160,
                elem_classes="cv-picture",
            )
            self._crop = gr.Image(
                label="First frame",
                interactive=False,
                buttons=[],
                visible=False,
                height=220,
                min_width=160,
                elem_classes="cv-crop",
            )
        gr.HTML(
            "A file, a copied picture (Ctrl+V or ⌘V), or the camera.",
            js_on_load=static("paste.js"),
            apply_default_css=False,
            elem_classes="cv-note",
        )
        self._samples = Samples(self._service, self.mode)
        return picture

    def connect(self) -> None:
        super().connect()
        self._samples.fill(self.prompt)
        assert self._source is not None
        size = self.options["size"]
        gr.on(
            [self._source.change, size.change],
            self._show_crop,
            [self._source, size],
            self._crop,
            **STREAMED,
        )

    async def _show_crop(self, path: str | None, size: str) -> gr.Image:
        """The part of the picture that the video begins with."""
        shape = parse_size(size)
        if path is None or shape is None:
            return gr.Image(visible=False)
        try:
            picture = PIL.Image.fromarray(await self._service.read_image(path, *shape))
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return gr.Image(picture, visible=True)

    async def read_source(self, request: Request, path: str | None) -> Inputs:
        return {"image": await self._service.read_image(path, *request.size)}


class VideoTab(Tab):
    title = "Video to video"
    mode: Mode = "video"
    seconds = None

    def build_source(self) -> gr.components.Component:
        video = gr.Video(
            label="Source",
            sources=["upload", "webcam"],
            webcam_options=gr.WebcamOptions(mirror=False),
            include_audio=True,  # otherwise Gradio would start ffmpeg to take the sound off
            buttons=[],
            height=320,
            elem_classes="cv-source",
        )
        gr.HTML(
            f"<span data-suffixes='{' '.join(SUFFIXES)}'>{', '.join(KINDS)}, or the camera.</span>",
            js_on_load=static("source.js"),
            apply_default_css=False,
            elem_classes="cv-note",
        )
        # Not on a GPU that is lent to another process, which no picture reaches.
        self.live = CameraButtons() if self._service.device.takes_live else None
        self._samples = Samples(self._service, self.mode)
        return video

    def connect(self) -> None:
        super().connect()
        if self.live is not None:
            self.live.connect(self.prompt, self.options)
        self._samples.fill(self.prompt)

    async def read_source(self, request: Request, path: str | None) -> Inputs:
        for remark in (await self._service.read_video(path, request)).remarks:
            gr.Info(remark)
        return {"video": path}
