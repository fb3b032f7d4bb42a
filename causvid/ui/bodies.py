"""What is sent to the server: how much, how fast, and JSON that holds no surprises."""

import asyncio
import json
import math
import time
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

PAUSE = 20.0  # seconds for a body to begin, and to spare afterwards
SLOWEST = 1000  # bytes a second, on average over what was sent
DIGITS = 1000  # of an integer: Python takes the square of its length to read it
DEPTH = 64  # lists and objects in one another


BROKE = "something broke here"
"""How the answer to an error of the inside begins, which the log has by the name that follows."""


class Refused(ValueError):
    """A request that is answered with a status and one sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Body:
    """A request's body, limited in size and in time; `receive` takes the place of ASGI's.

    Args:
        receive: ASGI's.
        most: bytes.
        sentence: what to say of more.
    """

    def __init__(self, receive: Receive, most: int, sentence: str):
        self._receive = receive
        self._most, self._sentence = most, sentence
        self._began = time.monotonic()
        self._size = 0
        self.declared = 0  # bytes, if that is known
        self._ended = False

    def expect(self, size: int) -> None:
        """
        Raises:
            Refused: if a body of this size is too large.
        """
        if size > self._most:
            raise Refused(413, self._sentence)
        self.declared = size

    async def receive(self) -> Message:
        """
        Raises:
            Refused: if the body is too large or too slow.
        """
        if self._ended:  # what is waited for now is the client's end
            return await self._receive()
        spare = self._began + PAUSE + self._size / SLOWEST - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.01, spare))
        except asyncio.TimeoutError:
            raise Refused(408, "the request came too slowly") from None
        if message["type"] != "http.request":
            self._ended = True
            return message
        self._size += len(message.get("body", b""))
        if self._size > self._most:
            raise Refused(413, self._sentence)
        self._ended = not message.get("more_body")
        return message

    async def whole(self) -> bytes:
        """
        Raises:
            Refused: if it is too large or too slow.
            ClientDisconnect: if it broke off.
        """
        parts = []
        while not self._ended:
            message = await self.receive()
            if message["type"] != "http.request":
                raise ClientDisconnect
            parts.append(message.get("body", b""))
        return b"".join(parts)

    def again(self, body: bytes) -> Receive:
        """ASGI's `receive` of a request with this body in place of the one that was read."""
        told = False

        async def receive() -> Message:
            nonlocal told
            if told:
                return await self._receive()
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        return receive


def read_json(body: bytes, name: str = "the body") -> Any:
    """A value that is finite, not nested too deeply, and whose texts are Unicode: where half of a
    surrogate pair stood, as programs leave it that cut a text within an emoji, is U+FFFD.

    Raises:
        Refused: says what is wrong, of what is called `name`.
    """
    try:
        value = json.loads(body, parse_constant=_no_number, parse_float=_finite, parse_int=_integer)
    except RecursionError:
        raise Refused(400, f"{name} is nested more than {DEPTH} deep") from None
    except ValueError as error:  # also of bytes that are no text
        raise Refused(400, f"{name} is no JSON: {error!s:.100}") from None
    _check_depth(value, name)
    return value


def write_json(value: Any) -> bytes:
    """The inverse."""
    text = json.dumps(value, ensure_ascii=False)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _check_depth(value: Any, name: str) -> None:
    level = [value]
    for _ in range(DEPTH):
        inner: list[Any] = []
        for it in level:
            if isinstance(it, dict):
                inner.extend(it.values())
            elif isinstance(it, list):
                inner.extend(it)
        if not inner:
            return
        level = inner
    raise Refused(400, f"{name} is nested more than {DEPTH} deep")


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text:.20} is too large")
    return number


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"{text:.20}… has {len(text)} digits; at most {DIGITS} are read")
    return int(text)
