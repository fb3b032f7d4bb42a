"""The public endpoints. Their names, parameters and what they yield are a contract.

The generating ones yield `(chunk_mp4, info, None)` for every chunk and end with
`(None, manifest, final_mp4)`; the records are described in `serving/record.py` and
`examples/schema`. Signatures and descriptions are made from the parameters of `Request`, and calls
that fit none are answered here.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any

import gradio as gr
import starlette.requests
from gradio.data_classes import FileData
from pydantic import ValidationError
from starlette.responses import JSONResponse

from causvid.generation.parameters import DEFAULT_SECONDS, Mode
from causvid.generation.prompts import PromptSchedule
from causvid.media import NoRoomError
from causvid.presets.preflight import preflight as estimate
from causvid.presets.registry import describe
from causvid.serving.job import Change, Ended
from causvid.serving.limits import check_prompts, check_schedule
from causvid.serving.record import Call
from causvid.serving.request import OF_VIDEO, PARAMETERS, Parameter, Request
from causvid.serving.run import Run, RunError
from causvid.serving.service import Service
from causvid.ui.handlers import explained
from causvid.ui.playback import SILENT
from causvid.ui.presence import Presence, listeners
from causvid.ui.quota import caller
from causvid.ui.relay import Relay

Given = dict[str, Any]
Yielded = tuple[str | None, Given, str | None]

NEEDED = inspect.Parameter.empty
HANDOVER = "recache"
_TEXT = {"type": "string"}
_FILE = {"type": "file"}
_SCHEDULE = {
    "anyOf": [
        {"type": "string"},
        {"type": "object", "additionalProperties": {}},
        {"type": "array", "items": {}},
    ],
    "description": "a schedule: its lines, or its JSON form",
}


@dataclass(frozen=True)
class Endpoint:
    """One endpoint as strangers see it.

    Attributes:
        summary: the first lines of its description.
        parameters: in the order of the call.
        mode: of those that start a video.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    mode: Mode | None = None

    @property
    def generates(self) -> bool:
        return self.mode is not None or self.name == "extend"

    def like(self, function: Callable) -> Callable:
        """`function`, which takes values in order, with the name and the signature of a function
        that is written by hand; Gradio reads both, and the description of each argument."""
        function.__name__ = self.name
        function.__doc__ = "\n".join(
            [
                self.summary,
                "",
                "Args:",
                *(f"    {it.name}: {it.sentence}" for it in self.parameters),
            ]
        )
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(it.name, kind, default=it.default) for it in self.parameters]
        )
        return function


def _own(name: str, **changes: Any) -> Parameter:
    return PARAMETERS[name]._replace(**changes)


def _seconds(default: float) -> Parameter:
    return _own(
        "seconds",
        default=default,
        sentence="Length in seconds; 0 for an endless video, up to the server's limit.",
    )


def _making(name: str, mode: Mode, summary: str, *first: Parameter) -> Endpoint:
    """An endpoint whose first parameters are given, and all others are those of `Request`."""
    named = {parameter.name for parameter in first} | (set() if mode == "video" else {*OF_VIDEO})
    others = (parameter for name, parameter in PARAMETERS.items() if name not in named)
    return Endpoint(name, summary, (*first, *others), mode)


_PROMPT = Parameter("prompt", "What to show.", _TEXT, NEEDED)
_IN_PLACE = Parameter(
    "schedule", "Timed prompts in place of the prompt, see /scheduled_video.", _SCHEDULE
)
_RUN = Parameter("run", "The id in the info of its chunks, or in its manifest.", _TEXT, NEEDED)
_HANDOVER = Parameter(
    "handover", "How the prompt takes over: swap, recache, flush or blend:N.", _TEXT, HANDOVER
)

