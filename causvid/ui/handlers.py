"""What the page's buttons do: from a click to a run, and from a run to the player."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any
from weakref import WeakValueDictionary

import gradio as gr

from causvid.serving.job import Change
from causvid.serving.request import Request
from causvid.serving.run import Run, RunError
from causvid.serving.service import Service
from causvid.ui.bodies import BROKE
from causvid.ui.links import link_of
from causvid.ui.playback import Message, Playback, Screen, address_of
from causvid.ui.player import PlayerColumn, Updates
from causvid.ui.presence import Presence, listeners
from causvid.ui.quota import caller
from causvid.ui.showing import Showing

log = logging.getLogger("causvid.runs")

Read = Callable[..., Awaitable[tuple[Request, dict[str, Any]]]]
"""A tab's values → request and inputs."""


@contextmanager
def explained(run: str | None = None) -> Iterator[None]:
    """Turn what goes wrong inside into a `gr.Error` without a traceback.

    Args:
        run: id of the run that is being served, if there is one yet.
    """
    try:
        yield
    except gr.Error:
        raise
    except (ValueError, RunError) as error:
        raise gr.Error(without_long_numbers(str(error)), print_exception=False) from None
    except Exception:
        name = f"run {run}" if run else f"call {secrets.token_urlsafe(9)}"
        log.exception("%s failed", name)
        raise gr.Error(f"{BROKE}; if you report it, name {name}", print_exception=False) from None


def without_long_numbers(sentence: str) -> str:
    """What somebody sent is not to take a sentence's place."""
    return re.sub(r"([0-9]{20})[0-9]{20,}", r"\1…", sentence)


