"""The call that gives a video again: a manifest's request as parameters of a public endpoint."""

from typing import Any

from causvid.serving.request import Request

_ENDPOINTS = {"text": "/text_to_video", "image": "/image_to_video", "video": "/video_to_video"}


def call_of(request: Request) -> dict[str, Any]:
    """`{"api_name": …, "parameters": {…}}`; picture and video have to be added by hand."""
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
    return {"api_name": endpoint, "parameters": parameters}
