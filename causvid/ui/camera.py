"""A camera or a shared screen as a source: the buttons, whose work `static/camera.js` does.

Its pictures go through the socket (`causvid.realtime`), and chunks come back through it to the
same player; the server's handlers have no part in it.
"""

import json

import gradio as gr

from causvid.realtime.route import PATH
from causvid.ui import PRIVATE
from causvid.ui.files import static
from causvid.ui.form import Options

_PANEL = """<div class="cv-live" data-socket="{path}" hidden>
  <video muted playsinline aria-label="What the camera sees"></video>
  <p class="cv-note"><button type="button" data-stop>Stop the camera</button></p>
  <p role="status" aria-live="polite"></p>
</div>"""
_BEGIN = """(...values) => document.dispatchEvent(new CustomEvent('causvid:camera', {{ detail: {{
  kind: '{kind}', values: Object.fromEntries({names}.map((name, n) => [name, values[n]])) }} }}))"""
_CHANGE = """(...values) => document.dispatchEvent(new CustomEvent('causvid:camera-change', {{
  detail: Object.fromEntries({names}.map((name, n) => [name, values[n]])) }}))"""


class CameraButtons:
    """Buttons beside the file of *Video to video*."""

    def __init__(self) -> None:
        with gr.Row(elem_classes="cv-actions"):
            self._buttons = {
                "camera": gr.Button("Camera, live", size="md", min_width=130),
                "screen": gr.Button("Share a screen, live", size="md", min_width=130),
            }
        self.panel = gr.HTML(
            _PANEL.format(path=PATH), js_on_load=static("camera.js"), apply_default_css=False
        )

    def connect(self, prompt: gr.Textbox, options: Options) -> None:
        """A click takes the prompt and the options along; a prompt that is typed and a strength
        that is moved change a live video."""
        values = {"prompt": prompt, **options.of_requests}
        for kind, button in self._buttons.items():
            begin = _BEGIN.format(kind=kind, names=json.dumps(list(values)))
            button.click(None, list(values.values()), None, js=begin, **PRIVATE)
        strength, adaptive = options["strength"], options["adaptive_strength"]
        for moved, names in (
            (prompt.input, {"prompt": prompt}),
            (strength.input, {"strength": strength}),
            (adaptive.input, {"adaptive_strength": adaptive}),
        ):
            change = _CHANGE.format(names=json.dumps(list(names)))
            moved(None, list(names.values()), None, js=change, **PRIVATE)
