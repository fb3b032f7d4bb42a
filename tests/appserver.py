"""The real app on a free port, with random weights or with those of the repository."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from standin import save_standin

from causvid.catalogue import PRESETS
from causvid.serving.service import Service
from causvid.settings import Settings
from causvid.ui.server import launch, make_service


@dataclass(frozen=True)
class App:
    url: str
    service: Service


@contextmanager
def running(folder: Path, model: str = "standin", **settings) -> Iterator[App]:
    """Serve the app until the `with` statement ends; the stand-in is saved to `folder`."""
    if model == "standin":
        PRESETS[model] = save_standin(folder)
    service = make_service(Settings(model=model, device="cpu", **settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = launch(service, server_port=port, quiet=True)
    try:
        yield App(f"http://127.0.0.1:{port}", service)
    finally:
        page.close()
        service.close()
        PRESETS.pop("standin", None)
