"""One page and the API's endpoints, in Gradio. No other wing imports Gradio."""

from typing import Any

import gradio.component_meta

# Gradio writes a stub beside every module that defines a component, into the installed package.
gradio.component_meta.create_or_modify_pyi = lambda *_: None

PRIVATE: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": None,
    "queue": False,
}
"""Options of an event that belongs to the page and not to the API, and is answered at once.

Gradio's front end can lose a click on Generate that comes while it closes the stream of another
event's answers, so an event has such a stream only where it must.
"""

STREAMED = {**PRIVATE, "queue": True}
"""Options of those events of the page that are answered more than once, or may be refused."""
