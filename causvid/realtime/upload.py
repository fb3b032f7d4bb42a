"""A file that a client sends over the socket, in binary messages."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from causvid.media import NoRoomError, lacks_room
from causvid.serving.service import FULL


class Receipt(Protocol):
    """What counts an upload; `add` raises a `ValueError` if it becomes too large."""

    kept: bool

    def add(self, count: int) -> None: ...


Receive = Callable[[int], AbstractContextManager[Receipt]]
"""Opens an upload of so many bytes; raises a `ValueError` if they are too many."""


class TooLarge(ValueError):
    """What a client sends is more than is allowed."""


class Upload:
    """A file on its way.

    Args:
        name: what to call it.
        size: bytes, all in all.
        counted: what counts them, not entered yet.
        complete: called with the upload when it is there; who is called closes it.
    """

    def __init__(
        self,
        name: str,
        size: int,
        counted: AbstractContextManager[Receipt],
        complete: Callable[["Upload"], None],
    ):
        self._left = size
        self._complete = complete
        self._counted = contextlib.ExitStack()
        self._receipt = self._counted.enter_context(counted)
        self._folder = tempfile.TemporaryDirectory(prefix="causvid-input-")
        self.path = Path(self._folder.name, f"the {name}")
        self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        self._open = True

    def add(self, piece: bytes) -> Callable[[], None] | None:
        """Add a piece; what to call when it was the last.

        Raises:
            ValueError: if the file is larger than announced, or than allowed.
            NoRoomError: if the disk is full.
        """
        if len(piece) > self._left:
            raise TooLarge(f"the file has {len(piece) - self._left} bytes more than input_bytes")
        self._receipt.add(len(piece))
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError as error:
            if not lacks_room(error):
                raise
            raise NoRoomError(FULL) from None
        self._left -= len(piece)
        if self._left:
            return None
        self._receipt.kept = True
        self._counted.close()
        return lambda: self._complete(self)

    def close(self) -> None:
        """Delete the file; a run that needs it has another name for it. Repeating is harmless."""
        if self._open:
            self._open = False
            self._counted.close()
            os.close(self._handle)
            self._folder.cleanup()
