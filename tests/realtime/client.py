"""A client of the socket, as a program would write one."""

import json
from typing import Any

from websockets.sync.client import ClientConnection, connect

PATH = "/v1/realtime/video"
PATIENCE = 120  # seconds for anything that is awaited


class Client:
    """Keeps all that the server says, in order: texts as dicts, binary messages as bytes."""

    def __init__(self, url: str, **options: Any):
        address = url.replace("http", "ws", 1) + PATH
        self._opened = connect(
            address, proxy=None, compression=None, max_size=None, open_timeout=PATIENCE, **options
        )
        self.socket: ClientConnection = self._opened.__enter__()
        self.heard: list[Any] = []

    def say(self, message: Any) -> None:
        if isinstance(message, dict):
            message = json.dumps(message)
        self.socket.send(message)

    def start(self, prompt: str | None = "a red car", **parameters: Any) -> None:
        self.say({"type": "session.start", "prompt": prompt, **parameters})

    def hear(self) -> Any:
        message = self.socket.recv(timeout=PATIENCE)
        self.heard.append(json.loads(message) if isinstance(message, str) else message)
        return self.heard[-1]

    def until(self, kind: str) -> dict[str, Any]:
        """The next message of that type, and of those before it no error."""
        while True:
            message = self.hear()
            if isinstance(message, dict):
                if message["type"] == kind:
                    return message
                assert message["type"] != "error", message

    def chunk(self) -> dict[str, Any]:
        """The info of the next chunk, whose bytes are heard, too."""
        info = self.until("video.chunk")["info"]
        assert isinstance(self.hear(), bytes)
        return info

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [it for it in self.heard if isinstance(it, dict) and it["type"] == kind]

    @property
    def video(self) -> bytes:
        """The binary messages, one after the other."""
        return b"".join(it for it in self.heard if isinstance(it, bytes))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.__exit__(None, None, None)
