"""What a run yields, handed on to whoever follows it, who may be lost and come back.

A task takes the items one by one, each when the one before is followed, so a run that nobody
follows is soon made no further: its device does not go on for long without being asked. The newest
items stay for a follower who comes back. It knows nothing of what the items are.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Relay(Generic[Item]):
    """Made where an event loop runs, which from then on takes items.

        with relay.followed():
            async for item in relay.items(): …

    Whoever leaves that block before the end closes the source, unless `release` or another follower
    ended it.

    Args:
        source: what yields the items; it is closed at the end.
        keep: how many items are kept that have been followed.

    Attributes:
        over: whether the source is at its end, or closed.
    """

    def __init__(self, source: AsyncGenerator[Item, None], *, keep: int = 1):
        self.over = False
        self._source, self._keep = source, keep
        self._kept: deque[Item] = deque()
        self._end = 0  # the number of the item that comes next
        self._error: Exception | None = None
        self._follower: object | None = None
        self._draining = False
        self._changed, self._wanted = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._take())

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Inside, `items` are followed. Whoever did so before sees no more of them."""
        follower = self._follow(object())
        try:
            yield
        finally:
            if self._follower is follower:
                self._follow(None)
                if not self.over:
                    self._task.cancel()

    async def items(self, start: int = 0) -> AsyncGenerator[Item, None]:
        """Those from number `start` on that are kept, then the others as they come.

        Raises:
            Exception: as the source.
        """
        follower, number = self._follower, start
        while self._follower is follower and follower is not None:
            if number < self._end:
                number = max(number, self._end - len(self._kept))
                if self._kept:
                    number += 1
                    yield self._kept[number - 1 - self._end]
                continue
            if self.over:
                if self._error is not None:
                    raise self._error
                return
            self._wanted.set()
            self._changed.clear()
            await self._changed.wait()

    def find(self, wanted: Callable[[Item], bool]) -> tuple[int, Item | None]:
        """The first kept item that is `wanted` and its number, or that of the one to come next."""
        first = self._end - len(self._kept)
        found = (it for it in enumerate(self._kept, first) if wanted(it[1]))
        return next(found, (self._end, None))

    def release(self) -> None:
        """The follower is gone, and the source stays as it is."""
        self._follow(None)

    def drain(self) -> None:
        """Take the rest though nobody follows."""
        self._draining = True
        self._wanted.set()

    def _follow(self, follower: object | None) -> object | None:
        self._follower = follower
        if not self._draining:
            self._wanted.clear()
        self._changed.set()
        return follower

    async def _take(self) -> None:
        try:
            async with aclosing(self._source) as source:
                async for item in source:
                    self._kept.append(item)
                    self._end += 1
                    if len(self._kept) > self._keep:
                        self._kept.popleft()
                    if not self._draining:
                        self._wanted.clear()
                    self._changed.set()
                    await self._wanted.wait()
        except Exception as error:
            self._error = error
        finally:
            self.over = True
            if self._follower is None:
                self._kept.clear()
            self._changed.set()
