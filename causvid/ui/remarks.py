"""Words that a model of few words does not know are pointed out, wherever a prompt is written."""

from typing import Any

import gradio as gr

from causvid.serving.service import Service

_MOST_NAMED = 8


def remark_on(service: Service, model: str, text: str) -> str:
    """A sentence on the words that `model` cannot know; empty if it knows all."""
    unknown = service.models.unknown_words(model, text or "")
    if not unknown:
        return ""
    words = ", ".join(f"“{word}”" for word in unknown[:_MOST_NAMED])
    more = " and more" if len(unknown) > _MOST_NAMED else ""
    verb = "is not a word" if len(unknown) == 1 else "are not words"
    return f"{words}{more} {verb} that this small model knows; it will make of it what it can."


class Remark:
    """Shows the remark below the place where it is made."""

    def __init__(self, service: Service):
        self._service = service
        self._line = gr.Markdown(visible=False, elem_classes="cv-remark")

    def follow(self, prompt: gr.Textbox, model: gr.components.Component | None) -> None:
        """On what is written in `prompt`, for the model named by `model`, or the only one."""
        watched = [prompt] if model is None else [prompt, model]
        gr.on(
            [component.change for component in watched],
            self._show,
            watched,
            self._line,
            queue=False,
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
        )

    def _show(self, text: str, model: str | None = None) -> Any:
        sentence = remark_on(self._service, model or self._service.settings.model, text)
        return gr.Markdown(sentence, visible=bool(sentence))
