"""What is let in: which routes, and which functions by which of Gradio's doors.

Every request passes a `Gate` before Gradio sees it. Gradio serves more than this app needs, such as
a screen recorder, and carries out any function by name or by number for anybody, those of the
page's buttons, too. Here a function is open by the doors that follow from what it is:

- a public endpoint by all of them, as the API's documentation says;
- a function of the page by the page's own door, for a session that can own something;
- what Gradio itself calls, when a browser is gone, by none.

A page that is closed says so at a door of its own, by the claim of the run that it shows.

What is refused, and what goes wrong, is answered with one sentence.
"""

import ipaddress
import json
import logging
import re
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import gradio as gr
from fastapi.exceptions import RequestValidationError
from gradio.block_function import BlockFunction
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from causvid.media import lacks_room
from causvid.realtime.route import PATH
from causvid.serving.service import FULL
from causvid.ui.bodies import BROKE, Body, Refused, read_json, write_json
from causvid.ui.quota import Quota, client_of

MOST_PATH = 1000  # characters: files have the longest ones
JSON_BYTES = 10**6
FORM_BYTES = 10**5  # around an uploaded file
_API = "/gradio_api"
_READ = re.compile(
    rf"/|/(config|healthz|theme\.css|favicon\.ico|robots\.txt|manifest\.json|pwa_icon(/\d+)?)/?"
    rf"|/(assets|static|svelte)/.+|{PATH}"
    rf"|{_API}/(info|openapi\.json|app_id|user|login_check|startup-events|theme\.css)/?"
    rf"|{_API}/(queue/data|queue/status|upload_progress|heartbeat/[^/]+|mcp/?.*)"
    rf"|{_API}/file[=/](?!/*https?:).+"
    rf"|{_API}/call/(v2/)?[^/]+/[^/]+",
    re.DOTALL,
)
_WRITE = re.compile(
    rf"/leave|{_API}/(upload|reset/?|cancel|queue/join|mcp/?.*)|{_API}/(call/v2|call|run|api)/[^/]+/?",
    re.DOTALL,
)
_CALLS = (f"{_API}/run/", f"{_API}/api/")  # those that are answered at once
_METHODS = {"GET": _READ, "HEAD": _READ, "POST": _WRITE}
# What a browser or a client makes up for itself; a short one could be guessed.
_SESSION, _OWNER = re.compile(r"[\w.:-]{1,128}", re.ASCII), re.compile(r"[\w.:-]{8,128}", re.ASCII)
_FORWARDED = ("data", "event_data", "fn_index", "trigger_id", "session_hash")
# Gradio's front end makes functions of texts and writes styles into elements; a Space is shown
# inside a page of the Hub.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:{scripts}; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
)
_RESIZER = " https://cdnjs.cloudflare.com"  # Gradio's page on a Space fits its frame with this
_FILE_POLICY = "default-src 'none'; img-src 'self'; media-src 'self'; sandbox"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(self), display-capture=(self), "
    "geolocation=()",
}

log = logging.getLogger("causvid.server")


