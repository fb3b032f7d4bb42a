"""What the page says about itself: headline, models and licences. No inputs."""

import html
import os
from typing import get_args

from causvid.generation.parameters import Mode
from causvid.presets.preset import Preset
from causvid.serving.service import Service
from causvid.serving.words import known_words


def headline(service: Service, model: str | None = None) -> str:
    """Name, one sentence, and the model in use called what it is; at first, one for every mode."""
    settings = service.settings
    first = dict.fromkeys(settings.model_for(mode) for mode in get_args(Mode))
    models = [model] if model else list(first)
    lines = "".join(_line(service, it, alone=len(models) == 1) for it in models)
    return (
        "<h1>CausVid Live</h1>"
        "<p>Video that plays while it is being made: chunk by chunk, from words, a picture or "
        f"another video, and it listens when you change your mind.</p>{lines}"
    )


def _line(service: Service, model: str, *, alone: bool) -> str:
    preset = service.models.preset(model)
    generation = preset.generation
    known = known_words(preset)
    modes = [mode for mode in get_args(Mode) if service.settings.model_for(mode) == model]
    use = "" if alone else f"{' and '.join(modes).capitalize()} to video: "
    line = (
        f"{use}<b>{html.escape(preset.title)}</b> · {generation.width} × {generation.height} · "
        f"{generation.fps} frames a second · {html.escape(service.models.execution(model))}"
    )
    if known:
        words = html.escape(", ".join(sorted(known)))
        line = (
            f'<details class="cv-model"><summary>{line}. A small model of a small world: it '
            f"knows {len(known)} words.</summary><p>{words}</p></details>"
        )
    else:
        line = f'<p class="cv-model">{line}</p>'
    return line


def licence_notice(preset: Preset) -> str:
    """Shown above the Generate buttons: who may use what is made, where that is restricted."""
    if preset.licence.commercial_use:
        return ""
    return (
        f'<p class="cv-licence">{html.escape(preset.title)}: weights under {_licence(preset)}, '
        "<b>not for commercial use</b>.</p>"
    )


def credits(service: Service) -> str:
    """The models offered, where they come from, and their licences."""
    rows = "".join(
        f"<tr><td>{html.escape(preset.title)}</td><td>{html.escape(preset.source)}</td>"
        f"<td>{_licence(preset)}</td></tr>"
        for preset in service.models.presets.values()
    )
    space = os.environ.get("SPACE_ID")  # set where this runs as a Space
    copy = (
        f'<p><a href="https://huggingface.co/spaces/{html.escape(space)}?duplicate=true" '
        'target="_blank" rel="noreferrer">Duplicate this Space</a> to run it on hardware of your '
        "own.</p>"
        if space
        else ""
    )
    return (
        '<div class="cv-scroll"><table><thead><tr><th>Model</th><th>From</th>'
        f"<th>Licence of the weights</th></tr></thead><tbody>{rows}</tbody></table></div>"
        "<p>The method is that of CausVid (arXiv 2412.07772) with the training of Self Forcing "
        f"(arXiv 2506.08009). The code is Apache-2.0.</p>{copy}"
    )


def _licence(preset: Preset) -> str:
    licence = preset.licence
    note = f" ({html.escape(licence.note)})" if licence.note else ""
    if not licence.url:
        return f"{html.escape(licence.name)}{note}"
    return (
        f'<a href="{html.escape(licence.url)}" target="_blank" rel="noreferrer">'
        f"{html.escape(licence.name)}</a>{note}"
    )
