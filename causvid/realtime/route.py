"""The socket's route, over Starlette."""

from collections.abc import Callable

from starlette.responses import FileResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from causvid.realtime.session import Gone, Session
from causvid.realtime.upload import Receive
from causvid.resources import ROOT
from causvid.serving.limits import FRAME_BYTES
from causvid.serving.service import Service

PATH = "/v1/realtime/video"
MESSAGE_BYTES = 2 * FRAME_BYTES  # the largest message; files come in several
_IDLE = 1000  # closing code of an end in order


def realtime_route(service: Service, receive: Callable[[str | None], Receive]) -> WebSocketRoute:
    """The route.

    Args:
        receive: gives, of a client, what opens its uploads.
    """

    async def serve(socket: WebSocket) -> None:
        await socket.accept()
        client = socket.client.host if socket.client else None
        await Session(service, _Channel(socket), receive(client), client).serve()
        if socket.client_state == socket.application_state == WebSocketState.CONNECTED:
            await socket.close(_IDLE, "nothing was asked for")

    return WebSocketRoute(PATH, serve)


def example_route() -> Route:
    """What a browser is shown at the same address: a page of the socket alone."""
    return Route(PATH, lambda _: FileResponse(ROOT / "examples" / "realtime.html"))


class _Channel:
    def __init__(self, socket: WebSocket):
        self._socket = socket

    async def receive(self) -> str | bytes:
        message = await self._socket.receive()
        if message["type"] != "websocket.receive":
            raise Gone
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    async def send(self, message: str | bytes) -> None:
        try:
            if isinstance(message, str):
                await self._socket.send_text(message)
            else:
                await self._socket.send_bytes(message)
        except (WebSocketDisconnect, RuntimeError):  # it is closed, from there or from here
            raise Gone from None
