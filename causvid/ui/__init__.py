"""One page and the API's endpoints, in Gradio. No other wing imports Gradio."""

from typing import Any

import gradio.component_meta

# Gradio writes a stub beside every module that defines a component, into the installed package.
gradio.component_meta.create_or_modify_pyi = lambda *_: None

PRIVATE: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": None,
}
"""Options of an event that belongs to the page and not to the API."""
