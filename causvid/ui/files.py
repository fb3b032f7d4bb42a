"""Files: the page's own, those that callers name by URL, and the folder of those uploaded."""

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import gradio as gr
import httpx
import safehttpx
from gradio.blocks import BlockFunction
from gradio.exceptions import InvalidPathError
from gradio.processing_utils import PUBLIC_HOSTNAME_WHITELIST
from gradio.state_holder import SessionState
from gradio.utils import get_upload_folder
from gradio_client.utils import (
    async_traverse,
    is_file_obj_with_meta,
    is_http_url_like,
    strip_invalid_filename_characters,
)

PATIENCE = 60.0  # seconds for a whole file, so that nobody keeps an event busy by trickling
_MAX_REDIRECTS = 5
VARIABLE = "GRADIO_TEMP_DIR"
_STATIC = Path(__file__).parent / "static"


def static(name: str) -> str:
    """The text of a file in `static/`."""
    return (_STATIC / name).read_text(encoding="utf-8")


class Page(gr.Blocks):
    """Blocks whose inputs may be addresses of files.

    Args:
        upload_bytes: the largest file.
    """

    def __init__(self, *, upload_bytes: int, **options: Any):
        super().__init__(**options)
        self._upload_bytes = upload_bytes

    async def preprocess_data(
        self,
        block_fn: BlockFunction,
        inputs: list[Any],
        state: SessionState | None,
        explicit_call: bool = False,
    ) -> list[Any]:
        """Gradio's step from what was sent to what a handler gets."""

        async def at_hand(file: dict[str, Any]) -> dict[str, Any]:
            if "\0" in file["path"]:
                raise InvalidPathError
            if not is_http_url_like(file["path"]):
                return file
            path = await fetch(file["path"], Path(get_upload_folder()), self._upload_bytes)
            return {**file, "path": str(path), "url": None}

        try:
            inputs = await async_traverse(inputs, at_hand, is_file_obj_with_meta)
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except gr.Error:
            raise
        except (InvalidPathError, OSError):  # a name that no file can have is an OSError
            raise gr.Error(
                "got the path of a file that was not uploaded; expected handle_file(PATH) of "
                "gradio_client, or what /gradio_api/upload answered",
                print_exception=False,
            ) from None
        except ValueError as error:  # everything here was sent from outside
            raise gr.Error(str(error), print_exception=False) from None


async def fetch(address: str, folder: Path, most: int) -> Path:
    """Fetch a file into a folder of its own in `folder`.

    Args:
        most: bytes.

    Raises:
        ValueError: if it cannot be had, or is larger; then nothing stays behind.
    """
    place = folder / secrets.token_hex(16)
    try:
        name = strip_invalid_filename_characters(Path(urlsplit(address).path).name)
    except ValueError:
        raise ValueError(_failed(address, "it is no address")) from None
    path = place / (name or "file")
    try:
        place.mkdir(parents=True)
        await asyncio.wait_for(_download(address, path, most), PATIENCE)
        return path
    except BaseException as error:
        shutil.rmtree(place, ignore_errors=True)
        if isinstance(error, asyncio.TimeoutError):
            raise ValueError(_failed(address, f"it took more than {PATIENCE:g} s")) from None
        if isinstance(error, httpx.HTTPError | httpx.InvalidURL | OSError):
            raise ValueError(_failed(address, str(error) or type(error).__name__)) from None
        raise


async def _download(address: str, path: Path, most: int) -> None:
    at = address
    for _ in range(_MAX_REDIRECTS + 1):
        async with (
            httpx.AsyncClient(transport=await _transport(at)) as client,
            client.stream("GET", at) as answer,
        ):
            if answer.has_redirect_location:
                at = urljoin(at, answer.headers["Location"])
                continue
            if answer.status_code != 200:
                raise ValueError(_failed(address, f"the answer was {answer.status_code}"))
            received = 0
            with path.open("wb") as file:
                async for part in answer.aiter_bytes():
                    received += len(part)
                    if received > most:
                        raise ValueError(
                            _failed(address, f"it is larger than the {most / 1e6:g} MB allowed")
                        )
                    file.write(part)
            return
    raise ValueError(_failed(address, f"it was redirected more than {_MAX_REDIRECTS} times"))


async def _transport(address: str) -> httpx.AsyncBaseTransport | None:
    """One that connects to the very machine that was found to be public.

    Raises:
        ValueError: if it is none.
    """
    host = httpx.URL(address).host
    # On a Space the Hub's names lead to addresses inside, which would look private.
    if safehttpx.matches_domain_whitelist(host, PUBLIC_HOSTNAME_WHITELIST):
        return None
    try:
        public = await safehttpx.async_validate_url(host)
    except (ValueError, UnicodeError):
        raise ValueError(_failed(address, "its host is unknown or not public")) from None
    return safehttpx.AsyncSecureTransport(public)


def _failed(address: str, why: str) -> str:
    return f"cannot fetch {address[:100]}: {why}"


class Uploads:
    """A context in which Gradio uses a folder of ours, unless the operator has named one.

    Args:
        keep: seconds after which a file is nobody's any more.
    """

    def __init__(self, keep: float):
        self._keep = keep
        self._over = threading.Event()

    def __enter__(self) -> "Uploads":
        self._made = tempfile.TemporaryDirectory(prefix="causvid-uploads-")
        os.environ.setdefault(VARIABLE, self._made.name)
        threading.Thread(target=self._work, name="uploads", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if os.environ.get(VARIABLE) == self._made.name:
            del os.environ[VARIABLE]
        self._made.cleanup()

    def sweep(self) -> None:
        """Delete what has not been touched for long."""
        old = time.time() - self._keep
        for folder, _, files in os.walk(self._made.name, topdown=False):
            for name in files:
                with contextlib.suppress(OSError):
                    file = Path(folder, name)
                    if file.lstat().st_mtime < old:
                        file.unlink()
            if folder != self._made.name and Path(folder).stat().st_mtime < old:
                with contextlib.suppress(OSError):  # there is something in it
                    Path(folder).rmdir()

    def _work(self) -> None:
        while not self._over.wait(min(60.0, self._keep)):
            self.sweep()
