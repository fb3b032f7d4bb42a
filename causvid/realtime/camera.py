"""Pictures of a client's camera on their way into a run: the newest wins at every step.

One picture at a time is decoded, no faster than the model could use them; one that comes meanwhile
waits, and is replaced by the next. So a camera costs the server the same, whatever it sends.
"""

import asyncio
from collections.abc import Awaitable, Callable

from causvid.realtime.messages import read_frame
from causvid.serving.limits import FRAME_BYTES
from causvid.serving.run import Run
from causvid.serving.service import Service


class Camera:
    """Made where an event loop runs.

    Args:
        service: decodes pictures.
        run: that is live.
        refuse: told of each picture that cannot be used.
    """

    def __init__(self, service: Service, run: Run, refuse: Callable[[ValueError], Awaitable[None]]):
        assert run.job.live is not None, "the run is not live"
        self._service, self._run, self._feed = service, run, run.job.live
        self._refuse = refuse
        self._newest: tuple[float, bytes] | None = None
        self._there = asyncio.Event()
        self._task = asyncio.create_task(self._work())

    def see(self, message: bytes) -> None:
        """A picture has come.

        Raises:
            ValueError: if it has no time stamp, or is too large.
        """
        time, picture = read_frame(message)
        if len(picture) > FRAME_BYTES:
            raise ValueError(f"the picture has {len(picture):,} bytes; allowed are {FRAME_BYTES:,}")
        self._newest = time, picture
        self._there.set()

    def close(self) -> None:
        """No further picture is used."""
        self._task.cancel()

    async def _work(self) -> None:
        height, width = self._run.job.request.size
        pause = 0.5 / self._run.fps  # twice the model's rate, at most
        while True:
            await self._there.wait()
            while not (self._feed.wanted or self._feed.over):  # the run waits, or loads its model
                await asyncio.sleep(pause)
            self._there.clear()
            newest, self._newest = self._newest, None
            if newest is None:
                continue
            time, data = newest
            try:
                picture = await self._service.read_frame(data, height, width)
            except ValueError as error:
                await self._refuse(error)
            else:
                self._feed.put(picture, time)
            await asyncio.sleep(pause)
