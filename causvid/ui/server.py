"""From settings to a running server: models, device, service, page."""

import logging
import os
import sys

import gradio as gr
from starlette.responses import JSONResponse
from starlette.routing import Route

from causvid.serving.device import Device, SharedDevice
from causvid.serving.models import Models
from causvid.serving.service import Service
from causvid.settings import Settings
from causvid.ui.page import build_page
from causvid.ui.stage import static


def make_service(settings: Settings) -> Service:
    """Load the first model and set up the device.

    Raises:
        ValueError: if the model cannot be had.
    """
    models = Models(settings)
    models.load_first()
    device: Device = SharedDevice(
        models.open, viewers=settings.viewers, waiting=settings.waiting, lead=settings.lead
    )
    return Service(settings, models, device)


def launch(service: Service, **options) -> gr.Blocks:
    """Serve the page; `options` go to Gradio's `launch`."""

    def health(_) -> JSONResponse:
        return JSONResponse({"status": "ready" if service.models.ready else "loading"})

    page = build_page(service)
    page.launch(
        css=static("style.css"),
        theme=gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", radius_size="lg"),
        footer_links=["api", "settings"],
        max_file_size=service.settings.upload_mb * 10**6,
        mcp_server=service.settings.mcp,
        ssr_mode=False,
        run_history=False,
        app_kwargs={"routes": [Route("/healthz", health)]},
        **options,
    )
    return page


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    for noisy in ("httpx", "diffusers", "transformers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        service = make_service(Settings.from_environment())
    except ValueError as error:
        sys.exit(f"app.py: {error}")
    launch(service, server_name=os.environ.get("GRADIO_SERVER_NAME"))
