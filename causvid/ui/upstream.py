"""Gradio's queue, without what ends it and without what cuts viewers off.

Gradio 6.31 keeps the messages of the newest 2,000 sessions, listened to or not, so that calls of
strangers cut a live viewer's stream; what nobody fetches is never dropped; and its loop ends for
good at the first message to a session that it has just forgotten. gradio-app/gradio#13156 and
#11497 mended parts of it. `tests/ui/test_upstream.py` says when this can go.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from typing import Any

import gradio.queueing
import gradio.route_utils
import gradio.routes

from causvid.ui.presence import Presence, heartbeat_of

UNHEARD = 60.0  # seconds that messages wait for somebody to listen
MOST_UNHEARD = 2000  # sessions that nobody listens to

log = logging.getLogger("causvid.server")


class Reported:
    """In place of `traceback` in Gradio's modules: what they would print goes to our log, which may
    withhold what a viewer wrote."""

    @staticmethod
    def print_exc(*_: Any) -> None:
        log.exception("Gradio could not answer a call")


for _module in (gradio.queueing, gradio.routes, gradio.route_utils):
    _module.traceback = Reported


class Mailboxes(dict[str, asyncio.Queue]):
    """Messages by session: kept while somebody listens, and for a while before that.

    Those of a page are kept for a while afterwards, too: Gradio's client opens a stream for each
    answer to `queue/join`, also for one that comes late, when an earlier stream has brought all.

    What is sent to a session that is gone is lost, and nobody's error.
    """

    def __init__(self, queue: "LastingQueue", presence: Presence):
        super().__init__()
        self._queue = queue
        self._presence = presence
        self._unheard: OrderedDict[str, float] = OrderedDict()  # session → since when
        presence.follow(self._heard)

    def __missing__(self, session: str) -> asyncio.Queue:
        return asyncio.Queue()

    def __delitem__(self, session: str) -> None:
        self.pop(session, None)

    def __setitem__(self, session: str, messages: asyncio.Queue) -> None:
        super().__setitem__(session, messages)
        if not self._presence.listens(session):
            self._wait(session)

    def renew(self, session: str | None) -> None:
        """Count the time without a listener from now on."""
        if session is not None and session in self._unheard:
            self._wait(session)

    def sweep(self, patience: float = UNHEARD) -> None:
        """Drop what nobody has listened to for `patience` seconds."""
        now = time.monotonic()
        while self._unheard and (
            now - next(iter(self._unheard.values())) >= patience
            or len(self._unheard) > MOST_UNHEARD
        ):
            self._drop(next(iter(self._unheard)))

    def _wait(self, session: str) -> None:
        self._unheard[session] = time.monotonic()
        self._unheard.move_to_end(session)
        self.sweep()

    def _heard(self, session: str, listened: bool) -> None:
        """Somebody began to listen, or the last one ceased to."""
        if listened:
            self._unheard.pop(session, None)
        elif session in self or session in self._queue.pending_event_ids_session:
            if self._queue.pending_event_ids_session.get(session) or self._has_page(session):
                self._wait(session)  # an event that came meanwhile, or one that was dropped
            else:
                self._drop(session)

    def _drop(self, session: str) -> None:
        self._unheard.pop(session, None)
        self.pop(session, None)
        events = self._queue.pending_event_ids_session.pop(session, set())
        for job in filter(None, self._queue.active_jobs):
            for event in job:
                event.alive = event.alive and event.session_hash != session
        for waiting in self._queue.event_queue_per_concurrency_id.values():
            waiting.queue[:] = [it for it in waiting.queue if it.session_hash != session]
        app = self._queue.server_app
        for event_id in events:
            self._queue.event_ids_to_events.pop(event_id, None)
            if app is not None:
                app.iterators_to_reset.discard(event_id)
        if app is not None and not self._has_page(session):
            app.state_holder.session_data.pop(session, None)
            app.state_holder.time_last_used.pop(session, None)

    def _has_page(self, session: str) -> bool:
        return self._presence.listens(heartbeat_of(session))


class Pending(dict[str, set[str]]):
    """Events by session; of a session that is gone, none."""

    def __missing__(self, session: str) -> set[str]:
        return set()


class LastingQueue(gradio.queueing.Queue):
    """Gradio's queue, whose loop is started again when it breaks, and whose events survive that."""

    def __init__(self, like: gradio.queueing.Queue, presence: Presence):
        super().__init__(
            live_updates=like.live_updates,
            concurrency_count=like.max_thread_count,
            update_intervals=like.update_intervals,
            max_size=like.max_size,
            blocks=like.blocks,
            default_concurrency_limit=like.default_concurrency_limit,
        )
        self.pending_messages_per_session: Any = Mailboxes(self, presence)
        self.pending_event_ids_session = Pending()
        self._closed = False
        self._loops: list[asyncio.Task] = []

    @property
    def works(self) -> bool:
        """Whether calls are carried out; also before the start, when there are none."""
        return not self.stopped and not any(loop.done() for loop in self._loops)

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        self.pending_messages_per_session.renew(body.session_hash)
        return await super().push(body, request, username)

    async def start_processing(self) -> None:
        self._closed = False
        task, sweeper = asyncio.current_task(), asyncio.create_task(self._sweep())
        assert task is not None
        self._loops = [task, sweeper]
        try:
            while not self._closed:
                try:
                    await super().start_processing()
                except Exception:
                    log.exception("Gradio's queue broke; it is started again")
                if not self._closed:
                    self.stopped = False  # before anybody else can see it
                    await asyncio.sleep(0.1)
        finally:
            self._loops = []
            sweeper.cancel()

    def close(self) -> None:
        self._closed = True
        super().close()

    def _cancel_asyncio_tasks(self) -> None:
        if self._closed:
            super()._cancel_asyncio_tasks()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(UNHEARD / 4)
            self.pending_messages_per_session.sweep()
