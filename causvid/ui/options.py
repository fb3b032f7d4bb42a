"""Length, seed and the advanced settings: the inputs that every tab has."""

from typing import Any

import gradio as gr

from causvid.catalogue import Preset, Size
from causvid.serving.service import Service
from causvid.ui.reading import Choices
from causvid.ui.stage import static_path

RANDOM_SEED = "() => Math.floor(Math.random() * 2 ** 31)"


class Options:
    """Builds its components where it is made; `read` turns their values into `Choices`.

    Args:
        service: for the models and limits.
        seconds: the default length; `None` where the source decides.
    """

    def __init__(self, service: Service, seconds: float | None):
        settings, preset = service.settings, service.models.preset(service.settings.model)
        generation = preset.generation
        parts: dict[str, gr.components.Component] = {}
        with gr.Row(equal_height=True, elem_classes="cv-line"):
            if seconds is not None:
                shortest = min(2, settings.max_seconds)
                parts["seconds"] = gr.Slider(
                    shortest, settings.max_seconds, seconds, step=1, label="Seconds", min_width=180
                )
            parts["seed"] = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=100)
            dice = gr.Button(
                "Roll", icon=static_path("dice.svg"), min_width=80, scale=0, elem_classes="cv-dice"
            )
        if seconds is not None and settings.endless_seconds:
            parts["endless"] = gr.Checkbox(
                False, label="Endless", info=f"until you stop it, {_minutes(settings)} at most"
            )
        with gr.Accordion("Advanced", open=False):
            if len(service.models.presets) > 1:
                parts["model"] = gr.Dropdown(
                    [(it.title, it.name) for it in service.models.presets.values()],
                    value=preset.name,
                    label="Model",
                )
            with gr.Row():
                parts["size"] = gr.Dropdown(_size_choices(preset), label="Size", min_width=150)
                parts["decoder"] = gr.Dropdown(
                    _decoder_choices(preset, settings.tiny_decoder), label="Decoder", min_width=150
                )
            with gr.Row():
                parts["steps"] = gr.Slider(
                    1, 8, len(generation.timesteps), step=1, label="Steps", min_width=120
                )
                parts["window"] = gr.Slider(
                    *_window_range(preset), generation.window, step=1, label="Window", min_width=120
                )
                parts["sink"] = gr.Slider(
                    0, 6, generation.sink, step=1, label="Sink", min_width=120
                )
            gr.Markdown(
                "Steps per chunk; latent frames in view, and those of them that are never "
                "forgotten.",
                elem_classes="cv-note",
            )
        dice.click(None, None, parts["seed"], js=RANDOM_SEED, api_visibility="private")
        if "model" in parts:
            parts["model"].change(
                lambda name: _of_model(service, name),
                parts["model"],
                [parts[part] for part in ("size", "decoder", "steps", "window", "sink")],
                queue=False,
                show_progress="hidden",
                api_visibility="private",
            )
        self._names = list(parts)
        self._parts = parts

    @property
    def components(self) -> list[gr.components.Component]:
        return list(self._parts.values())

    def __getitem__(self, name: str) -> gr.components.Component:
        return self._parts[name]

    def read(self, values: list[Any], **more: Any) -> Choices:
        """Values of `components`, in their order."""
        given = dict(zip(self._names, values, strict=True))
        if given.pop("endless", False):
            given["seconds"] = 0
        given.setdefault("seconds", None)
        return Choices(**given, **more)


def size_name(size: Size) -> str:
    if size.width == size.height or 0.9 < size.width / size.height < 1.1:
        shape = "Square"
    else:
        shape = "Landscape" if size.width > size.height else "Portrait"
    return f"{shape}, {size.width} × {size.height}"


def _minutes(settings) -> str:
    seconds = settings.endless_seconds
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} s"


def _size_choices(preset: Preset) -> list[tuple[str, str]]:
    generation = preset.generation
    sizes = preset.sizes or (Size(generation.height, generation.width),)
    return [(size_name(size), f"{size.width}x{size.height}") for size in sizes]


def _decoder_choices(preset: Preset, tiny_loaded: bool) -> list[tuple[str, str]]:
    choices = [("Full", "full")]
    if preset.tiny_decoder is not None and tiny_loaded:
        choices.append(("Tiny, faster", "tiny"))
    return choices


def _window_range(preset: Preset) -> tuple[int, int]:
    generation = preset.generation
    largest = max(generation.chunks.first, generation.chunks.rest)
    return min(generation.window, 2 * largest), max(21, generation.window)


def _of_model(service: Service, name: str) -> list[Any]:
    """What the advanced settings become when another model is chosen."""
    preset = service.models.preset(name)
    generation = preset.generation
    sizes = _size_choices(preset)
    decoders = _decoder_choices(preset, service.settings.tiny_decoder)
    low, high = _window_range(preset)
    return [
        gr.Dropdown(sizes, value=sizes[0][1]),
        gr.Dropdown(decoders, value="full"),
        gr.Slider(value=len(generation.timesteps)),
        gr.Slider(low, high, value=generation.window),
        gr.Slider(value=generation.sink),
    ]
