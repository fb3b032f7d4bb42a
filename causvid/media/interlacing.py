"""Interlaced video made progressive: half of the lines of a picture are of another moment."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import av
from av.error import BlockingIOError as NotYet
from av.error import EOFError as Over
from av.filter import Graph

from causvid.media.clock import Timed


def progressive(timed: Iterator[Timed]) -> Iterator[Timed]:
    """The same frames at the same times; those that are flagged as interlaced are filtered."""
    weaving: _Weave | None = None
    for item in timed:
        shape = (item.frame.width, item.frame.height, item.frame.format.name)
        if weaving is not None and weaving.shape != shape:
            yield from weaving.rest()
            weaving = None
        if weaving is None and item.frame.interlaced_frame:
            weaving = _Weave(*shape)
        if weaving is None:
            yield item
        else:
            yield from weaving.add(item)
    if weaving is not None:
        yield from weaving.rest()


class _Weave:
    """A filter that looks at the frames before and after, so that each comes out later."""

    def __init__(self, width: int, height: int, kind: str):
        self.shape = (width, height, kind)
        self._count = 0
        self._inside: deque[Timed] = deque()
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=width,
            height=height,
            format=av.VideoFormat(kind, width, height),
            time_base=Fraction(1, 1000),
        )
        self._graph.link_nodes(
            source,
            self._graph.add("bwdif", "mode=send_frame:deint=interlaced"),
            self._graph.add("buffersink"),
        ).configure()

    def add(self, item: Timed) -> Iterator[Timed]:
        self._inside.append(item)
        item.frame.pts, item.frame.time_base = self._count, Fraction(1, 1000)
        self._count += 1
        self._graph.push(item.frame)
        return self._ready()

    def rest(self) -> Iterator[Timed]:
        self._graph.push(None)
        return self._ready()

    def _ready(self) -> Iterator[Timed]:
        while self._inside:
            try:
                frame = self._graph.pull()
            except (NotYet, Over):
                return
            assert isinstance(frame, av.VideoFrame)
            yield self._inside.popleft()._replace(frame=frame)
