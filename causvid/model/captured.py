"""Passes as CUDA graphs: all work of a pass is handed to the GPU at once.

A graph reads and writes the tensors that it was captured with. Those of a cache keep their
addresses: they lie in a `Storage`, and storages of viewers who have left are used again, with their
graphs (`StoragePool`). All else that changes from pass to pass is copied into tensors beside the
storage: latents, what a noise level implies, and the prompt when it is another one.

There is a graph for every kind of pass over a storage: its shapes, and how much it sees. The first
pass of a kind runs as it would without; it is captured afterwards.
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from causvid.model.cache import KVCache, Storage, StoragePool, TextCache
from causvid.model.interruption import interruptible, pause

logger = logging.getLogger(__name__)

_KINDS = 64  # captured for a storage; others run as they are


class Graph(NamedTuple):
    """A captured pass."""

    replay: Callable[[], None]
    result: Tensor
    """What `replay` writes to, until the next one."""


class _Place:
    """What lies beside a storage."""

    def __init__(self) -> None:
        self.graphs: dict[Hashable, tuple[Graph, tuple[Tensor, ...], Tensor]] = {}
        self.inputs: dict[Hashable, tuple[Tensor, ...]] = {}
        self.text: tuple[Tensor, ...] = ()
        self.told: TextCache | None = None  # what was copied there last

    def tell(self, text: TextCache) -> TextCache:
        """The prompt's keys and values, where graphs read them."""
        parts = (*text.keys, *text.values)
        if [it.shape for it in parts] != [it.shape for it in self.text]:
            self.graphs.clear()
            self.text = _like(parts)
            self.told = None
        if text is not self.told:
            torch._foreach_copy_(list(self.text), list(parts))
            self.told = text
        half = len(parts) // 2
        return TextCache(self.text[:half], self.text[half:])


class CapturedPass:
    """The passes of a model, captured.

    Args:
        capture: turns a call without arguments into a graph.
    """

    def __init__(self, capture: Callable[[Callable[[], Tensor]], Graph]):
        self.pool = StoragePool()
        self.refused: str | None = None
        """Why nothing is captured any more."""
        self._capture = capture
        self._places: WeakKeyDictionary[Storage, _Place] = WeakKeyDictionary()

    @property
    def count(self) -> int:
        """Graphs at present."""
        return sum(len(place.graphs) for place in self._places.values())

    def __call__(
        self,
        uncaptured: Callable[..., Tensor],
        noisy: Tensor,
        tables: Sequence[Tensor],
        text: TextCache,
        cache: KVCache,
    ) -> Tensor:
        """Clean latents, as of `StaticPass.predict_clean`.

        Args:
            uncaptured: the pass, with the arguments of `StaticPass.forward`; always the same.
            tables: as of `StaticPass.tables`.
        """
        *levels, where = tables
        given = (noisy, *levels)
        visible = cache.visible.start, cache.visible.stop
        place = self._places.setdefault(cache.storage, _Place())
        told = place.tell(text) if self.refused is None else text
        shapes = tuple((it.shape, it.dtype) for it in given)
        kind = shapes, visible
        if kind in place.graphs:
            graph, inputs, _ = place.graphs[kind]
            pause(ahead=1)
            torch._foreach_copy_(list(inputs), list(given))
            graph.replay()
            return graph.result.clone()

        stored = (cache.rotary, cache.keys, cache.values, cache.slots)

        def run(told: TextCache, *given: Tensor) -> Tensor:
            return uncaptured(*given, where, *told, *stored, visible)

        result = run(text, *given)
        if self.refused is None and len(place.graphs) < _KINDS:
            inputs = place.inputs.setdefault(shapes, _like(given))
            torch._foreach_copy_(list(inputs), list(given))
            try:
                graph = self._capture(lambda: run(told, *inputs))
            except RuntimeError as error:
                self.refused = str(error).strip().partition("\n")[0]
                logger.warning("passes are not captured: %s", self.refused)
                place.graphs.clear()
            else:
                place.graphs[kind] = graph, inputs, where
        return result


class OnGpu:
    """Captures CUDA graphs, which share one memory: they never run at the same time."""

    def __init__(self, device: torch.device):
        self._device = device
        self._pool: Any = None
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, run: Callable[[], Tensor]) -> Graph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            if self._stream is None:
                self._pool, self._stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
            now = torch.cuda.current_stream()
            self._stream.wait_stream(now)
            # Nobody interrupts a capture: an event that is waited for would end it.
            with torch.cuda.stream(self._stream), interruptible(_go_on, torch.device("cpu")):
                # Once as it will be captured: these tensors, on this stream. Whatever is compiled,
                # loaded or allocated for them alone would end a capture.
                run()
                # Other threads may ask the driver for memory meanwhile.
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                try:
                    result = run()
                except BaseException:
                    with suppress(RuntimeError):  # of the capture that was broken off, not why
                        graph.capture_end()
                    raise
                graph.capture_end()
            now.wait_stream(self._stream)
        return Graph(graph.replay, result)


def _go_on() -> None:
    pass


def _like(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    with torch.inference_mode(False):  # whoever comes first, others write to them, too
        return tuple(torch.empty(it.shape, dtype=it.dtype, device=it.device) for it in tensors)
