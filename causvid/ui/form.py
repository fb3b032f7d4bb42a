"""The form: the inputs that every tab has, and their values by the names of parameters."""

import math
from collections.abc import Mapping
from typing import Any

import gradio as gr

from causvid.generation.geometry import Size
from causvid.generation.parameters import Mode
from causvid.presets.preset import Preset
from causvid.serving.limits import largest_window
from causvid.serving.request import OF_VIDEO, PARAMETERS, Parameter, Request
from causvid.serving.service import Service
from causvid.ui.about import licence_notice

_ONE_SHAPE = "Made for {}: in other shapes things can come out stretched or doubled."
_HANDOVERS = ("recache", "swap", "flush", "blend:2", "blend:4")
LARGEST_SEED = 2**53 - 1  # a browser's numbers are floats
Updates = dict[gr.blocks.Block, Any]
RANDOM_SEED = "() => Math.floor(Math.random() * 2 ** 31)"


class Options:
    """Builds an input for every parameter, where it is made; `read` names their values.

    Args:
        service: for the models and limits.
        mode: what is to be made, by the models that can.
        seconds: the default length; `None` where the source decides.

    Attributes:
        handover: how prompts that change on the way take over. No request has it: it goes with
            each change, and is the same in all tabs and on the stage.
    """

    def __init__(self, service: Service, mode: Mode, seconds: float | None):
        settings, of_video = service.settings, mode == "video"
        preset = service.models.preset(settings.model_for(mode))
        suited = _suited(preset, settings.tiny_decoder)
        parts: dict[str, gr.components.Component] = {}
        if of_video:
            strength = PARAMETERS["strength"]
            parts["strength"] = _slider(
                "Strength",
                "how far to leave the source",
                minimum=0.1,
                maximum=strength.schema["maximum"],
                value=strength.default,
                step=0.05,
            )
            parts["adaptive_strength"] = gr.Checkbox(
                PARAMETERS["adaptive_strength"].default,
                label="Adaptive: less strength where the source moves fast",
            )
        with gr.Row(elem_classes="cv-line"):
            if seconds is not None:
                longest = settings.max_seconds
                parts["seconds"] = _slider(
                    "Seconds",
                    None,
                    minimum=2 if longest > 2 else longest / 2,
                    maximum=longest,
                    value=min(seconds, longest),
                    step=1 if longest > 2 else longest / 20,
                    scale=3,
                    min_width=170,
                )
            elif of_video:
                parts["seconds"] = gr.Number(
                    None, label="Seconds", info="empty: the whole source", scale=2, min_width=120
                )
            dice = gr.Button("⚄ Roll", render=False)
            parts["seed"] = gr.Number(
                PARAMETERS["seed"].default, label="Seed", buttons=[dice], scale=2, min_width=120
            )
        if seconds is not None and settings.endless_seconds:
            parts["endless"] = gr.Checkbox(
                False, label=f"Endless: until you stop it, {_minutes(settings)} at most"
            )
        parts["size"] = gr.Radio(label="Size", elem_classes="cv-size", **suited["size"])
        with gr.Accordion("Advanced", open=False):
            able = [service.models.preset(name) for name in service.models.able(mode)]
            if len(able) > 1:
                parts["model"] = gr.Dropdown(
                    [(it.title, it.name) for it in able],
                    value=preset.name,
                    label="Model",
                )
            with gr.Row(elem_classes="cv-sliders"):
                for name, info in (
                    ("steps", "per chunk"),
                    ("window", "latent frames in view"),
                    ("sink", "of those, never forgotten"),
                ):
                    parts[name] = _slider(name.capitalize(), info, **suited[name])
            self.handover = handover_choice(
                "When the prompt changes", "how new words take over while a video is made"
            )
            parts["decoder"] = gr.Radio(label="Decoder", **suited["decoder"])
            shown = {*parts, *OF_VIDEO, "seconds", "model"}
            parts |= {name: _plain(PARAMETERS[name]) for name in PARAMETERS if name not in shown}
        licence = gr.HTML(**suited.pop("licence"))
        dice.click(None, None, parts["seed"], js=RANDOM_SEED, api_visibility="private")
        self._service = service
        self._parts = parts
        self._suiting = {**{name: parts[name] for name in suited}, "licence": licence}

    @property
    def components(self) -> list[gr.components.Component]:
        return list(self._parts.values())

    @property
    def of_requests(self) -> dict[str, gr.components.Component]:
        """Those that are parameters of a request, by name."""
        return {name: part for name, part in self._parts.items() if name in PARAMETERS}

    @property
    def model(self) -> gr.components.Component | None:
        """Where the model is chosen; `None` where there is one only."""
        return self._parts.get("model")

    def suit(self, model: str) -> Updates:
        """What the inputs that depend on the model become when `model` is chosen."""
        chosen = self._suited(model)
        return {self._suiting[name]: gr.update(**chosen[name]) for name in chosen}

    def write(self, request: Request) -> Updates:
        """The inverse of `read`, for a checked request: its values in the inputs, which are made
        to suit its model.

        Raises:
            ValueError: if an input of the page cannot have a value, which the API may take.
        """
        _check_seed(request.seed)
        given, suited = request.to_parameters(), self._suited(request.model)
        endless = request.seconds == math.inf
        updates = self.suit(request.model)
        for name, part in self._parts.items():
            if name == "endless":
                updates[part] = endless
            elif name == "seconds":
                if not endless:
                    updates[part] = _length(part, request.seconds)
            elif name not in given:  # of another mode
                continue
            elif name not in suited:
                updates[part] = given[name]
            elif given[name] is not None:
                _check_offered(name, given[name], suited[name])
                updates[part] = gr.update(**suited[name] | {"value": given[name]})
        return updates

    def _suited(self, model: str) -> dict[str, dict[str, Any]]:
        settings = self._service.settings
        return _suited(self._service.models.preset(model), settings.tiny_decoder)

    def __getitem__(self, name: str) -> gr.components.Component:
        return self._parts[name]

    def read(self, values: Mapping[gr.components.Component, Any]) -> dict[str, Any]:
        """The values of `components` as parameters of a call, see `Request.from_parameters`.

        Raises:
            ValueError: if the seed may not be the one that was typed.
        """
        given = {name: values[component] for name, component in self._parts.items()}
        _check_seed(given["seed"])
        if "seconds" in given and not given["seconds"]:  # a number that was left empty comes as 0
            given["seconds"] = None
        if given.pop("endless", False):
            given["seconds"] = 0
        return given


