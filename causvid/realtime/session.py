"""One connection: the messages of a client become runs, and runs become messages.

A connection has at most one run at a time, and one after the other. The client's messages are read
while chunks are sent, so that Stop gets through to a run whose chunks nobody reads. It knows the
service and no web framework: what carries the messages is a `Channel`.
"""

import asyncio
import contextlib
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from causvid.generation.parameters import Mode
from causvid.generation.prompts import Handover
from causvid.media import NoRoomError
from causvid.realtime.camera import Camera
from causvid.realtime.messages import (
    Code,
    Done,
    Error,
    Extend,
    Misread,
    Played,
    PromptInForce,
    PromptReceived,
    PromptReplaced,
    Queued,
    Snapshot,
    SnapshotKept,
    Start,
    Started,
    Stop,
    Update,
    VideoChunk,
    VideoStart,
    read,
)
from causvid.realtime.upload import Receive, TooLarge, Upload
from causvid.serving.job import Change, Kept, Made
from causvid.serving.limits import check_prompts
from causvid.serving.record import ChunkInfo
from causvid.serving.request import PARAMETERS, Record
from causvid.serving.run import Run, RunError
from causvid.serving.service import Service

log = logging.getLogger("causvid.runs")

IDLE = 300.0  # seconds without a run or a message, after which a connection is closed
TEXT_BYTES = 10**6  # of one text message
SNAPSHOTS = 4  # of one connection, that are kept


class Gone(Exception):
    """The client is not there any more."""


class Channel(Protocol):
    """What carries messages. `send` waits while the client does not read."""

    async def receive(self) -> str | bytes:
        """
        Raises:
            Gone: if there will be no further one.
        """

    async def send(self, message: str | bytes) -> None:
        """
        Raises:
            Gone: if nobody can read it.
        """


_Open = Callable[[Path | None], Awaitable[Run]]
"""Starts a run, given the file that its client sent."""


@dataclass
class _Asked:
    """A change that is not in force yet."""

    run: str
    change: Change
    number: int
    id: int | str | None
    told: bool = False