class Handlers:
    """The events of all browsers. A new run of the same browser tab stops the one before.

    Args:
        service: carries the runs.
        column: the player and its controls.
        presence: tells which browsers are there.
    """

    def __init__(self, service: Service, column: PlayerColumn, presence: Presence):
        self._service = service
        self._column = column
        self._presence = presence
        # Session → run whose video its player has, for as long as anybody else holds the run.
        self._shown: WeakValueDictionary[str, Run] = WeakValueDictionary()
        self._showings: dict[str, Showing] = {}  # by claim; those of forgotten runs are dropped

    def generate(
        self, read: Read, screen: gr.components.Component
    ) -> Callable[..., AsyncIterator[Updates]]:
        """The handler of a tab's button, whose inputs are a set; `screen` has a `Screen`."""

        async def generate(values: dict[gr.components.Component, Any], request: gr.Request):
            async def start() -> Run:
                asked, inputs = await read(values)
                self.stop(request)
                return self._service.start(
                    asked, owner=request.session_hash, client=caller(), watched=True, **inputs
                )

            async for updates in self._play(request, start, values[screen]):
                yield updates

        return generate

    async def extend(
        self,
        request: gr.Request,
        screen: dict[str, bool],
        seconds: float,
        prompt: str | None = None,
        handover: str = "recache",
    ) -> AsyncIterator[Updates]:
        """Go on from where the last run ended, with another prompt if one is given."""
        before = self._shown.get(request.session_hash)

        async def start() -> Run:
            return self._service.extend(
                self._run_of(request),
                seconds,
                prompt=prompt,
                handover=handover,
                owner=request.session_hash,
                client=caller(),
                watched=True,
            )

        continues = None if before is None else before.id
        async for updates in self._play(request, start, screen, continues=continues):
            yield updates

    async def extend_kept(
        self, request: gr.Request, event: gr.EventData, screen: dict[str, bool], seconds: float
    ) -> AsyncIterator[Updates]:
        """Go on from where a run of *My runs* ended, which this page may not have seen."""

        async def start() -> Run:
            self.stop(request)
            return self._service.extend(
                _run_in(event),
                seconds,
                owner=request.session_hash,
                client=caller(),
                watched=True,
            )

        async for updates in self._play(request, start, screen):
            yield updates

    def steer(self, request: gr.Request, prompt: str, handover: str) -> None:
        """Change the prompt of the run that is shown."""
        with explained():
            self._service.steer(self._run_of(request), Change(prompt, handover))

    def animate(self, suffix: str) -> Callable[..., Awaitable[Message]]:
        """The handler that downloads the video that is shown as a WebP or a GIF."""

        async def animate(request: gr.Request) -> Message:
            with explained():
                path = await self._service.animation(self._run_of(request), suffix)
            return {"kind": "file", "url": address_of(path), "name": path.name, "at": time.time()}

        return animate

    def stop(self, request: gr.Request) -> None:
        """End the run that is shown; what was made stays."""
        if (run := self._shown.get(request.session_hash)) is not None:
            self._service.stop(run.id)

    def adopt(self, request: gr.Request, event: gr.EventData) -> Updates:
        """A run of this page's camera, which came through the socket, is the one that is shown."""
        with explained():
            run = self._service.find(_run_in(event))
        if self._shown.get(request.session_hash) is not run:
            self.stop(request)
        self._shown[request.session_hash] = run
        return self._column.began(run.job.request.model)

    async def keep(self, request: gr.Request, event: gr.EventData) -> Updates:
        """Such a run has ended: what it left can be fetched, and not gone on from without it."""
        shown, results = self._shown.get(request.session_hash), None
        if shown is None or shown.id != _run_in(event):
            return {}
        with explained(shown.id):
            if shown.ended is not None:
                results = await asyncio.to_thread(shown.save)
        if results is None:
            return self._column.ended()
        kept = {"kind": "kept", "run": shown.id, "url": address_of(results.video)}
        kept["link"] = link_of(results.manifest.request)
        return {**self._column.ended(results), self._column.player: kept}

    async def take_up(self, request: gr.Request, told: Any) -> AsyncIterator[Updates]:
        """Go on with showing the run of a page that lost its connection, and was loaded again.

        Args:
            told: `claim` of the run, and `shown`, the chunk whose pictures were seen last.
        """
        told = told if isinstance(told, dict) else {}
        claim, shown = told.get("claim"), told.get("shown")
        showing = self._showings.get(claim) if isinstance(claim, str) else None
        if showing is None or not self._service.holds(showing.run.id):
            lost = "The connection was lost, and nothing is left of the video."
            yield {self._column.player: {"kind": "error", "text": lost, "claim": None}}
            return
        self._shown[request.session_hash] = showing.run
        showing.run.owner = request.session_hash
        seen = shown if isinstance(shown, int) else 0
        async for updates in self._follow(request, showing, showing.messages_again(seen)):
            yield updates

    def leave(self, claim: str) -> None:
        """A page is closed: end all runs of its session, of which it shows the one claimed."""
        if (showing := self._showings.pop(claim, None)) is not None:
            self._service.leave(showing.run.owner)

    def lose(self, request: gr.Request) -> None:
        """Forget what a browser shows that is gone; its run may be taken up by its claim."""
        self._shown.pop(request.session_hash, None)

    async def _play(
        self,
        request: gr.Request,
        start: Callable[[], Awaitable[Run]],
        screen: dict[str, bool],
        continues: str | None = None,
    ) -> AsyncIterator[Updates]:
        """A run in the player, from its start to its results."""
        try:
            with explained():
                run = await start()
        except gr.Error as error:
            yield {self._column.player: {"kind": "error", "text": error.message}}
            raise
        playback = Playback(run, Screen(**screen), continues=continues)
        showing = Showing(playback, self._service.settings.lost_seconds)
        self._showings = {
            claim: it for claim, it in self._showings.items() if self._service.holds(it.run.id)
        }
        self._showings[showing.claim] = showing
        self._shown[request.session_hash] = run
        async for updates in self._follow(request, showing, showing.messages()):
            yield updates

    async def _follow(
        self, request: gr.Request, showing: Showing, messages: AsyncGenerator[Message, None]
    ) -> AsyncIterator[Updates]:
        """A run in the player, for as long as it is shown by this browser."""
        column, run, playback = self._column, showing.run, showing.playback
        watched = self._presence.expects(listeners(), run.cancel, dropped=showing.lose)
        try:
            with explained(run.id), showing.followed(), watched:
                yield column.began(run.job.request.model)
                async with aclosing(messages):
                    async for message in messages:
                        yield {column.player: message}
            if self._shown.get(request.session_hash) is not run:
                return  # the player shows a newer run, whose buttons these are now
            ended = run.ended
            yield column.ended(playback.results, bool(ended and ended.continuable))
        except gr.Error as error:
            yield {
                **column.ended(playback.results),
                column.player: {"kind": "error", "text": error.message},
            }
            raise

    def _run_of(self, request: gr.Request) -> str:
        if (run := self._shown.get(request.session_hash)) is None:
            raise ValueError("there is no video to go on with: generate one first")
        return run.id


def _run_in(event: gr.EventData) -> str:
    try:
        return str(event.run)
    except (AttributeError, TypeError, KeyError):  # not of our page
        return ""
