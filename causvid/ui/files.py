"""Files: the page's own, those that callers name by URL, and the folder of those uploaded."""

import asyncio
import contextlib
import importlib.resources
import ipaddress
import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from gradio.processing_utils import PUBLIC_HOSTNAME_WHITELIST
from gradio_client.utils import strip_invalid_filename_characters
from safehttpx import matches_domain_whitelist

from causvid.media import lacks_room
from causvid.serving.service import FULL

PATIENCE = 60.0  # seconds for a whole file, so that nobody keeps an event busy by trickling
VARIABLE = "GRADIO_TEMP_DIR"
_STATIC = importlib.resources.files("causvid.ui") / "static"
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# Newer versions of Python know these to be private, or to be documentation.
_IETF = [*map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20"))]
_ISATAP = (0x5EFE, 0x2005EFE)  # before an IPv4 address in the lower half of an IPv6 one


def static(name: str) -> str:
    """The text of a file in `static/`."""
    return (_STATIC / name).read_text(encoding="utf-8")


async def fetch(
    url: str, folder: Path, most: int, came: Callable[[int], None] = lambda _: None
) -> Path:
    """Fetch a file from a public host into a folder of its own in `folder`.

    Gradio fetches files, too, but whole into memory, however large they are.

    Args:
        most: bytes.
        came: told how many bytes have come, again and again; it may refuse them.

    Raises:
        ValueError: if it cannot be had, or is larger; then nothing stays behind.
    """
    with contextlib.ExitStack() as undo:
        try:
            name = strip_invalid_filename_characters(Path(urlsplit(url).path).name) or "file"
            place = folder / secrets.token_hex(16)
            undo.callback(shutil.rmtree, place, ignore_errors=True)
            place.mkdir(parents=True)
            await asyncio.wait_for(_download(url, place / name, most, came), PATIENCE)
        except asyncio.TimeoutError:
            why = f"it took more than {PATIENCE:g} s"
        except (ValueError, OSError, httpx.HTTPError, httpx.InvalidURL) as error:
            why = FULL if lacks_room(error) else str(error) or type(error).__name__
        else:
            undo.pop_all()
            return place / name
    raise ValueError(f"cannot fetch {url[:100]}: {why}")


async def _download(url: str, path: Path, most: int, came: Callable[[int], None]) -> None:
    async with (
        httpx.AsyncClient(transport=_PublicTransport(), max_redirects=5) as client,
        client.stream("GET", url, follow_redirects=True) as answer,
    ):
        if answer.status_code != 200:
            raise ValueError(f"the answer was {answer.status_code}")
        received = 0
        with path.open("wb") as file:
            async for part in answer.aiter_bytes():
                received += len(part)
                came(len(part))
                if received > most:
                    raise ValueError(f"it is larger than the {most / 1e6:g} MB allowed")
                file.write(part)


class _PublicTransport(httpx.AsyncHTTPTransport):
    """Connects to the very address that was found to be public, at every redirect anew."""

    def __init__(self) -> None:
        # Hosts behind one address share no connection: each is asked for its own certificate.
        super().__init__(limits=httpx.Limits(max_keepalive_connections=0))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        # On a Space the Hub's names lead to addresses inside, which look private.
        if not matches_domain_whitelist(host, PUBLIC_HOSTNAME_WHITELIST):
            request = httpx.Request(
                request.method,
                request.url.copy_with(host=await public_address(host)),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
        return await super().handle_async_request(request)


async def public_address(host: str) -> str:
    """An address of `host` on the public internet.

    Raises:
        ValueError: if it has none.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        found = []
    for *_, socket_address in found:
        if is_public(address := str(socket_address[0])):
            return address
    raise ValueError("its host is unknown or not public")


def is_public(address: str) -> bool:
    """Whether an IP address leads out of every private network, and embeds no other address."""
    ip = ipaddress.ip_address(address)
    if not ip.is_global or any(ip in network for network in _IETF):
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        isatap = int(ip) >> 32 & 0xFFFFFFFF in _ISATAP
        return ip in _GLOBAL_UNICAST and not (ip.sixtofour or ip.teredo or isatap)
    return not ip.is_multicast


class Uploads:
    """A context in which Gradio keeps uploads in a folder of ours, unless the operator names one.

    It is swept while the server runs, and deleted in the end. Gradio deletes finished uploads by
    their age, but neither those that broke off nor the folders that it empties.

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
