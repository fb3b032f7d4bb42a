"""A request in a link: written here, and read from links, manifests and schedules alike.

What comes back may have been written by anybody: it is read as any request is, and refused with a
sentence.
"""

import base64
import binascii
import json
from typing import get_args

from causvid.generation.parameters import Mode
from causvid.serving.limits import check_schedule
from causvid.serving.request import Request
from causvid.serving.service import Service
from causvid.ui.bodies import Refused, read_json

MOST = 900_000  # characters; the manifest of ten minutes has half of that, and 1 MB is let in
_NEITHER = "this is neither a link of this page nor a manifest"


def link_of(request: Request) -> str:
    """What a link has behind `#request=`: all that differs from the defaults, in base64url."""
    values = request.model_dump(mode="json", exclude_defaults=True)
    values["prompts"] = [[it.start, it.prompt, str(it.handover)] for it in request.prompts]
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_request(text: str, service: Service) -> Request:
    """The checked request in a link, or in the JSON of a manifest, a request or a schedule.

    Raises:
        ValueError: a sentence that says what came and what is allowed.
    """
    if len(text) > MOST:
        raise ValueError(f"this has {len(text)} characters; at most {MOST} are read")
    try:
        content = text.strip()
        encoded = content.encode(errors="replace")
        if not content.startswith("{"):
            encoded = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), b"-_", validate=True)
        values = read_json(encoded, "it")
    except binascii.Error:
        raise ValueError(f"{_NEITHER}; if it was one, a part of it was lost") from None
    except Refused as refused:
        raise ValueError(f"{_NEITHER}: {refused.sentence}") from None
    if isinstance(values, dict):
        values = {"prompts": values} if "cues" in values else values.get("request", values)
    if not isinstance(values, dict):
        raise ValueError(f"{_NEITHER}: its request is {values!r:.40}")
    settings = service.settings
    named = (mode for mode in get_args(Mode) if mode == values.get("mode"))
    model = settings.model_for(next(named, "text"))
    request = Request.read({"model": model} | values)
    check_schedule(request.prompts.to_dict(), settings)
    return service.within_limits(request)