def _check_seed(seed: Any) -> None:
    if isinstance(seed, int | float) and seed > LARGEST_SEED:
        raise ValueError(
            f"the seed is about {seed:.4g}; on this page seeds end at {LARGEST_SEED} "
            "(2^53 - 1), as browsers round larger numbers; the API takes any up to 2^63 - 1"
        )


def _check_offered(name: str, value: Any, offer: dict[str, Any]) -> None:
    """Whether an input with this offer can have the value."""
    if "choices" in offer:
        values = [it for _, it in offer["choices"]]
        fits, offered = value in values, ", ".join(values)
    else:
        fits = offer["minimum"] <= value <= offer["maximum"]
        offered = f"{offer['minimum']} to {offer['maximum']}"
    if not fits:
        raise ValueError(f"the {name} is {value}; this page offers {offered}, the API may take it")


def _length(part: gr.components.Component, seconds: float | None) -> Any:
    """A length that was made, so many whole chunks, in an input made for whole seconds."""
    if not isinstance(part, gr.Slider) or seconds is None:
        return seconds
    return gr.update(value=seconds, minimum=min(part.minimum, seconds))


def _slider(label: str, info: str | None, **options: Any) -> gr.Slider:
    return gr.Slider(
        label=label, info=info, **{"step": 1, "buttons": [], "min_width": 120, **options}
    )


def _plain(parameter: Parameter) -> gr.components.Component:
    """An input for a parameter that has no place of its own on the page."""
    kind, values = parameter.schema["type"], parameter.schema.get("enum")
    label = parameter.name.replace("_", " ").capitalize()
    if values:
        return gr.Radio(values, value=parameter.default, label=label, info=parameter.sentence)
    component = {"boolean": gr.Checkbox, "string": gr.Textbox}.get(kind, gr.Number)
    return component(parameter.default, label=label, info=parameter.sentence)


def handover_choice(label: str, info: str | None = None) -> gr.Dropdown:
    """A list of the usual hand-overs."""
    return gr.Dropdown(
        _HANDOVERS, value="recache", label=label, info=info, filterable=False, min_width=110
    )


def size_name(size: Size) -> str:
    """Its shape in a word, and its pixels."""
    return f"{shape_name(size)} {size.width}×{size.height}"


def shape_name(size: Size) -> str:
    ratio = size.width / size.height
    if 0.85 < ratio < 1.18:
        return "Square" if 0.95 < ratio < 1.05 else "Nearly square"
    return "Landscape" if ratio > 1 else "Portrait"


def _minutes(settings) -> str:
    seconds = settings.endless_seconds
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} s"


def _suited(preset: Preset, tiny_loaded: bool) -> dict[str, dict[str, Any]]:
    """What the inputs that depend on the model offer, by name, and the notice of its licence."""
    generation, notice = preset.generation, licence_notice(preset)
    sizes = preset.sizes or (Size(generation.height, generation.width),)
    shapes = [(size_name(size), f"{size.width}x{size.height}") for size in sizes]
    decoders = [("Full", "full")]
    if preset.tiny_decoder is not None and tiny_loaded:
        decoders.append(("Tiny, faster", "tiny"))
    largest = max(generation.chunks.first, generation.chunks.rest)
    return {
        "size": {
            "choices": shapes,
            "value": shapes[0][1],
            "info": None if preset.mixed_sizes else _ONE_SHAPE.format(shape_name(sizes[0]).lower()),
            "visible": len(shapes) > 1,
        },
        "decoder": {"choices": decoders, "value": "full", "visible": len(decoders) > 1},
        "steps": {"minimum": 1, "maximum": 8, "value": len(generation.timesteps)},
        "window": {
            "minimum": min(generation.window, 2 * largest),
            "maximum": largest_window(preset),
            "value": generation.window,
        },
        "sink": {"minimum": 0, "maximum": 6, "value": generation.sink},
        "licence": {"value": notice, "visible": bool(notice)},
    }
