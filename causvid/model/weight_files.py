"""Files of weights and of settings, judged by what is in them and not by their names.

What is no such file is a `CheckpointError` that says what it is instead: cut short, a Git LFS
pointer, a web page, a pickle. A folder may hold checksums of its files, in the format of
`sha256sum`, which notice a single bit. Nothing here builds a model.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from safetensors import SafetensorError, safe_open

CHECKSUMS = "SHA256SUMS"

_HEAD = 64
_LONGEST_HEADER = 100_000_000  # bytes, as safetensors has it
_BLOCK = 1 << 20


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that is not of the model it is loaded into."""


class Stored(NamedTuple):
    """A tensor that is still in its file."""

    shape: tuple[int, ...]


def container(path: Path) -> Literal["safetensors", "zip", "pickle"]:
    """What tensors are packed in; a zip archive is what `torch.save` writes since 1.6.

    Raises:
        CheckpointError: if it is not there, or is something else; says what.
    """
    head = _head(path)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER:
        return "safetensors"
    if head.startswith(b"PK"):
        return "zip"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    raise CheckpointError(f"{path} {_something_else(path, head)}")


def read_header(path: Path) -> dict[str, Stored]:
    """The names and shapes of a safetensors file, which is whole; no tensor is read.

    Raises:
        CheckpointError: if it is something else, cut short or damaged.
    """
    if (found := container(path)) != "safetensors":
        kind = "a zip archive, as torch.save writes it" if found == "zip" else "a pickle"
        raise CheckpointError(
            f"{path} is {kind}, not safetensors: convert it where you trust it, as a pickle can "
            f"run any code"
        )
    try:
        with safe_open(path, framework="pt") as file:
            return {key: Stored(tuple(file.get_slice(key).get_shape())) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} {_not_whole(path, error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: if it is not there, or holds something else.
    """
    head = _head(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are
        what = None if head.startswith((b"{", b"[")) else _something_else(path, head)
        raise CheckpointError(f"{path} {what or f'is damaged: it is no JSON ({error})'}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is damaged: it holds a {type(found).__name__}, not settings")
    return found


_READERS: dict[str, Callable[[Path], object]] = {".safetensors": read_header, ".json": read_json}


def write_checksums(folder: Path) -> None:
    """Write `SHA256SUMS` of weights and settings in `folder` and below it."""
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix in (".json", ".safetensors", ".model")
    )
    sums = [f"{_sha256(folder / name)}  {name}\n" for name in names]
    (folder / CHECKSUMS).write_text("".join(sums), encoding="utf-8")


def verify_checksums(folder: Path, parts: Iterable[str]) -> None:
    """Compare files with the checksums of `folder`, where it has some.

    Args:
        parts: the files, and the folders, of which the files are compared.

    Raises:
        CheckpointError: if one differs, is missing, or the checksums cannot be read.
    """
    listing = folder / CHECKSUMS
    if not listing.exists():
        return
    wanted = tuple(parts)
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
        sums = {name.lstrip(" *"): sum_ for sum_, name in (line.split(" ", 1) for line in lines)}
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{listing} is damaged: it holds no checksums") from error
    for name, expected in sums.items():
        if name.partition("/")[0] not in wanted:
            continue
        path = folder / name
        _head(path)  # it is there, and is a file
        if _sha256(path) != expected:
            if path.suffix in _READERS:  # which may know more
                _READERS[path.suffix](path)
            raise CheckpointError(
                f"{path} is not what it was when it was exported: its checksum differs from that "
                f"in {CHECKSUMS} (delete that file if the change was meant)"
            )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except IsADirectoryError:
        raise CheckpointError(f"{path} is a folder, expected a file") from None
    except FileNotFoundError:
        begun = [p.name for p in path.parent.glob(f"{path.name}*") if p.name != path.name]
        instead = f": there is only {begun[0]}, a download that was not finished" if begun else ""
        raise CheckpointError(f"there is no file {path}{instead}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error


def _something_else(path: Path, head: bytes) -> str:
    """What a file is that holds neither tensors nor settings, to follow its name."""
    text = head.lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself: run `git lfs pull`"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page that was saved in place of the file: download the file itself"
    if head.startswith(b"GGUF"):
        return "is a GGUF file, whose quantised tensors are not read: expected safetensors"
    if text.startswith(b"{"):
        index = path.stat().st_size < _LONGEST_HEADER and b'"weight_map"' in path.read_bytes()
        if index:
            return (
                "is an index of shards, not the weights: name one of the files that it lists, or "
                "load the folder"
            )
        return "is JSON, not weights: expected safetensors"
    if not head:
        return "is empty"
    if not head.strip(b"\0"):
        return "holds only zeros, as a download leaves it that was not finished"
    return f"is not in a format for tensors, or is damaged: it begins with {head[:8]!r}"


def _not_whole(path: Path, error: Exception) -> str:
    """What is wrong with a file that begins as safetensors, to follow its name."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if 8 + length <= size else b""
    try:
        entries = json.loads(text).items()
        promised = max(entry["data_offsets"][1] for name, entry in entries if name[:2] != "__")
        whole = 8 + length + int(promised)
    except (ValueError, TypeError, LookupError, AttributeError):
        whole = 8 + length
    if size < whole:
        return (
            f"is damaged or incomplete: {size:,} bytes are there of {whole:,}, so a download or "
            f"a copy broke off"
        )
    return f"is damaged or incomplete ({error})"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