class Gate:
    """The app behind it, for requests that may pass.

    Args:
        app: Gradio's.
        page: whose functions are guarded.
        upload_bytes: the largest file.
        quota: of uploads.
        make_room: asked for so many bytes on the disk before they come.
        proxies: how many stand before the server, see `client_of`.
        space: whether the app is shown on a Space.
    """

    def __init__(
        self,
        app: ASGIApp,
        page: gr.Blocks,
        *,
        upload_bytes: int,
        quota: Quota,
        make_room: Callable[[int], None],
        proxies: int = 0,
        space: bool = False,
    ):
        self._app = app
        self._quota, self._make_room, self._proxies = quota, make_room, proxies
        self._page = page
        self._upload_bytes = upload_bytes
        self._policy = _POLICY.format(scripts=_RESIZER if space else "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        client = client_of(scope, self._proxies)
        scope = {**scope, "client": (client, (scope.get("client") or ("", 0))[1])}
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        began = False
        held: Message | None = None

        async def dressed(message: Message) -> None:
            nonlocal began, held
            if message["type"] == "http.response.start":
                began = True
                self._dress(scope, message)
                if message["status"] == 500:
                    held = message
                    return
            elif held is not None:  # Gradio answers mistakes as if they were errors of its own
                if scope["path"].startswith(_CALLS) and BROKE.encode() not in message.get(
                    "body", b""
                ):
                    held["status"] = 422
                await send(held)
                held = None
            await send(message)

        try:
            answer = await self._pass(scope, receive, dressed)
        except ClientDisconnect:
            return
        except Refused as refused:
            answer = JSONResponse({"detail": refused.sentence}, status_code=refused.status)
        except Exception as error:
            answer = broken(scope, error)
        if answer is not None and not began:
            await answer(scope, receive, dressed)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on that is to become a socket. Browsers open one to anywhere for any
        page, and say for which."""
        asked = Headers(scope=scope)
        if "origin" in asked and _is_foreign(asked):
            sentence = "pages from elsewhere cannot use a server on this machine"
            await JSONResponse({"detail": sentence}, status_code=403)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        """Pass a request on, or tell what to answer."""
        method, path = scope["method"], scope["path"]
        if method == "OPTIONS" and "access-control-request-method" in Headers(scope=scope):
            await self._app(scope, receive, send)
            return None
        if len(path) > MOST_PATH:
            raise Refused(414, f"the path has {len(path)} characters; at most {MOST_PATH} are read")
        routes = _METHODS.get(method)
        is_tool = path.startswith(f"{_API}/mcp")
        if is_tool and method == "DELETE":  # MCP's end of a session
            routes = _WRITE
        if routes is None or routes.fullmatch(path) is None:
            raise Refused(404, f"there is nothing at {method} {path:.100}")
        if method != "POST":
            if (answer := self._without_stream(scope)) is not None:
                return answer
            body = Body(receive, JSON_BYTES, f"a {method} request needs no body")
            await self._app(scope, body.receive, send)
            return None
        if path == f"{_API}/upload":
            kind = Headers(scope=scope).get("content-type", "")
            if not (kind.startswith("multipart/form-data") and "boundary=" in kind):
                raise Refused(
                    415, f"an upload is multipart/form-data with a boundary, not {kind!r:.60}"
                )
            most, allowed = self._upload_bytes + FORM_BYTES, self._upload_bytes / 10**6
            sentence = f"the upload is too large: a file may have {allowed:g} MB"
            await self._upload(scope, _declared(scope, Body(receive, most, sentence)), send)
            return None
        sentence = f"the body is too large: JSON may have {JSON_BYTES / 10**6:g} MB"
        if is_tool:
            sentence += "; pass a file by its http address"
        body = _declared(scope, Body(receive, JSON_BYTES, sentence))
        value = read_json(await body.whole())
        if not is_tool:
            value = self._checked(path.removeprefix(_API).rstrip("/").split("/")[1:], value)
        content = write_json(value)
        headers = MutableHeaders(raw=list(scope["headers"]))
        headers["content-length"] = str(len(content))
        headers["content-type"] = "application/json"
        for name in ("transfer-encoding", "content-encoding"):
            del headers[name]
        await self._app({**scope, "headers": headers.raw}, body.again(content), send)
        return None

    async def _upload(self, scope: Scope, body: Body, send: Send) -> None:
        """Pass an upload on, which leaves nothing unless it is answered with success."""
        with self._quota.upload(scope["client"][0], declared=body.declared) as upload:
            self._make_room(body.declared)

            async def counted() -> Message:
                message = await body.receive()
                upload.add(len(message.get("body", b"")))
                return message

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    upload.kept = message["status"] == 200
                await send(message)

            await self._app(scope, counted, watched)

    def _checked(self, route: list[str], value: Any) -> Any:
        """The body that is passed on.

        Raises:
            Refused: if the function that it names is not open by this door, or not to this session.
        """
        if not isinstance(value, dict):
            raise Refused(422, f"the body is {_short(value)}; expected a JSON object")
        door, name = route[0], route[-1]
        if door == "leave":
            return {"claim": str(value.get("claim"))[:128]}
        if door in ("reset", "cancel"):
            return self._checked_end(door, value)
        if route[:2] == ["call", "v2"]:
            self._named(name)
            return value
        if not isinstance(value.get("data"), list):
            raise Refused(422, f"data is {_short(value.get('data'))}; expected a list")
        by_name = door == "call" or (door in ("run", "api") and name != "predict")
        call = {key: value[key] for key in _FORWARDED if value.get(key) is not None}
        if by_name:
            fn = self._named(name)
            if door != "call" and fn.queue and fn.types_generator:
                raise Refused(
                    422, f"/{name} answers more than once: POST to {_API}/call/v2/{name} instead"
                )
            return {"data": value["data"]} | ({"fn_index": fn._id} if door != "call" else {})
        trigger = call.get("trigger_id")
        if trigger is not None and (isinstance(trigger, bool) or not isinstance(trigger, int)):
            raise Refused(422, f"trigger_id is {_short(trigger)}; expected a whole number")
        session = call.get("session_hash")
        if door == "queue" or session is not None:
            self._check_session(session, _SESSION)
        fn = self._numbered(call.get("fn_index"), "queue" if door == "queue" else "run")
        if fn.api_visibility != "public":
            self._check_session(session, _OWNER)
        if len(value["data"]) != len(fn.inputs):
            raise Refused(422, f"data has {len(value['data'])} values; expected {len(fn.inputs)}")
        return call

    def _checked_end(self, door: str, value: dict[str, Any]) -> dict[str, Any]:
        """The body of a call that ends another, which the session and the event's id tell."""
        if door == "reset":
            return {"event_id": str(value.get("event_id"))[:128]}
        self._check_session(value.get("session_hash"), _SESSION)
        index, event = value.get("fn_index"), value.get("event_id")
        if not isinstance(event, str) or isinstance(index, bool) or not isinstance(index, int):
            raise Refused(422, "expected session_hash, fn_index and event_id, as for queue/join")
        return {"session_hash": value["session_hash"], "fn_index": index, "event_id": event}

    def _check_session(self, session: Any, form: re.Pattern[str]) -> None:
        if not isinstance(session, str) or form.fullmatch(session) is None:
            least = "8" if form is _OWNER else "1"
            raise Refused(
                422, f"session_hash is {_short(session)}; expected {least} to 128 letters or digits"
            )

    def _named(self, name: str) -> BlockFunction:
        """The public endpoint of that name."""
        public = [fn for fn in self._page.fns.values() if fn.api_visibility == "public"]
        found = next((fn for fn in public if fn.api_name == name), None)
        if found is None:
            there_are = ", ".join(f"/{fn.api_name}" for fn in public)
            raise Refused(404, f"there is no endpoint /{name:.60}; there are {there_are}")
        return found

    def _numbered(self, index: Any, door: str) -> BlockFunction:
        """The function of that number, if it is open by that door."""
        is_number = isinstance(index, int) and not isinstance(index, bool)
        fn = self._page.fns.get(index) if is_number else None
        if fn is None or door not in doors(fn):
            raise Refused(
                404,
                f"there is no function {_short(index)} here: if the app changed, reload the page",
            )
        return fn

    def _without_stream(self, scope: Scope) -> Response | None:
        """The answer to who wants to listen to a call that is not known, or not any more.

        Gradio's own would be the same to its clients, and an error in its log.
        """
        path, queue = scope["path"].rstrip("/"), self._page._queue
        if path == f"{_API}/queue/data":
            query = parse_qs(scope["query_string"].decode("latin-1"))
            session = query.get("session_hash", [""])[0]
            if session in queue.pending_messages_per_session:
                return None
            message = {
                "msg": "unexpected_error",
                "message": "404: Not Found",
                "success": False,
                "session_not_found": True,
            }
            return _stream(f"data: {json.dumps(message)}\n\n")
        if path.startswith(f"{_API}/call/"):
            *_, name, event = path.split("/")
            self._named(name)
            if event in queue.pending_messages_per_session:
                return None
            sentence = f"there is no call {event:.40} of /{name}; its answer is kept for a minute"
            return _stream(f"event: error\ndata: {json.dumps({'error': sentence})}\n\n")
        return None

    def _dress(self, scope: Scope, message: Message) -> None:
        """Give an answer the headers that tell browsers what it may do, and who may read it."""
        message.setdefault("headers", [])
        headers = MutableHeaders(scope=message)
        for name, value in _HEADERS.items():
            headers[name] = value
        is_file = scope["path"].startswith((f"{_API}/file=", f"{_API}/file/"))
        headers["content-security-policy"] = _FILE_POLICY if is_file else self._policy
        # There is nothing to log in to. On a local host, other pages are nobody we know.
        del headers["access-control-allow-credentials"]
        if _is_foreign(Headers(scope=scope)):
            del headers["access-control-allow-origin"]


def broken(scope: Scope, error: Exception) -> Response:
    """The answer to a request that failed by no fault of its sender; the log has the cause, once.

    Starlette answers with it, and raises the error again.
    """
    name = getattr(error, "request_name", None)
    if name is None:
        name = error.request_name = secrets.token_urlsafe(9)  # type: ignore[attr-defined]
        where = f"{scope['method']} {scope['path'].encode('ascii', 'backslashreplace').decode()}"
        log.error("request %s failed: %.200s", name, where, exc_info=error)
    detail = f"{BROKE}; if you report it, name request {name}"
    return JSONResponse({"detail": detail}, status_code=500)


async def _broken(request: Request, error: Exception) -> Response:
    return broken(request.scope, error)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse({"detail": error.sentence}, status_code=error.status)


async def _system(request: Request, error: Exception) -> Response:
    if lacks_room(error):
        return JSONResponse({"detail": FULL}, status_code=507)
    return broken(request.scope, error)


async def _gone(*_: Any) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _misfit(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "body"
    if first["type"] == "missing":
        detail = f"the request has no {where}, which is needed here"
    else:
        detail = f"the request's {where} is not what is expected here: {first['msg']}"
    return JSONResponse({"detail": detail}, status_code=422)


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = error.detail
    if detail == HTTPStatus(error.status_code).phrase:
        detail = f"there is nothing at {request.method} {request.url.path:.100}"
    return JSONResponse({"detail": detail}, status_code=error.status_code, headers=error.headers)


HANDLERS = {
    HTTPException: _told,
    Refused: _refused,
    ClientDisconnect: _gone,
    RequestValidationError: _misfit,
    OSError: _system,
    Exception: _broken,
}
"""What Gradio's routes answer to errors that reach them."""


def doors(fn: BlockFunction) -> frozenset[str]:
    """The ways by which a function may be called by its number: "queue", "run", or none."""
    if fn.fn is None or any(event == "unload" for _, event in fn.targets):
        return frozenset()
    if fn.api_visibility == "public":
        return frozenset({"queue"} if fn.types_generator else {"queue", "run"})
    return frozenset({"queue" if fn.queue else "run"})


def _declared(scope: Scope, body: Body) -> Body:
    """The body, if its declared size may be.

    Raises:
        Refused: otherwise, before anything is read.
    """
    declared = Headers(scope=scope).get("content-length", "0")
    if declared.isascii() and declared.isdigit() and len(declared) < 20:
        body.expect(int(declared))
    return body


def _stream(text: str) -> Response:
    return PlainTextResponse(text, media_type="text/event-stream")


def _is_foreign(asked: Headers) -> bool:
    """Whether a local host is asked for a page that it did not serve."""
    origin = urlsplit(asked.get("origin", "")).netloc
    return _is_local(asked.get("host", "")) and origin != asked.get("host")


def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or _is_loopback(name)
    except ValueError:
        return True


def _is_loopback(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _short(value: Any) -> str:
    return "missing" if value is None else f"{value!r:.40}"
