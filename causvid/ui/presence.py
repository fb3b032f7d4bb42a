"""Runs are ended when nobody listens to them any more.

What a run yields travels down an event stream: one for all calls of a client (`/queue/data`), or
one for a single call over plain HTTP (`/call/NAME/EVENT`). Gradio closes a generator whose stream
was dropped, but at its next yield only, and waits for ever for a stream that nobody opens.
`Presence` counts streams as they open and close, and calls back when a run's last one is gone.

It knows the addresses of Gradio's streams, and nothing of runs. Everything happens on the
server's event loop.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs

from gradio.context import LocalContext
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATIENCE = 5.0  # seconds without a listener, before the first and between two of one client
LOST = 8.0  # seconds without an answer from the other end of a connection


def listeners() -> frozenset[str]:
    """The streams of the event that is being handled, by session and by event."""
    request, event = LocalContext.request.get(None), LocalContext.event_id.get(None)
    return frozenset(filter(None, (getattr(request, "session_hash", None), event)))


class Presence:
    """Counts event streams by session, or by event for those of a single call."""

    def __init__(self, patience: float = PATIENCE):
        self.patience = patience
        self._open: Counter[str] = Counter()
        self._watches: set[_Watch] = set()
        self._followers: list[Callable[[str, bool], None]] = []

    def listens(self, name: str) -> bool:
        """Whether a stream of that name is open."""
        return name in self._open

    def follow(self, changed: Callable[[str, bool], None]) -> None:
        """Call `changed` with each name whose first stream is opened or whose last one is gone."""
        self._followers.append(changed)

    @contextmanager
    def expects(
        self,
        names: Iterable[str],
        gone: Callable[[], None],
        *,
        dropped: Callable[[], None] | None = None,
    ) -> Iterator[None]:
        """Inside, call `gone` as soon as no stream of these names is open.

        After a dropped stream that is at once, and `dropped` is called if there is one. For a
        stream that ended in order, or is not open yet, another is waited for.
        """
        watch = _Watch(frozenset(names), gone, dropped or gone)
        self._watches.add(watch)
        try:
            self._update(watch, dropped=False)
            yield
        finally:
            watch.cancel_timer()
            self._watches.discard(watch)

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """The app, with its event streams counted."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            name = _stream_name(scope)
            if name is None:
                await app(scope, receive, send)
                return
            complete = closed = False

            async def watched_send(message: Message) -> None:
                nonlocal complete
                await send(message)
                complete = message["type"] == "http.response.body" and not message.get("more_body")

            async def watched_receive() -> Message:
                message = await receive()
                if message["type"] == "http.disconnect":  # before Gradio closes what it carried
                    close()
                return message

            def close() -> None:
                nonlocal closed
                if not closed:
                    closed = True
                    self._change(name, -1, dropped=not complete)

            self._change(name, +1)
            try:
                await app(scope, watched_receive, watched_send)
            finally:
                close()

        return counted

    def _change(self, name: str, by: int, *, dropped: bool = False) -> None:
        before = self._open[name]
        self._open[name] += by
        if not self._open[name]:
            del self._open[name]
        if self.listens(name) != bool(before):
            for changed in self._followers:
                changed(name, not before)
        for watch in [watch for watch in self._watches if name in watch.names]:
            self._update(watch, dropped=dropped)

    def _update(self, watch: "_Watch", *, dropped: bool) -> None:
        watch.cancel_timer()
        if any(name in self._open for name in watch.names):
            return
        if dropped:
            watch.dropped()
        else:
            loop = asyncio.get_running_loop()
            watch.timer = loop.call_later(self.patience, watch.gone)


class _Watch:
    def __init__(
        self, names: frozenset[str], gone: Callable[[], None], dropped: Callable[[], None]
    ):
        self.names, self.gone, self.dropped = names, gone, dropped
        self.timer: asyncio.TimerHandle | None = None

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def heartbeat_of(session: str) -> str:
    """The name of the stream that a browser's page keeps open, whatever it does."""
    return f"heartbeat/{session}"


def _stream_name(scope: Scope) -> str | None:
    """What a request wants to listen to, by session or event; `None` for other requests."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    path = scope["path"].rstrip("/")
    if path.endswith("/queue/data"):
        return parse_qs(scope["query_string"].decode()).get("session_hash", [None])[0]
    parts = path.split("/")
    if parts[-2:-1] == ["heartbeat"]:
        return heartbeat_of(parts[-1])
    if len(parts) > 3 and "call" in parts[-4:-2]:  # /call/NAME/EVENT, /call/v2/NAME/EVENT
        return parts[-1]
    return None


def notice_lost_networks(sockets: Iterable[socket.socket], seconds: float = LOST) -> None:
    """End connections whose other end has not answered for so long.

    A lost network closes nothing: the kernel would go on sending for a quarter of an hour.
    Connections inherit these options from the socket that accepts them.
    """
    for listening in sockets:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # while nothing is sent
        for option, value in (
            ("TCP_KEEPIDLE", max(1, round(seconds / 2))),
            ("TCP_KEEPINTVL", 1),
            ("TCP_KEEPCNT", max(1, round(seconds / 2))),
            ("TCP_USER_TIMEOUT", round(seconds * 1000)),  # while something is
        ):
            if hasattr(socket, option):  # not on every system
                listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
