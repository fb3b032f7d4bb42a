"""Who a client is, and how much of the disk the uploads of one and of all may take."""

import contextlib
import contextvars
import ipaddress
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import gradio.route_utils
from gradio.context import LocalContext
from starlette.datastructures import Headers
from starlette.types import Scope

from causvid.serving.settings import Settings
from causvid.ui.bodies import Refused


def client_of(scope: Scope, proxies: int) -> str:
    """The address of who asks; of IPv6 the network, of which anybody has all addresses.

    Args:
        proxies: how many before the server write where a request came from, each behind what was
            there before. Only what they wrote is believed.
    """
    address = (scope.get("client") or ("",))[0]
    told = [
        it.strip() for it in ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
    ]
    if proxies and any(told):
        address = told[-min(proxies, len(told))]
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def caller() -> str | None:
    """The client whose event is being handled."""
    client = getattr(LocalContext.request.get(None), "client", None)
    return getattr(client, "host", None)


def kept_seconds(settings: Settings) -> float:
    """How long uploads are kept: their runs, and a while before."""
    return 2 * 60 * settings.keep_minutes


def quota_of(settings: Settings) -> "Quota":
    """As the operator decided."""
    most, each = (it * 10**6 for it in (settings.uploads_mb, settings.client_uploads_mb))
    return Quota(most, each, kept_seconds(settings))


class Quota:
    """How much has been uploaded and is still there.

    Args:
        most: bytes of all clients.
        each: bytes of one.
        keep: seconds for which uploads are kept.
    """

    def __init__(self, most: int, each: int, keep: float):
        self._most, self._each, self._keep = most, each, keep
        self._uploads: deque[Upload] = deque()  # the oldest first

    @contextlib.contextmanager
    def upload(self, client: str | None, *, declared: int = 0) -> Iterator["Upload"]:
        """Inside, something is uploaded. It counts from then on if it is marked as kept, else it
        leaves nothing, neither here nor on the disk.

        Args:
            declared: bytes that are to come, if that is known.

        Raises:
            Refused: if they would be too many.
        """
        upload = Upload(self, client)
        self._check(client, declared)
        self._uploads.append(upload)
        token = _PARTS.set(upload.parts)
        try:
            yield upload
        finally:
            _PARTS.reset(token)
            if not upload.kept:
                self._uploads.remove(upload)
                for part in upload.parts:
                    with contextlib.suppress(OSError):
                        os.unlink(part)

    def _check(self, client: str | None, more: int) -> None:
        old = time.monotonic() - self._keep
        while self._uploads and self._uploads[0].kept and self._uploads[0].begun < old:
            self._uploads.popleft()
        theirs = sum(it.size for it in self._uploads if it.client == client)
        minutes = self._keep / 60
        if theirs + more > self._each:
            raise Refused(
                429,
                f"{theirs / 1e6:.0f} MB of your uploads are kept here, and one client may have "
                f"{self._each / 1e6:g}: try again when they are deleted, after {minutes:g} minutes",
            )
        if sum(it.size for it in self._uploads) + more > self._most:
            raise Refused(507, "there is no room for more uploads here: try again in some minutes")


class Upload:
    """One upload. `kept` is set when it has arrived as a whole."""

    def __init__(self, quota: Quota, client: str | None):
        self.client = client
        self.begun = time.monotonic()
        self.size = 0
        self.kept = False
        self.parts: list[str] = []
        self._quota = quota

    def add(self, count: int) -> None:
        """So many more bytes have come.

        Raises:
            Refused: if they are too many.
        """
        self._quota._check(self.client, count)
        self.size += count


_PARTS: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("parts", default=None)


def _noted(*arguments: Any, **options: Any) -> Any:
    """Gradio writes an upload to temporary files, and forgets those of one that breaks off."""
    file = tempfile.NamedTemporaryFile(*arguments, **options)  # noqa: SIM115 (Gradio closes it)
    if (parts := _PARTS.get()) is not None:
        parts.append(file.name)
    return file


gradio.route_utils.NamedTemporaryFile = _noted
