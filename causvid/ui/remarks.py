"""Words that a model of few words does not know are pointed out, wherever a prompt is written."""

from typing import Any

import gradio as gr

from causvid.serving.service import Service

_MOST_NAMED = 8


def remark_on(service: Service, text: str) -> str:
    """A sentence on the words that the model offered first cannot know; empty if it knows all."""
    unknown = service.models.unknown_words(service.settings.model, text or "")
    if not unknown:
        return ""
    words = ", ".join(f"“{word}”" for word in unknown[:_MOST_NAMED])
    more = " and more" if len(unknown) > _MOST_NAMED else ""
    verb = "is not a word" if len(unknown) == 1 else "are not words"
    return f"{words}{more} {verb} that this small model knows; it will make of it what it can."


def remark_beside(service: Service, prompt: gr.Textbox) -> None:
    """Show the remark below the place where this is called, while `prompt` is written."""
    remark = gr.Markdown(visible=False, elem_classes="cv-remark")

    def show(text: str) -> Any:
        sentence = remark_on(service, text)
        return gr.Markdown(sentence, visible=bool(sentence))

    prompt.change(
        show,
        prompt,
        remark,
        queue=False,
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )
