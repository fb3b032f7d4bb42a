"""Connections: how many there may be, and how long one may take to say what it wants.

uvicorn waits for ever for the first request of a connection and for the rest of one that trickles,
and asyncio logs every connection that finds no free descriptor, thousands a second.
"""

import asyncio
import logging
import os
import resource
import time
from collections.abc import Callable
from typing import Any

import h11
import httpx
from gradio.http_server import Server as GradiosServer
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from causvid.realtime.route import MESSAGE_BYTES, PATH

ASKING = 10.0  # seconds from the first byte of a request, or from connecting, to its last header
BACKLOG = 100  # connections that asyncio accepts at once, before it lets us close any
DESCRIPTORS = 65536  # as many as the system grants, up to that
# For everything that is no connection: the libraries' files, 128 kept runs, uploads, runs.
OTHERS = 512
_SENTENCE = b"there are too many connections: try again shortly"
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nretry-after: 10\r\nconnection: close\r\n\r\n%s"
) % (len(_SENTENCE), _SENTENCE)


def raise_descriptor_limit() -> int:
    """Let the process open as many files and sockets as it may; how many these are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if most > resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def most_connections(wanted: int) -> int:
    """`wanted`, or fewer where descriptors are short."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(wanted, soft - min(OTHERS, soft // 2)))


def spare_proxies(host: str | None) -> None:
    """Ask for our own address directly, whatever proxy the environment names for others.

    Raises:
        ValueError: if there is a proxy that cannot be used for anybody.
    """
    own = ",".join(filter(None, ("localhost,127.0.0.1,::1", host)))
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), own)))
    try:
        httpx.Client().close()
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise ValueError(
            f"the proxy that the environment names (ALL_PROXY, HTTP_PROXY, …) cannot be used: "
            f"{str(error).partition('. ')[0]}; unset it, or name another"
        ) from None


class SeldomSaid(logging.Filter):
    """Lets asyncio say once a minute, in a line, that a connection found no free descriptor. It
    says so for each of them, with a traceback, thousands a second."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.getMessage().startswith("socket.accept() out of system resource"):
            return True
        record.msg, record.args = "no descriptor is free: new connections wait", ()
        record.exc_info = record.exc_text = None
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + 60
        return True


_SELDOM = SeldomSaid()


class Connection(H11Protocol):
    """A connection that has a limited time to ask for something, at first and after each answer.

    At the limit of connections, the one that has been asking for longest makes room for a new one,
    so that idle ones keep nobody out.
    """

    most: int
    asking: dict["Connection", asyncio.TimerHandle]  # the oldest first; of one server

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most or self._descriptors_run_out():
            if self.asking:
                next(iter(self.asking))._give_up()
            else:
                transport.write(FULL)
                transport.close()
                return
        self._asks()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._has_asked()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and self.cycle.response_complete:
            self._asks()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_asked()
        super().connection_lost(exc)

    def _should_upgrade_to_ws(self) -> bool:
        return self.scope["path"] == PATH

    def _unsupported_upgrade_warning(self) -> None:
        """Anybody can ask for a WebSocket, which is answered as if it were not asked for where
        there is none."""

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._has_asked()
        super().handle_websocket_upgrade(event)

    def _asks(self) -> None:
        self._has_asked()
        self.asking[self] = self.loop.call_later(ASKING, self._give_up)

    def _has_asked(self) -> None:
        if (timer := self.asking.pop(self, None)) is not None:
            timer.cancel()

    def _give_up(self) -> None:
        self._has_asked()
        self.transport.abort()
        self.connections.discard(self)  # at once, as others count them before the loop comes by

    def _descriptors_run_out(self) -> bool:
        """The lowest free number is given: a high one says how many are taken."""
        socket = self.transport.get_extra_info("socket")
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return socket is not None and socket.fileno() >= soft - min(64, soft // 8)


def serving(front: Callable[[ASGIApp], ASGIApp], connections: int) -> type:
    """Gradio's server, with `front` before the app and such connections."""

    class Server(GradiosServer):
        def __init__(self, config: Any, *args: Any, **options: Any):
            limits = {"most": most_connections(connections), "asking": {}}
            config.http = type("Connection", (Connection,), limits)
            config.ws = WebSocketsSansIOProtocol
            config.ws_max_size = MESSAGE_BYTES
            config.ws_per_message_deflate = False  # video is compressed
            config.backlog = BACKLOG
            logging.getLogger("asyncio").addFilter(_SELDOM)
            config.proxy_headers = False  # `Gate` reads them, if they can be believed
            config.app = front(config.app)
            super().__init__(config, *args, **options)

    return Server
