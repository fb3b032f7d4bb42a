"""Where a file is to be: whether it can be written, and how it appears as a whole or not at all."""

import contextlib
import errno
import os
import uuid
from pathlib import Path


class NoRoomError(ValueError):
    """A disk is full; the message says what has no room."""


def lacks_room(error: BaseException) -> bool:
    """Whether something could not be written because its disk, or a quota, is full."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return isinstance(error, NoRoomError) or getattr(error, "errno", None) in full


def check_place(path: Path) -> None:
    """Find out whether a file could be written, before there is one.

    Raises:
        ValueError: says why it cannot.
    """
    try:
        if path.is_dir():
            raise ValueError(f"{path.name} is a folder; pass the name of a file")
        if not path.absolute().parent.is_dir():
            raise ValueError(f"the folder for {path.name} does not exist: {path.parent}")
        with contextlib.suppress(FileNotFoundError):
            path.lstat()  # is the name too long?
        part = part_of(path)
        part.touch()
        part.unlink()
    except OSError as error:
        raise ValueError(f"{path.name} cannot be written: {error.strerror}") from None


def part_of(path: Path) -> Path:
    """Where a file is written until it is complete; as long as any name may be."""
    return path.with_name(f".{uuid.uuid4().hex}.part")


def put_in_place(part: Path, path: Path) -> None:
    """Give a complete file its name.

    Raises:
        ValueError: if that fails; says where the file is.
    """
    try:
        os.replace(part, path)
    except OSError as error:
        kept = part.with_name(part.name.lstrip("."))
        part.rename(kept)
        raise ValueError(
            f"{path.name} cannot be put in its place ({error.strerror}); the video is in {kept}"
        ) from None
