"""Giving work up between two layers.

A pass of the transformer, a decode and an encoded prompt are each too long to wait for when nobody
wants their result. Whoever runs them says in `interruptible` how to find that out, and the modules
call `pause` between their parts. Elsewhere a pause does nothing.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

import torch
from torch import nn

# A GPU is given work faster than it does it. Unbounded, several passes are waiting on it when
# they are given up; eight layers ahead keep it as busy.
_AHEAD = 8


def _go_on(ahead: int = 0) -> None:
    pass


_pause: ContextVar[Callable[[int], None]] = ContextVar("pause", default=_go_on)


@contextmanager
def interruptible(check: Callable[[], None], device: torch.device) -> Iterator[None]:
    """Inside, in this thread, every `pause` calls `check`, which may raise.

    Args:
        device: where the work is done; a GPU is no more than some layers behind.
    """
    given: deque[torch.cuda.Event] = deque()

    def pause(ahead: int) -> None:
        check()
        if device.type == "cuda":
            given.append(torch.cuda.current_stream(device).record_event())
            while len(given) > ahead:
                given.popleft().synchronize()

    token = _pause.set(pause)
    try:
        yield
    finally:
        _pause.reset(token)


@torch.compiler.disable
def pause(ahead: int = _AHEAD) -> None:
    """A place where the work may be given up: raises what `check` of `interruptible` raises.

    Args:
        ahead: how many of the pieces between pauses a GPU may be behind here.
    """
    _pause.get()(ahead)


@contextmanager
def pausing(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Pause before each of these modules, which are not ours to write it into."""
    with ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.register_forward_pre_hook(lambda *_: pause()).remove)
        yield
