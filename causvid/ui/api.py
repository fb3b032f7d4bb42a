"""The public endpoints. Their names, parameters and what they yield are a contract.

The generating ones yield `(chunk_mp4, info, None)` for every chunk and end with
`(None, manifest, final_mp4)`. `examples/README.md` writes down `info` and `manifest`; `publish.py`
makes events of these functions.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import gradio as gr

from causvid.generation.parameters import Mode
from causvid.generation.prompts import PromptSchedule
from causvid.presets.preflight import preflight as estimate
from causvid.presets.registry import describe as describe_model
from causvid.serving.job import Ended
from causvid.serving.limits import check_image, check_schedule, check_video
from causvid.serving.record import Call
from causvid.serving.request import Request
from causvid.serving.run import Run
from causvid.serving.service import Service
from causvid.ui.handlers import explained
from causvid.ui.playback import save_chunk, save_results
from causvid.ui.presence import Presence, listeners
from causvid.ui.reading import Choices, read_prompts, read_request

HANDOVER = "recache"
Yielded = tuple[str | None, dict[str, Any], str | None]


class Endpoints:
    """The functions behind the endpoints; their docstrings are the API's documentation.

    Gradio takes the first lines as a description, and one line for each argument.
    """

    GENERATING = (
        "text_to_video",
        "image_to_video",
        "video_to_video",
        "scheduled_video",
        "extend",
    )
    TELLING = ("steer", "models", "preflight")

    def __init__(self, service: Service, presence: Presence):
        self._service = service
        self._presence = presence

    async def text_to_video(
        self,
        prompt: str,
        seconds: float = 5,
        seed: int = 0,
        size: str | None = None,
        steps: int | None = None,
        window: int | None = None,
        sink: int | None = None,
        decoder: str = "full",
        model: str | None = None,
    ) -> AsyncIterator[Yielded]:
        """Make a video from words, chunk by chunk.

        Args:
            prompt: What to show.
            seconds: Length; 0 for an endless video, up to the server's limit.
            seed: Of the noise: the same seed and parameters give the same video.
            size: WIDTHxHEIGHT in pixels; by default the size the model was trained at.
            steps: Denoising steps per chunk; by default the model's own.
            window: Latent frames that a chunk can see; by default the model's own.
            sink: Latent frames that are never forgotten; by default the model's own.
            decoder: "full" or "tiny".
            model: A name from /models; by default the server's first.
        """
        choices = Choices(seconds, seed, size, steps, window, sink, decoder, model)
        request = self._request("text", prompt, None, choices)
        async for item in self._make(request):
            yield item

    async def image_to_video(
        self,
        image: str,
        prompt: str,
        seconds: float = 5,
        seed: int = 0,
        schedule: Any = None,
        size: str | None = None,
        steps: int | None = None,
        window: int | None = None,
        sink: int | None = None,
        decoder: str = "full",
        model: str | None = None,
    ) -> AsyncIterator[Yielded]:
        """Make a video that begins with a picture, chunk by chunk.

        Args:
            image: The picture, a file; it is cropped to the shape of the video.
            prompt: What is to happen.
            seconds: Length; 0 for an endless video, up to the server's limit.
            seed: Of the noise: the same seed and parameters give the same video.
            schedule: Timed prompts in place of the prompt, see /scheduled_video.
            size: WIDTHxHEIGHT in pixels; by default the size the model was trained at.
            steps: Denoising steps per chunk; by default the model's own.
            window: Latent frames that a chunk can see; by default the model's own.
            sink: Latent frames that are never forgotten; by default the model's own.
            decoder: "full" or "tiny".
            model: A name from /models; by default the server's first.
        """
        choices = Choices(seconds, seed, size, steps, window, sink, decoder, model)
        request = self._request("image", prompt, schedule, choices)
        picture = await _explained_in_thread(
            check_image, image, request.height, request.width, self._service.settings
        )
        async for item in self._make(request, image=picture):
            yield item

    async def video_to_video(
        self,
        video: str,
        prompt: str,
        strength: float = 0.7,
        seed: int = 0,
        adaptive_strength: bool = False,
        seconds: float | None = None,
        schedule: Any = None,
        size: str | None = None,
        steps: int | None = None,
        window: int | None = None,
        sink: int | None = None,
        decoder: str = "full",
        model: str | None = None,
    ) -> AsyncIterator[Yielded]:
        """Make a video after another, chunk by chunk; it is as long as its source.

        Args:
            video: The source, a file; it is cropped to the shape of the video.
            prompt: What to show.
            strength: How far to leave the source, above 0 (not at all) to 1 (ignore it).
            seed: Of the noise: the same seed and parameters give the same video.
            adaptive_strength: Less strength where the source moves fast.
            seconds: Stop before the source ends.
            schedule: Timed prompts in place of the prompt, see /scheduled_video.
            size: WIDTHxHEIGHT in pixels; by default the size the model was trained at.
            steps: Denoising steps per chunk; by default the model's own.
            window: Latent frames that a chunk can see; by default the model's own.
            sink: Latent frames that are never forgotten; by default the model's own.
            decoder: "full" or "tiny".
            model: A name from /models; by default the server's first.
        """
        choices = Choices(
            seconds, seed, size, steps, window, sink, decoder, model, strength, adaptive_strength
        )
        request = self._request("video", prompt, schedule, choices)
        await _explained_in_thread(check_video, video, request, self._service.settings)
        async for item in self._make(request, video=Path(video)):
            yield item

    async def scheduled_video(
        self,
        schedule: Any,
        seconds: float = 10,
        seed: int = 0,
        size: str | None = None,
        steps: int | None = None,
        window: int | None = None,
        sink: int | None = None,
        decoder: str = "full",
        model: str | None = None,
    ) -> AsyncIterator[Yielded]:
        """Make a video whose prompt changes at given times, chunk by chunk.

        The schedule's JSON form is
        {"version": 1, "cues": [{"start": 0, "prompt": "a red car", "handover": "swap"}]}.
        Hand-overs are swap, recache, flush and blend:N; the first cue starts at 0.

        Args:
            schedule: Lines such as "4.5s [recache]: a red car", or the JSON form.
            seconds: Length; 0 for an endless video, up to the server's limit.
            seed: Of the noise: the same seed and parameters give the same video.
            size: WIDTHxHEIGHT in pixels; by default the size the model was trained at.
            steps: Denoising steps per chunk; by default the model's own.
            window: Latent frames that a chunk can see; by default the model's own.
            sink: Latent frames that are never forgotten; by default the model's own.
            decoder: "full" or "tiny".
            model: A name from /models; by default the server's first.
        """
        choices = Choices(seconds, seed, size, steps, window, sink, decoder, model)
        # Not in place of a prompt: an empty one is refused as what it is.
        with explained():
            prompts = check_schedule(schedule, self._service.settings)
            request = read_request(self._service, "text", prompts, choices)
        async for item in self._make(request):
            yield item

    async def extend(
        self, run: str, seconds: float = 5, prompt: str | None = None, handover: str = HANDOVER
    ) -> AsyncIterator[Yielded]:
        """Go on from where a run ended, chunk by chunk; the final video contains both.

        Args:
            run: The id in the info or manifest of an ended run. It can be extended repeatedly.
            seconds: How much longer.
            prompt: Another prompt from here on; by default the same.
            handover: How it takes over: swap, recache, flush or blend:N.
        """
        with explained():
            handover = handover or HANDOVER
            longer = self._service.extend(run, seconds, prompt=prompt or None, handover=handover)
        async for item in self._served(longer):
            yield item

    def steer(self, run: str, prompt: str, handover: str = HANDOVER) -> dict[str, Any]:
        """Change the prompt of a video while it is made, from the next chunk on.

        Args:
            run: The id in the info of its chunks.
            prompt: What to show from now on.
            handover: How it takes over: swap, recache, flush or blend:N.
        """
        with explained():
            handover = handover or HANDOVER
            self._service.steer(run, prompt, handover)
        return {"run": run, "prompt": prompt.strip(), "handover": handover, "accepted": True}

    def models(self) -> list[dict[str, Any]]:
        """The models offered here: names, sizes, licences, how they generate. The first is used
        when a call names none."""
        return [describe_model(preset) for preset in self._service.models.presets.values()]

    def preflight(
        self,
        model: str | None = None,
        seconds: float = 5,
        size: str | None = None,
        window: int | None = None,
        decoder: str = "full",
    ) -> dict[str, Any]:
        """What a video would cost in memory and operations, and whether it fits; nothing is made.

        Args:
            model: A name from /models; by default the server's first.
            seconds: Length.
            size: WIDTHxHEIGHT in pixels; by default the size the model was trained at.
            window: Latent frames that a chunk can see; by default the model's own.
            decoder: "full" or "tiny".
        """
        with explained():
            return self._estimate(model, seconds, size, window, decoder)

    def _estimate(
        self,
        model: str | None,
        seconds: float,
        size: str | None,
        window: int | None,
        decoder: str,
    ) -> dict[str, Any]:
        settings = self._service.settings
        preset = self._service.models.preset(model or settings.model)
        choices = Choices(seconds, size=size, window=window, decoder=decoder, model=preset.name)
        prompts = PromptSchedule.constant("any")
        request = read_request(self._service, preset.modes[0], prompts, choices)
        cost = estimate(
            preset,
            (request.height, request.width),
            request.seconds,
            settings.device,
            dtype=settings.torch_dtype,
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

    def _request(self, mode: Mode, prompt: str | None, schedule: Any, choices: Choices) -> Request:
        """
        Raises:
            gr.Error: if a limit is exceeded.
        """
        with explained():
            prompts = read_prompts(self._service, prompt, schedule)
            return read_request(self._service, mode, prompts, choices)

    async def _make(self, request: Request, **inputs: Any) -> AsyncIterator[Yielded]:
        with explained():
            run = self._service.start(request, **inputs)
        async for item in self._served(run):
            yield item

    async def _served(self, run: Run) -> AsyncIterator[Yielded]:
        """A run as chunk files, for as long as its caller listens."""
        with (
            explained(run.id),
            closing(run),
            self._presence.expects(listeners(), run.cancel),
        ):
            async for place in run.places():
                before = "run is" if place == 1 else "runs are"
                gr.Info(f"{place} {before} before this one")  # as `log` in the job's status
            async with aclosing(run.events()) as events:
                async for event in events:
                    if isinstance(event, Ended):
                        results = await asyncio.to_thread(save_results, run, event)
                        manifest = event.manifest.model_dump(mode="json")
                        yield None, manifest, str(results.video) if results else None
                        return
                    chunk = await asyncio.to_thread(save_chunk, run, event)
                    yield str(chunk), event.info.model_dump(mode="json"), None
            raise gr.Error(
                f"nobody listened for {self._presence.patience:g} s, so this run was ended: follow "
                "the event stream from the start",
                print_exception=False,
            )


_ENDPOINTS = {"text": "/text_to_video", "image": "/image_to_video", "video": "/video_to_video"}


def call_of(request: Request) -> Call:
    """The call that gives the video of `request`; picture and video have to be added by hand."""
    parameters: dict[str, Any] = {
        "model": request.model,
        "seconds": request.seconds,
        "seed": request.seed,
        "size": f"{request.width}x{request.height}",
        "steps": request.steps,
        "window": request.window,
        "sink": request.sink,
        "decoder": request.decoder,
    }
    endpoint = _ENDPOINTS[request.mode]
    steered = len(request.prompts) > 1
    if request.mode == "text" and steered:
        endpoint = "/scheduled_video"
    else:
        parameters["prompt"] = request.prompts.cues[0].prompt
    if steered:
        parameters["schedule"] = request.prompts.to_dict()
    if request.mode == "video":
        parameters |= {
            "strength": request.strength,
            "adaptive_strength": request.adaptive_strength,
        }
    return Call(api_name=endpoint, parameters=parameters)


async def _explained_in_thread(function: Callable, *args: Any) -> Any:
    with explained():
        return await asyncio.to_thread(function, *args)