class Session:
    """Serves one client.

    Args:
        service: carries the runs.
        channel: to the client.
        receive: asked before the client's files come.
        client: where the connection comes from.
    """

    def __init__(
        self, service: Service, channel: Channel, receive: Receive, client: str | None = None
    ):
        self._service = service
        self._channel = channel
        self._receive = receive
        self._client = client
        self._sending = asyncio.Lock()
        self._playing: asyncio.Task[None] | None = None
        self._run: Run | None = None  # that is being made
        self._last: str | None = None  # id of the newest run, whose video the client has
        self._ahead = math.inf
        self._changes: list[_Asked] = []
        self._wanted: Snapshot | None = None  # asked for, and not there yet
        self._snapshots: list[str] = []  # their ids, the oldest first
        self._camera: Camera | None = None
        self._upload: Upload | None = None
        self._opening = False  # a run is asked for, and its pictures may come before it begins
        self._dropping = False  # pieces of what was refused, or is over

    async def serve(self) -> None:
        """Until the client is gone, or was idle for too long."""
        try:
            while True:
                try:
                    message = await asyncio.wait_for(self._channel.receive(), IDLE)
                except asyncio.TimeoutError:
                    if self._busy:
                        continue
                    return
                await self._answer(message)
        except Gone:
            pass
        finally:
            if self._upload is not None:
                self._upload.close()
            if self._run is not None:
                self._run.cancel()
            if self._playing is not None:
                self._playing.cancel()
                await asyncio.wait([self._playing])

    @property
    def _busy(self) -> bool:
        return self._playing is not None and not self._playing.done()

    # What the client says

    async def _answer(self, message: str | bytes) -> None:
        """Do what a message asks for; whatever it is, nothing ends but what it is about."""
        asked: Any = None
        try:
            if isinstance(message, bytes):
                await self._take(message)
                return
            self._dropping = False
            if len(message) > TEXT_BYTES:
                raise TooLarge(
                    f"the message has {len(message):,} characters; allowed are {TEXT_BYTES:,}"
                )
            asked = read(message)
            if isinstance(asked, Start):
                self._start(asked)
            elif isinstance(asked, Extend):
                self._extend(asked)
            elif isinstance(asked, Update):
                await self._steer(asked)
            elif isinstance(asked, Played):
                self._permit(asked.seconds)
            elif isinstance(asked, Snapshot):
                self._keep(asked)
            elif isinstance(asked, Stop):
                await self._stop(asked)
        except Misread as error:
            await self._refuse("invalid_message", error, error.of, error.id)
        except _Unexpected as error:
            await self._refuse("unexpected_message", error, asked)
        except TooLarge as error:
            await self._refuse("too_large", error, asked)
        except NoRoomError as error:
            await self._refuse("no_room", error, asked)
        except ValueError as error:
            await self._refuse("invalid_request", error, asked)

    def _start(self, asked: Any) -> None:
        self._dropping = asked.input_bytes is not None  # until it is accepted
        self._check_free()
        service = self._service
        prompts = check_prompts(asked.prompt, asked.schedule, service.settings)
        given = {name: it for name in PARAMETERS if (it := getattr(asked, name)) is not None}
        if asked.mode == "live":  # a camera has no end
            endless = math.inf if service.settings.endless_seconds else None
            given["seconds"] = given.get("seconds") or endless
        mode: Mode = "video" if asked.mode == "live" else asked.mode
        request = service.read(mode, prompts, given)
        takes_file = asked.mode in ("image", "video")
        if takes_file != (asked.input_bytes is not None):
            kind = f"a {asked.mode} needs input_bytes" if takes_file else "it takes no input_bytes"
            raise ValueError(f"the mode is {asked.mode}: {kind}, the size of a file that follows")

        async def open_(file: Path | None) -> Run:
            inputs: dict[str, Any] = {"live": asked.mode == "live"}
            if asked.mode == "image":
                inputs["image"] = await service.read_image(file, *request.size)
            if asked.mode == "video":
                await service.read_video(file, request)
                inputs["video"] = file
            return service.start(request, client=self._client, **inputs)

        if not takes_file:
            self._play(asked, open_)
            return
        most = service.settings.upload_mb
        if asked.input_bytes > most * 10**6:
            raise TooLarge(
                f"the {asked.mode} has {asked.input_bytes / 1e6:.1f} MB; allowed are {most}"
            )
        counted = self._receive(asked.input_bytes)
        self._upload = Upload(
            asked.mode, asked.input_bytes, counted, lambda it: self._play(asked, open_, it)
        )

    def _extend(self, asked: Extend) -> None:
        self._check_free()
        if (run := asked.run or self._last) is None:
            raise _Unexpected("there is no video to go on with: start one, or name its run")

        async def open_(_: Path | None) -> Run:
            return self._service.extend(
                run,
                asked.seconds,
                prompt=asked.prompt,
                handover=asked.handover,
                live=True,
                client=self._client,
            )

        self._play(asked, open_)

    async def _steer(self, asked: Update) -> None:
        run = self._live_run()
        prompt = None if asked.prompt is None else asked.prompt.strip()
        change = Change(prompt, asked.handover, asked.strength, asked.adaptive_strength)
        number = self._service.steer(run.id, change)
        noted = _Asked(run.id, change, number, asked.id)
        self._changes.append(noted)
        await self._send(lambda: self._receipts([noted]))

    def _keep(self, asked: Snapshot) -> None:
        run = self._live_run()
        if self._wanted is not None:
            raise _Unexpected("a snapshot is being made: wait for snapshot.kept")

        async def told(kept: Kept) -> None:
            self._wanted = None
            try:
                snapshot = self._service.keep(run, kept)
            except (ValueError, NoRoomError) as error:
                code: Code = "no_room" if isinstance(error, NoRoomError) else "invalid_request"
                await self._refuse(code, error, asked)
                return
            self._snapshots.append(snapshot)
            if len(self._snapshots) > SNAPSHOTS:
                self._service.forget(self._snapshots.pop(0))
            made = kept.manifest
            answer = SnapshotKept(
                run=run.id,
                snapshot=snapshot,
                chunk=len(made.chunks),
                seconds=made.video.seconds,
                id=asked.id,
            )
            await self._tell(answer)

        run.keep(told)
        self._wanted = asked

    async def _stop(self, asked: Stop) -> None:
        if self._upload is not None:
            self._upload.close()
            self._upload, self._dropping = None, True
            await self._send(lambda: self._over(None))
        elif self._run is not None:
            self._service.stop(self._run.id)
        elif self._busy and self._playing is not None:  # its input is being read
            self._playing.cancel()
        else:
            raise _Unexpected("nothing is being made")

    async def _take(self, piece: bytes) -> None:
        """A binary message: a part of a file, or a picture of a camera."""
        if self._upload is not None:
            try:
                complete = self._upload.add(piece)
            except ValueError:
                self._upload.close()
                self._upload, self._dropping = None, True
                raise
            if complete is not None:
                self._upload = None
                complete()
        elif self._camera is not None:
            try:
                self._camera.see(piece)
            except ValueError as error:
                await self._refuse("invalid_frame", error)
        elif not self._opening and not self._dropping:
            self._dropping = True  # said once, until the next text message
            raise _Unexpected(
                "a binary message came that nobody waits for: send session.start before it, with "
                "input_bytes or in the mode live"
            )

    def _check_free(self) -> None:
        if self._busy or self._upload is not None:
            raise _Unexpected("a video is being made here: stop it, or open another connection")

    def _live_run(self) -> Run:
        if self._run is None or self._run.ended is not None:
            raise _Unexpected("no video is being made: extend the last one with the new prompt")
        return self._run

    def _permit(self, played: float) -> None:
        if self._run is not None:
            self._run.permit(played + self._ahead)

    # What the client is told

    def _play(self, asked: Any, open_: _Open, upload: Upload | None = None) -> None:
        self._opening = True
        self._playing = asyncio.create_task(self._session(asked, open_, upload))

    async def _session(self, asked: Any, open_: _Open, upload: Upload | None) -> None:
        """One run, from what asked for it to its end, of which the client is told in any case."""
        run: Run | None = None
        try:
            with closing(upload) if upload else contextlib.nullcontext():
                run = self._run = await open_(upload.path if upload else None)
            self._opening = False
            self._ahead = asked.ahead or math.inf
            before = run.job.continuation
            self._permit(before.manifest.video.seconds if before else 0.0)
            with closing(run), self._seeing(run):
                await self._follow(run, asked)
        except Gone:
            return
        except asyncio.CancelledError:
            with contextlib.suppress(Gone):
                await self._send(lambda: self._over(run))
        except Exception as error:
            with contextlib.suppress(Gone):
                await self._failed(error, run, asked)
                if run is not None:
                    await self._send(lambda: self._over(run))
        finally:
            self._run, self._opening = None, False

    async def _follow(self, run: Run, asked: Any) -> None:
        request, before = run.job.request, run.job.continuation
        continues = before.manifest.run if before else None
        mode = "live" if run.job.live is not None else request.mode
        await self._tell(Started(run=run.id, mode=mode, model=request.model, id=asked.id))
        async for place in run.places():
            await self._tell(Queued(run=run.id, place=place))
        height, width = request.size
        start = VideoStart(
            run=run.id,
            mime=run.muxer.mime,
            codec=run.muxer.mime.partition('"')[2].rstrip('"'),
            width=width,
            height=height,
            fps=run.fps,
            seconds=run.expected_seconds,
            continues=continues,
            init=continues is None or continues != self._last,
        )
        await self._send(lambda: [start, *([run.muxer.init] if start.init else [])])
        self._last = run.id
        async with aclosing(run.events()) as events:
            async for event in events:
                if isinstance(event, Made):
                    await self._send_chunk(run, event)
        await self._send(lambda: self._over(run))

    @contextlib.contextmanager
    def _seeing(self, run: Run) -> Iterator[None]:
        """Inside, pictures of the client's camera reach the run."""
        if run.job.live is None:
            yield
            return

        async def refuse(error: ValueError) -> None:
            with contextlib.suppress(Gone):
                await self._refuse("invalid_frame", error)

        self._camera = Camera(self._service, run, refuse)
        try:
            yield
        finally:
            self._camera.close()
            self._camera, self._dropping = None, True

    async def _send_chunk(self, run: Run, made: Made) -> None:
        fragment = await asyncio.to_thread(run.muxer.append, made.chunk.frames)
        chunk = VideoChunk(info=made.info, size=len(fragment.data))
        await self._send(lambda: [*self._in_force(made.info), chunk, fragment.data])

    def _receipts(self, changes: list[_Asked]) -> list[Record]:
        """Of those whose client does not know yet that they were received."""
        told: list[Record] = []
        for change in changes:
            if not change.told:
                change.told = True
                told.append(PromptReceived(**self._about(change)))
        return told

    def _in_force(self, info: ChunkInfo) -> list[Record]:
        """What is to be said of changes before the first chunk under them."""
        newest = info.change or 0
        over = [it for it in self._changes if it.number <= newest]
        self._changes = [it for it in self._changes if it.number > newest]
        told = self._receipts(over)
        for place, asked in enumerate(over):
            newer = set[str]().union(*(it.change.parts for it in over[place + 1 :]))
            if asked.change.parts <= newer:
                told.append(self._replaced(asked, newest))
            else:
                about = self._about(asked)
                told.append(PromptInForce(**about, chunk=info.index, seconds=info.start))
        return told

    def _about(self, asked: _Asked) -> dict[str, Any]:
        change = asked.change
        has_prompt = change.prompt is not None
        return {
            "run": asked.run,
            "change": asked.number,
            "prompt": change.prompt,
            "handover": str(Handover.parse(change.handover)) if has_prompt else None,
            "strength": change.strength,
            "adaptive_strength": change.adaptive_strength,
            "id": asked.id,
        }

    def _replaced(self, change: _Asked, by: int | None) -> Record:
        return PromptReplaced(**self._about(change), by=by)

    def _over(self, run: Run | None) -> list[Record]:
        """The last that is said of a session."""
        unused, self._changes = self._changes, []
        unmade, self._wanted = self._wanted, None
        ended = run.ended if run else None
        done = Done(
            run=run.id if run else None,
            manifest=ended.manifest if ended else None,
            extendable=bool(ended and ended.continuable),
        )
        replaced = (self._replaced(change, None) for change in unused)
        told = [*self._receipts(unused), *replaced]
        if unmade is not None:
            said = "the run ended before the snapshot: extend the run itself"
            told.append(Error(code="invalid_request", message=said, of=unmade.type, id=unmade.id))
        return [*told, done]

    async def _failed(self, error: Exception, run: Run | None, asked: Any) -> None:
        code: Code = "failed"
        if isinstance(error, NoRoomError):
            code = "no_room"
        elif isinstance(error, ValueError):
            code = "invalid_request"
        elif not isinstance(error, RunError):  # its cause is in the log
            name = f"run {run.id}" if run else f"session {secrets.token_urlsafe(9)}"
            log.error("%s failed", name, exc_info=error)
            error = RunError(f"something broke here; if you report it, name {name}")
        await self._refuse(code, error, asked)

    async def _refuse(
        self, code: Code, error: Exception, asked: Any = None, id: Any = None
    ) -> None:
        of = asked if isinstance(asked, str) else getattr(asked, "type", None)
        id = getattr(asked, "id", id)
        await self._tell(Error(code=code, message=str(error), of=of, id=id))

    async def _tell(self, message: Record) -> None:
        await self._send(lambda: [message])

    async def _send(self, say: Callable[[], list[Any]]) -> None:
        """What `say` returns when it is its turn, without anything between.

        Raises:
            Gone: if nobody can read it.
        """
        async with self._sending:
            for it in say():
                await self._channel.send(it if isinstance(it, bytes) else it.model_dump_json())


class _Unexpected(ValueError):
    """A message that fits nothing that goes on."""