ENDPOINTS = (
    _making(
        "text_to_video",
        "text",
        "Make a video from words, chunk by chunk.",
        _PROMPT,
        _seconds(DEFAULT_SECONDS),
        _own("seed"),
    ),
    _making(
        "image_to_video",
        "image",
        "Make a video that begins with a picture, chunk by chunk.",
        Parameter(
            "image", "The picture, a file; it is cropped to the shape of the video.", _FILE, NEEDED
        ),
        _PROMPT,
        _seconds(DEFAULT_SECONDS),
        _own("seed"),
        _IN_PLACE,
    ),
    _making(
        "video_to_video",
        "video",
        "Make a video after another, chunk by chunk; it is as long as its source, whose sound the\n"
        "final video has.",
        Parameter(
            "video", "The source, a file; it is cropped to the shape of the video.", _FILE, NEEDED
        ),
        _PROMPT,
        _own("strength"),
        _own("seed"),
        _own("adaptive_strength"),
        _own("seconds", sentence="Stop before the source ends."),
        _IN_PLACE,
    ),
    _making(
        "scheduled_video",
        "text",
        "Make a video whose prompt changes at given times, chunk by chunk.\n\n"
        "The schedule's JSON form is\n"
        '{"version": 1, "cues": [{"start": 0, "prompt": "a red car", "handover": "swap"}]}.\n'
        "Hand-overs are swap, recache, flush and blend:N; the first cue starts at 0.",
        Parameter(
            "schedule",
            'Lines such as "4.5s [recache]: a red car", or the JSON form.',
            _SCHEDULE,
            NEEDED,
        ),
        _seconds(10),
        _own("seed"),
    ),
    Endpoint(
        "extend",
        "Go on from where a run ended, chunk by chunk; the final video contains both.",
        (
            _RUN,
            _own("seconds", default=DEFAULT_SECONDS, sentence="How much longer."),
            Parameter("prompt", "Another prompt from here on; by default the same.", _TEXT),
            _HANDOVER,
        ),
    ),
    Endpoint(
        "steer",
        "Change the prompt of a video while it is made, from the next chunk on.",
        (_RUN, _PROMPT._replace(sentence="What to show from now on."), _HANDOVER),
    ),
    Endpoint(
        "models",
        "The models offered here: names, sizes, licences, how they generate. The first is used\n"
        "when a call names none.",
        (),
    ),
    Endpoint(
        "preflight",
        "What a video would cost in memory and operations, and whether it fits; nothing is made.",
        (
            _own("model"),
            _own("seconds", default=DEFAULT_SECONDS, sentence="Length in seconds."),
            *map(_own, ("size", "window", "decoder")),
        ),
    ),
)


class _Described:
    """The part of a component that the API's description is made of."""

    parameter: Parameter

    def api_info(self) -> dict[str, Any]:
        return {**self.parameter.schema, "additional_description": self.parameter.sentence}


class Number(_Described, gr.Number):
    pass


class Checkbox(_Described, gr.Checkbox):
    pass


class Textbox(_Described, gr.Textbox):
    pass


class Json(_Described, gr.JSON):
    def get_block_name(self) -> str:
        return "json"


class PassedFile(FileData):
    """A file: handle_file(PATH) of gradio_client, or its address."""

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


class File(gr.File):
    """A file input that hands over the path, without the empty file that Gradio's leaves beside."""

    parameter: Parameter

    def preprocess(self, payload: Any) -> str | None:
        return None if payload is None else payload.path

    def api_info(self) -> dict[str, Any]:
        return {**super().api_info(), "additional_description": self.parameter.sentence}


_COMPONENTS: dict[str, Callable[..., Any]] = {
    "number": Number,
    "integer": Number,
    "boolean": Checkbox,
    "string": Textbox,
    "file": File,
}


def _component(parameter: Parameter) -> gr.components.Component:
    """An input for a parameter, which no browser shows; its value is the default."""
    kind = _COMPONENTS.get(parameter.schema.get("type", ""), Json)
    value = None if parameter.default is NEEDED else parameter.default
    component = kind(label=parameter.name, value=value)
    component.parameter = parameter
    if isinstance(component, File):
        component.data_model = PassedFile
    return component


def add_endpoints(service: Service, presence: Presence) -> None:
    """Register the endpoints in the Blocks that is being built."""
    calls = _Calls(service, presence)
    with gr.Group(visible=False):
        for endpoint in ENDPOINTS:
            outputs = [gr.JSON(label="result")]
            if endpoint.generates:
                outputs = [
                    gr.File(label="chunk_mp4"),
                    gr.JSON(label="info"),
                    gr.File(label="final_mp4"),
                ]
            gr.Button(endpoint.name).click(
                calls.function(endpoint),
                list(map(_component, endpoint.parameters)),
                outputs,
                api_name=endpoint.name,
                concurrency_limit=None,
                show_progress="hidden",
            )


