"""What the page says about itself: headline, how it works, models and licences. HTML, no inputs."""

import html

from causvid.catalogue import Preset
from causvid.serving.service import Service
from causvid.ui.stage import static


def headline(service: Service) -> str:
    """Name, one sentence, and the model in use called what it is."""
    settings = service.settings
    preset = service.models.preset(settings.model)
    generation = preset.generation
    known = service.models.known_words(settings.model)
    model = (
        f"<b>{html.escape(preset.title)}</b> · {generation.width} × {generation.height} · "
        f"{generation.fps} frames a second · on {html.escape(settings.device)}"
    )
    if known:
        words = sorted(word for word in known if word.isalpha())
        model = (
            f'<details class="cv-model"><summary>{model}. A small model of a small world: it '
            f"knows {len(known)} words.</summary><p>{html.escape(', '.join(words))}</p></details>"
        )
    else:
        model = f'<p class="cv-model">{model}</p>'
    return (
        "<h1>CausVid Live</h1>"
        "<p>Video that plays while it is being made: chunk by chunk, from words, a picture or "
        f"another video, and it listens when you change your mind.</p>{model}"
    )


def licence_notice(service: Service) -> str:
    """Shown at the Generate buttons: who may use what is made, where that is restricted."""
    restricted = [it for it in service.models.presets.values() if not it.licence.commercial_use]
    return "".join(
        f'<p class="cv-licence">{html.escape(preset.title)}: weights under {_licence(preset)}, '
        "<b>not for commercial use</b>.</p>"
        for preset in restricted
    )


def about() -> str:
    """How it works, with a picture of the causal cache."""
    return static("about.html")


def credits(service: Service) -> str:
    """The models offered, where they come from, and their licences."""
    rows = "".join(
        f"<tr><td>{html.escape(preset.title)}</td><td>{html.escape(preset.source)}</td>"
        f"<td>{_licence(preset)}</td></tr>"
        for preset in service.models.presets.values()
    )
    return (
        "<details><summary>Credits and licences</summary><table><thead><tr><th>Model</th>"
        f"<th>From</th><th>Licence of the weights</th></tr></thead><tbody>{rows}</tbody></table>"
        "<p>The method is that of CausVid (arXiv 2412.07772) with the training of Self Forcing "
        "(arXiv 2506.08009). The code is Apache-2.0.</p></details>"
    )


def _licence(preset: Preset) -> str:
    licence = preset.licence
    note = f" ({html.escape(licence.note)})" if licence.note else ""
    return (
        f'<a href="{html.escape(licence.url)}" target="_blank" rel="noreferrer">'
        f"{html.escape(licence.name)}</a>{note}"
    )
