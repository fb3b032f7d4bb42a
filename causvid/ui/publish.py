"""Making Gradio events of the endpoints: a component for every parameter, shown to nobody.

It knows the signatures in `api.py`, and nothing of what the functions do. Calls that do not fit a
signature are answered here.
"""

import inspect
from typing import Any

import gradio as gr
from gradio.data_classes import FileData
from gradio.route_utils import FnIndexInferError
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse

from causvid.serving.service import Service
from causvid.ui.api import Endpoints
from causvid.ui.presence import Presence


class PassedFile(FileData):
    """Gradio's description of a file; anything else is refused with a sentence, not a traceback."""

    @classmethod
    def model_validate(cls, value: Any, **options: Any) -> "PassedFile":
        try:
            return super().model_validate(value, **options)
        except ValidationError:
            raise gr.Error(
                f"got {value!r:.60} for a file; expected handle_file(PATH) of gradio_client, or "
                '{"path": PATH, "meta": {"_type": "gradio.FileData"}}',
                print_exception=False,
            ) from None


class UploadedFile(gr.File):
    """A file input that hands over the path, without the empty file that Gradio's leaves beside."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.data_model = PassedFile

    def get_block_name(self) -> str:
        return "file"

    def preprocess(self, payload: Any) -> str | None:
        return None if payload is None else payload.path


class ScheduleInput(gr.JSON):
    """A schedule in any of its forms. Gradio's description of JSON is not one of a JSON schema."""

    def get_block_name(self) -> str:
        return "json"

    def api_info(self) -> dict[str, Any]:
        forms = [
            {"type": "string"},
            {"type": "object", "additionalProperties": {}},
            {"type": "array", "items": {}},
        ]
        return {"anyOf": forms, "description": "a schedule: its lines, or its JSON form"}


def add_endpoints(service: Service, presence: Presence) -> None:
    """Register the endpoints in the Blocks that is being built."""
    endpoints = Endpoints(service, presence)
    with gr.Group(visible=False):
        for name in (*Endpoints.GENERATING, *Endpoints.TELLING):
            function = getattr(endpoints, name)
            inputs = [
                _input(parameter) for parameter in inspect.signature(function).parameters.values()
            ]
            outputs = [gr.JSON(label="result")]
            if name in Endpoints.GENERATING:
                outputs = [
                    gr.File(label="chunk_mp4"),
                    gr.JSON(label="info"),
                    gr.File(label="final_mp4"),
                ]
            gr.Button(name).click(
                function,
                inputs,
                outputs,
                api_name=name,
                concurrency_limit=None,
                show_progress="hidden",
            )


def refuse_call(request: Request, error: Exception) -> JSONResponse:
    """The answer to a call of something else than an endpoint, or with other parameters.

    Gradio finds out by stumbling, and would log where.

    Raises:
        Exception: `error`, if it comes from elsewhere.
    """
    path = request.url.path.rstrip("/")
    if path.endswith("/queue/join") and isinstance(error, KeyError):  # of a page served long ago
        return JSONResponse({"detail": "the app has changed; reload the page"}, status_code=404)
    _, call, name = path.partition("/call/")
    name = name.removeprefix("v2/")
    names = (*Endpoints.GENERATING, *Endpoints.TELLING)
    if not call or request.method != "POST":
        raise error
    if name not in names:
        there_are = ", ".join(f"/{it}" for it in names)
        detail = f"there is no endpoint /{name:.60}; there are {there_are}"
        return JSONResponse({"detail": detail}, status_code=404)
    if not isinstance(error, TypeError):
        raise error
    parameters = list(inspect.signature(getattr(Endpoints, name)).parameters.values())[1:]
    takes = ", ".join(
        it.name if it.default is inspect.Parameter.empty else f"{it.name} (optional)"
        for it in parameters
    )
    reason = str(error).partition(". Please")[0]  # Gradio's own, less where to read on
    return JSONResponse({"detail": f"{reason}; /{name} takes {takes}"}, status_code=422)


WRONG_CALL = (TypeError, KeyError, FnIndexInferError)
"""What Gradio's routes raise then."""


def _input(parameter: inspect.Parameter) -> gr.components.Component:
    """The component whose values a parameter takes; its value is the parameter's default."""
    name = parameter.name
    default = None if parameter.default is inspect.Parameter.empty else parameter.default
    if name in ("image", "video"):
        return UploadedFile(label=name, type="filepath")
    if parameter.annotation is Any:
        return ScheduleInput(label=name)
    if parameter.annotation is bool:
        return gr.Checkbox(label=name, value=default)
    if parameter.annotation in (int, float, int | None, float | None):
        return gr.Number(label=name, value=default)
    return gr.Textbox(label=name, value=default)