class _Calls:
    """What the endpoints do, given their parameters by name."""

    def __init__(self, service: Service, presence: Presence):
        self._service = service
        self._presence = presence

    def function(self, endpoint: Endpoint) -> Callable:
        """The function of an endpoint, for Gradio."""
        names = [parameter.name for parameter in endpoint.parameters]

        async def generate(*values: Any) -> AsyncIterator[Yielded]:
            with explained():
                given = dict(zip(names, values, strict=True))
                run = await (self._start(endpoint, given) if endpoint.mode else self._extend(given))
            async for item in self._served(run):
                yield item

        def tell(*values: Any) -> Any:
            with explained():
                return getattr(self, f"_{endpoint.name}")(**dict(zip(names, values, strict=True)))

        return endpoint.like(generate if endpoint.generates else tell)

    async def _start(self, endpoint: Endpoint, given: Given) -> Run:
        service, mode = self._service, endpoint.mode or "text"
        image, video = given.pop("image", None), given.pop("video", None)
        prompt, schedule = given.pop("prompt", None), given.pop("schedule", None)
        if endpoint.name == "scheduled_video":  # an empty schedule is refused as what it is
            prompts = check_schedule(schedule, service.settings)
        else:
            prompts = check_prompts(prompt, schedule, service.settings)
        request = service.read(mode, prompts, given)
        if mode == "image":
            picture = await service.read_image(image, *request.size)
            return service.start(request, image=picture, client=caller())
        if mode == "video":
            for remark in (await service.read_video(video, request)).remarks:
                gr.Info(remark)
            return service.start(request, video=video, client=caller())
        return service.start(request, client=caller())

    async def _extend(self, given: Given) -> Run:
        return self._service.extend(
            given["run"],
            given["seconds"],
            prompt=given["prompt"] or None,
            handover=given["handover"] or HANDOVER,
            client=caller(),
        )

    def _steer(self, run: str, prompt: str, handover: str | None) -> Given:
        handover = handover or HANDOVER
        self._service.steer(run, Change(prompt, handover))
        return {"run": run, "prompt": prompt.strip(), "handover": handover, "accepted": True}

    def _models(self) -> list[Given]:
        return [describe(preset) for preset in self._service.models.presets.values()]

    def _preflight(self, **given: Any) -> Given:
        settings = self._service.settings
        preset = self._service.models.preset(given["model"] or settings.model)
        request = self._service.read(preset.modes[0], PromptSchedule.constant("any"), given)
        cost = estimate(
            preset,
            request.size,
            request.seconds or DEFAULT_SECONDS,
            settings.device,
            dtype=settings.execution.torch_dtype if settings.dtype else None,
            decoder=request.decoder,
            window=request.window,
        )
        return {
            "model": cost.preset,
            "device": cost.device,
            "fits": cost.fits,
            "chunks": cost.chunks,
            "total_bytes": cost.total_bytes,
            "available_bytes": cost.available_bytes,
            "flops_per_chunk": cost.flops_per_chunk,
            "total_flops": cost.total_flops,
            "message": cost.message,
        }

    async def _served(self, run: Run) -> AsyncIterator[Yielded]:
        """A run as chunk files, for as long as its caller listens.

        If the stream breaks, the run is stopped, and what was made can be extended.
        """
        relay = Relay(self._made(run))

        def dropped() -> None:
            if run.muxer.frame_count:
                relay.release()
                relay.drain()
                run.ticket.stop()
            else:
                run.cancel()

        watched = self._presence.expects(listeners(), run.cancel, dropped=dropped)
        with explained(run.id), relay.followed(), watched:
            async for item in relay.items():
                yield item

    async def _made(self, run: Run) -> AsyncGenerator[Yielded, None]:
        """What a run makes, as files."""
        with closing(run):
            async for place in run.places():
                before = "run is" if place == 1 else "runs are"
                gr.Info(f"{place} {before} before this one")  # as `log` in the job's status
            broke: Exception | None = None
            async with aclosing(run.events()) as events:
                try:
                    async for event in events:
                        if isinstance(event, Ended):
                            break
                        if broke is None:
                            try:
                                chunk = await asyncio.to_thread(run.save_chunk, event)
                            except NoRoomError as error:  # the run is stopped; its end comes
                                broke = error
                            else:
                                yield str(chunk), event.info.model_dump(mode="json"), None
                except (ValueError, RunError) as error:
                    broke = error
                if run.ended is not None:
                    results = await asyncio.to_thread(run.save)
                    if results and results.silent:
                        gr.Info(SILENT)
                    manifest = run.ended.manifest.model_dump(mode="json")
                    if results or broke is None:
                        yield None, manifest, str(results.video) if results else None
                if broke is not None:
                    raise broke
                if run.ended is not None:
                    return
            raise gr.Error(
                f"nobody listened for {self._presence.patience:g} s, so this run was ended: follow "
                "the event stream from the start",
                print_exception=False,
            )


def call_of(request: Request) -> Call:
    """The call that gives the video of `request`; picture and video have to be added by hand."""
    name, parameters = f"{request.mode}_to_video", request.to_parameters()
    if steered := len(request.prompts) > 1:
        parameters["schedule"] = request.prompts.to_dict()
    if steered and request.mode == "text":
        name = "scheduled_video"
    else:
        parameters["prompt"] = request.prompts.cues[0].prompt
    return Call(api_name=f"/{name}", parameters=parameters)


def refuse_call(request: starlette.requests.Request, error: Exception) -> JSONResponse:
    """The answer to a call with other parameters than its endpoint has, where Gradio would log an
    error of its own.

    Raises:
        Exception: `error`, if it comes from elsewhere.
    """
    name = request.url.path.rstrip("/").rpartition("/call/v2/")[2]
    endpoint = next((it for it in ENDPOINTS if it.name == name), None)
    if endpoint is None:
        raise error
    takes = ", ".join(
        it.name if it.default is NEEDED else f"{it.name} (optional)" for it in endpoint.parameters
    )
    reason = str(error).partition(". Please")[0]  # Gradio's own, less where to read on
    return JSONResponse({"detail": f"{reason}; /{name} takes {takes}"}, status_code=422)


WRONG_CALL = TypeError
"""What Gradio's route raises then."""
