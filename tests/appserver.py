"""The real app on a free port, with random weights or with those of the repository."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from causvid.serving.service import Service
from causvid.serving.settings import Settings
from causvid.ui.presence import Presence
from causvid.ui.server import launch, make_service
from tests.standin import save_standin


@dataclass(frozen=True)
class App:
    url: str
    service: Service
    page: gr.Blocks

    def reaches(self, making: int, waiting: int = 0, *, seconds: float = 60) -> bool:
        """Whether within so many seconds so many runs are being made and so many wait."""
        deadline = time.monotonic() + seconds
        while self.service.device.load != (making, waiting) and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.service.device.load == (making, waiting)


@contextmanager
def running(
    folder: Path, model: str = "standin", *, presence: Presence | None = None, **settings
) -> Iterator[App]:
    """Serve the app until the `with` statement ends; the stand-in is saved to `folder`."""
    if model == "standin":
        model = str(save_standin(folder).folder)
    service = make_service(Settings(model=model, device="cpu", **settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = launch(service, presence, server_port=port)
    try:
        yield App(f"http://127.0.0.1:{port}", service, page)
    finally:
        page.close()
        service.close()
