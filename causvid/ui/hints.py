"""Hints for prompts: examples that suit a model, and words that it does not know."""

import html
from collections.abc import Mapping
from typing import Any, Literal

import gradio as gr

from causvid.generation.parameters import Mode
from causvid.serving.service import Service
from causvid.serving.words import known_words, nearest_words, remark, replaced
from causvid.ui import PRIVATE

_CLICKED = """element.addEventListener('click', ({ target }) => {
  const { word, near } = target.dataset;
  if (near) trigger('replace', { word, near });
})"""
Kind = Literal["words", "given", "any"]
"""Models of a small world know few words, to draw from or for what they are given to start from;
the others, any."""

PROMPTS: dict[Kind, tuple[str, ...]] = {
    "given": ("it is still", "night falls", "at sunset", "it snows", "the camera pans right"),
    "words": (
        "a red car drives right in the desert at sunset",
        "a yellow balloon rises over the sea by day",
        "a blue boat sails left on the sea at night",
        "a green bird flies over the meadow in the rain",
        "a purple rocket takes off in the snow at night",
    ),
    "any": (
        "A red fox trots through fresh snow in a birch forest, low winter sun, handheld camera",
        "Waves break against a lighthouse at dusk, long lens, spray in the wind",
        "A street market at night in the rain, neon reflections, people with umbrellas",
    ),
}
STORIES: dict[Kind, dict[str, str]] = {
    "given": {},  # they make no videos from words alone
    "words": {
        "A day passes": """\
0s: a red car drives right in the desert by day
4s [recache]: a red car drives right in the desert at sunset
8s [recache]: a red car drives right in the desert at night
""",
        "Weather turns": """\
0s: a blue boat is still on the sea by day under a clear sky
4s [blend:2]: a blue boat is still on the sea by day in the rain
8s [recache]: a blue boat is still on the sea at sunset under a clear sky
""",
        "Another place": """\
0s: a green balloon hovers over the meadow by day
4s [flush]: a green balloon hovers in the snow by day
8s [flush]: a green balloon hovers over the sea at night
""",
    },
    "any": {
        "A walk into the night": """\
0s: A woman in a red coat walks through a sunlit park, tracking shot
4s [recache]: The woman in the red coat walks through the park at dusk, lamps light up
8s [recache]: The woman in the red coat walks through the park at night in light rain
""",
        "Under water": """\
0s: A small sailing boat on a calm blue sea, aerial view
4s [blend:2]: The camera dives below the surface, sun rays under water
8s [recache]: A coral reef with bright fish, slow camera
""",
    },
}


def kind_of(service: Service, model: str) -> Kind:
    preset = service.models.preset(model)
    if not known_words(preset):
        return "any"
    return "words" if "text" in preset.modes else "given"


class Chips:
    """A row of buttons for every kind of model that has a mode; the chosen one's is in sight.

    Args:
        named: by kind, the names on the buttons.
        mode: what is to be made.

    Attributes:
        buttons: by kind and name.
        rows: by kind.
    """

    def __init__(self, service: Service, named: Mapping[Kind, Any], mode: Mode):
        self._service = service
        kinds = [kind_of(service, model) for model in service.models.able(mode)]
        first = kind_of(service, service.settings.model_for(mode))
        self.buttons: dict[tuple[Kind, str], gr.Button] = {}
        self.rows: dict[Kind, gr.Row] = {}
        for kind in dict.fromkeys(kinds):
            with gr.Row(visible=kind == first, elem_classes="cv-chips") as self.rows[kind]:
                for name in named[kind]:
                    self.buttons[kind, name] = gr.Button(
                        name, size="sm", min_width=0, scale=0, elem_classes="cv-chip"
                    )

    def suit(self, model: str) -> dict[gr.blocks.Block, Any]:
        """Updates of `rows` when `model` is chosen."""
        chosen = kind_of(self._service, model)
        return {row: gr.Row(visible=kind == chosen) for kind, row in self.rows.items()}


def remark_on(service: Service, model: str, text: str) -> str:
    """A sentence on the words that `model` cannot know; empty if it knows all."""
    return remark(service.models.preset(model), text or "")


class Remark:
    """A line, where it is built, for words of a prompt that the model does not know."""

    def __init__(self, service: Service):
        self._service = service
        self._line = gr.HTML(
            visible=False,
            js_on_load=_CLICKED,
            apply_default_css=False,
            elem_classes="cv-words",
            padding=False,
        )

    def show_for(self, prompt: gr.Textbox, model: gr.components.Component | None) -> None:
        """Remark on the text of `prompt`, for the model named by `model`, or the only one."""
        inputs = [prompt] if model is None else [prompt, model]
        gr.on(
            [component.change for component in inputs],
            self._show,
            inputs,
            self._line,
            trigger_mode="always_last",
            **PRIVATE,
        )
        self._line.replace(_replace, prompt, prompt, **PRIVATE)

    def _show(self, text: str, model: str | None = None) -> Any:
        preset = self._service.models.preset(model or self._service.settings.model)
        sentence = remark(preset, text or "")
        if not sentence:
            return gr.HTML("", visible=False)
        buttons = "".join(
            f' <button type="button" data-word="{html.escape(word)}" data-near="{near}">'
            f"Use “{near}” for “{html.escape(word)}”</button>"
            for word, near in nearest_words(preset, text).items()
            if near
        )
        line = f'<p class="cv-remark" role="status">{html.escape(sentence)}{buttons}</p>'
        return gr.HTML(line, visible=True)


def _replace(prompt: str, event: gr.EventData) -> str:
    """The prompt with a known word in place of an unknown one."""
    try:
        return replaced(prompt or "", str(event.word), str(event.near))
    except (AttributeError, TypeError, KeyError):  # not of our page
        raise gr.Error("expected a word and another for it", print_exception=False) from None
