"""A run in the player of a page that may lose its connection, and take the run up again.

A network that blinks closes the page's event stream, as a closed page does. The run stays for
`wait` seconds: its device goes on until some chunks are unread, and the newest messages are kept.
Who has the claim, which only the page was told, may follow again from where its picture stood.
After that time the run is stopped, and what was made is kept like that of any other.
"""

import asyncio
import math
import secrets
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from causvid.ui.playback import Message, Playback, address_of
from causvid.ui.relay import Relay

KEPT = 40  # messages: half a minute of chunks of 12 pictures


class Showing:
    """Made where an event loop runs.

    Args:
        playback: of the run.
        wait: seconds that a lost page has to come back.

    Attributes:
        claim: the secret by which its page takes the run up again.
    """

    def __init__(self, playback: Playback, wait: float):
        self.playback, self.run = playback, playback.run
        self.claim = secrets.token_urlsafe(18)
        self._wait = wait
        self._opening: Message | None = None
        self._infos: list[dict[str, Any]] = []
        self._text, self._link = "", ""  # how it ended, and its request
        self._timer: asyncio.TimerHandle | None = None
        self._relay = Relay(self._noted(), keep=KEPT)

    @property
    def over(self) -> bool:
        return self._relay.over

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Inside, somebody watches; whoever leaves it but by `lose` cancels the run."""
        if self._timer is not None:
            self._timer.cancel()
        with self._relay.followed():
            yield

    def messages(self) -> AsyncGenerator[Message, None]:
        """For the page that began the run.

        Raises:
            ValueError, RunError: as `Playback.messages`.
        """
        return self._relay.items()

    async def messages_again(self, shown: int) -> AsyncGenerator[Message, None]:
        """For the page that lost it, from the chunk on whose pictures it showed last.

        Raises:
            ValueError, RunError: as `Playback.messages`.
        """
        if self.over and self.playback.results is not None:
            yield self._clip()
            return

        def unseen(message: Message) -> bool:
            return message["kind"] == "chunk" and message["info"]["index"] >= shown

        start = 0
        if self._opening is not None:
            start, first = self._relay.find(unseen)
            after = first["info"]["index"] if first else math.inf
            before = [info for info in self._infos if info["index"] < after]
            yield {**self._opening, "continues": None, "before": before}
        async with aclosing(self._relay.items(start)) as messages:
            async for message in messages:
                yield message

    def lose(self) -> None:
        """The connection is lost; the page may come back."""
        self._relay.release()
        if not self.over:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._wait, self._give_up)

    def _give_up(self) -> None:
        if not self._infos:
            self.run.cancel()
            return
        self._text = f"The connection was lost for {self._wait:g} s. "
        self.run.ticket.stop()
        self._relay.drain()

    async def _noted(self) -> AsyncGenerator[Message, None]:
        async with aclosing(self.playback.messages()) as messages:
            async for message in messages:
                if message["kind"] == "open":
                    message = self._opening = {**message, "claim": self.claim}
                elif message["kind"] == "chunk":
                    self._infos.append(message["info"])
                elif message["kind"] == "end":
                    self._text += message["text"]
                    self._link = message["link"]
                yield message

    def _clip(self) -> Message:
        """The whole video as a file, when it has ended."""
        assert self.playback.results is not None
        height, width = self.run.job.request.size
        return {
            "kind": "clip",
            "url": address_of(self.playback.results.video),
            "link": self._link,
            "fps": self.run.fps,
            "width": width,
            "height": height,
            "text": self._text,
        }
