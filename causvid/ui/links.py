"""Files that come as addresses: fetched within the limits, and from public places only.

Gradio fetches them, too, but whole into memory, however large they are. Whatever stands in the way,
here and where Gradio looks at files that were uploaded, becomes a sentence for whoever sent it.
"""

import asyncio
import secrets
import shutil
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
