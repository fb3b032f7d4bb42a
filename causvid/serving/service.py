"""Runs by id: start, steer, stop, extend; and one line in the log for each.

This is what the app and its API talk to. What a finished run leaves (its results, its fragments, a
snapshot) is kept for a while so that it can be fetched and extended, and then deleted.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import math
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from causvid.generation.cues import Handover
from causvid.generation.live import LiveFeed
from causvid.generation.parameters import Mode, check_strength
from causvid.generation.prompts import PromptSchedule
from causvid.media import FragmentMuxer, NoRoomError, VideoInfo, lacks_room
from causvid.serving.device import Device
from causvid.serving.job import Change, Continuation, Job, Kept, SourceOver
from causvid.serving.limits import (
    check_frame,
    check_image,
    check_prompt,
    check_request,
    check_video,
    longest_run,
)
from causvid.serving.models import Models, check_fit
from causvid.serving.record import Call
from causvid.serving.request import Request, Seconds, checked
from causvid.serving.run import Moment, Run
from causvid.serving.settings import Settings

log = logging.getLogger("causvid.runs")

FULL = "there is no room left on this server's disk: try again in some minutes"
Written = TypeVar("Written")
# Uploads that are read or wait for it. Each holds one of Gradio's places for events, of which there
# are 40 more than there can be runs.
MAX_READING = 12
_READERS = 2  # threads for uploads, and as many for cameras, apart from those that write videos

MAX_KEPT = 128  # finished runs, over all viewers: each holds a file open


class Service:
    """Everything behind the app.

    Args:
        settings: limits and habits.
        models: what can be generated with.
        device: where.
        call_of: the call of an API that makes a request again, for manifests.

    Attributes:
        results: the folder of everything that viewers may fetch; the rest is nobody's business.
    """

    def __init__(
        self,
        settings: Settings,
        models: Models,
        device: Device,
        call_of: Callable[[Request], Call] | None = None,
    ):
        self._call_of = call_of
        self.settings = settings
        self.models = models
        self.device = device
        self._folder = Path(tempfile.mkdtemp(prefix="causvid-"))
        self._work, self.results = self._folder / "work", self._folder / "results"
        self._work.mkdir()
        self.results.mkdir()
        self._lock = threading.Lock()
        self._reading = 0
        self._readers = ThreadPoolExecutor(_READERS, "uploads")
        self._cameras = ThreadPoolExecutor(_READERS, "cameras")
        self._runs: dict[str, Run] = {}  # live ones, and finished ones that can be extended
        self._held: set[str] = set()  # finished ones that are being copied
        self._needed = 0  # bytes that the largest run so far has left

    def read(self, mode: Mode, prompts: PromptSchedule, parameters: Mapping[str, Any]) -> Request:
        """A request within the limits, its size filled in; the model is the mode's unless named.

        Raises:
            ValueError: says what came and what is allowed.
        """
        model = parameters.get("model") or self.settings.model_for(mode)
        values = {**parameters, "mode": mode, "prompts": prompts, "model": model}
        request = Request.from_parameters(values)
        return check_request(request, self.models.preset(model), self.settings)

    async def read_image(self, path: str | Path | None, height: int, width: int) -> np.ndarray:
        """As `check_image`, in a thread, when it is this picture's turn.

        Raises:
            ValueError: also if too many uploads are being read.
        """
        return await self._in_turn(check_image, path, height, width, self.settings)

    async def read_frame(self, data: bytes, height: int, width: int) -> np.ndarray:
        """A picture of a camera, as `check_image` gives one, in a thread beside the uploads'.

        Raises:
            ValueError: if it is no picture, or too large.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._cameras, check_frame, data, height, width)

    async def read_video(self, path: str | Path | None, request: Request) -> VideoInfo:
        """As `check_video`, likewise."""
        return await self._in_turn(check_video, path, request, self.settings)

    def start(
        self,
        request: Request,
        *,
        image: np.ndarray | None = None,
        video: str | Path | None = None,
        live: bool = False,
        owner: str | None = None,
        client: str | None = None,
        watched: bool = False,
    ) -> Run:
        """Queue a request. Call it where an event loop runs.

        Args:
            image: uint8 `[h, w, 3]`, of the video's size.
            video: a file; it may go away meanwhile.
            live: the video comes while the run is made, into the feed of its job.
            owner: a secret of who asks, such as a browser's session; `leave` ends all their runs.
                By default one that nobody knows.
            client: where the call comes from, which many owners may share; it may have so many
                runs only.
            watched: whether it is played while it is made.

        Raises:
            ValueError: if a limit is exceeded, or no more runs can wait.
        """
        self._check_client(client)
        if live and not self.device.takes_live:
            raise ValueError(
                "a camera cannot reach the GPU of this server, which is lent for one video at a "
                "time: record a clip, and send that"
            )
        preset = self.models.preset(request.model)
        request = check_request(request, preset, self.settings)
        check_fit(
            request,
            preset,
            tiny_decoder=self.settings.tiny_decoder,
            longest=self.settings.longest,
        )
        fps = preset.generation.fps
        with self._new_folder() as (run, folder):
            if video is not None:
                video = self._kept(Path(video), folder / "source")
            job = Job(
                run=run,
                request=request,
                folder=folder,
                image=image,
                video=video,
                live=LiveFeed() if live else None,
                snapshot_bytes=self.settings.snapshot_mb * 10**6,
                paced=watched,
                client=client,
                limit=longest_run(request, self.settings),
            )
            muxer = FragmentMuxer(fps, *request.size, with_room=self.with_room)
            return self._begin(job, owner, client, muxer, fps)

    def extend(
        self,
        run: str,
        seconds: float,
        *,
        prompt: str | None = None,
        handover: str = "recache",
        live: bool = False,
        owner: str | None = None,
        client: str | None = None,
        watched: bool = False,
    ) -> Run:
        """Go on from where a run ended, with another prompt if one is given.

        Args:
            live: whether pictures will come, where the run followed a camera.

        Raises:
            ValueError: if there is no such run any more, or a limit is exceeded.
        """
        self._check_client(client)
        earlier = self.find(run)
        if earlier.ended is None:
            raise ValueError("this video is still being made: steer it, or stop it first")
        if earlier.ended.source_over:
            raise SourceOver(earlier.ended.manifest)
        if not earlier.ended.continuable:
            raise ValueError("this run left nothing to go on from")
        if earlier.job.live is not None and not live:
            raise ValueError("this video followed a camera: go on in a session that has one")
        seconds = checked("extension", seconds, Seconds)
        before = earlier.ended.manifest.video.seconds
        if before + seconds > self.settings.longest:
            raise ValueError(
                f"the video has {before:.1f} s and would have {before + seconds:.1f}; allowed are "
                f"{self.settings.longest:g}"
            )
        if prompt is not None:
            prompt = check_prompt(prompt, self.settings)
            Handover.parse(handover)
        with self._holding(earlier), self._new_folder() as (new, folder):
            snapshot = self._kept(earlier.job.snapshot_path, folder / "begin.safetensors")
            video = earlier.job.video
            if video is not None:
                video = self._kept(video, folder / video.name)
            job = dataclasses.replace(
                earlier.job,
                run=new,
                folder=folder,
                video=video,
                live=LiveFeed() if earlier.job.live is not None else None,
                paced=watched,
                client=client,
                continuation=Continuation(
                    snapshot=snapshot,
                    manifest=earlier.ended.manifest,
                    seconds=seconds,
                    prompt=prompt,
                    handover=handover,
                ),
            )
            return self._begin(job, owner, client, earlier.muxer.copy(), earlier.fps)

    def keep(self, run: Run, kept: Kept) -> str:
        """A snapshot of a run on the way can be gone on from for as long as a finished run.

        Call it when the chunks before it were appended to the run's video.

        Returns:
            The id to `extend` it by.

        Raises:
            ValueError: if there is no room for it.
        """
        if not kept.snapshot_bytes:
            raise ValueError("the state of this video is larger than this server keeps")
        with self._new_folder() as (new, folder):
            snapshot = self._kept(kept.snapshot, folder / run.job.snapshot_path.name)
            kept.snapshot.unlink()
            video = run.job.video
            if video is not None:
                video = self._kept(video, folder / video.name)
            job = dataclasses.replace(run.job, run=new, folder=folder, video=video)
            assert snapshot == job.snapshot_path
            moment = Moment(run, kept, job, self.results / new)
        with self._lock:
            self._runs[new] = moment
        self._make_room()
        asyncio.get_running_loop().call_later(self.settings.keep_minutes * 60, self.forget, new)
        return new

    async def animation(self, run: str, suffix: str) -> Path:
        """The video of a finished run as a WebP or a GIF, made in a thread when it is its turn.

        Raises:
            ValueError: if there is no such run any more, it goes on, or it is too long.
        """
        finished = self.find(run)
        if finished.ended is None:
            raise ValueError("this video is still being made: stop it first, or wait for its end")
        with self._holding(finished):
            return await self._in_turn(finished.save_animation, suffix)

    def steer(self, run: str, change: Change) -> int:
        """Change something of a live run from its next chunk on.

        Returns:
            The number of this change, as `ChunkInfo.change` has it.

        Raises:
            ValueError: if a part of the change or the run cannot be used.
        """
        if not change.parts:
            raise ValueError("nothing is to be changed: give a prompt or a strength")
        if change.prompt is not None:
            prompt = check_prompt(change.prompt, self.settings)
            Handover.parse(change.handover)
            change = dataclasses.replace(change, prompt=prompt)
        live = self.find(run)
        if live.ended is not None:
            raise ValueError("this video is finished: extend it with the new prompt instead")
        if change.parts - {"prompt"} and live.job.request.mode != "video":
            raise ValueError("strength is that of a source, which this video has not")
        if change.strength is not None:
            check_strength(change.strength)
        return live.ticket.steer(change)

    def stop(self, run: str) -> None:
        """End a live run soon; it tells with `Ended` what was made. Repeating is harmless."""
        with self._lock:
            live = self._runs.get(run)
        if live is not None and live.ended is None:
            live.ticket.stop()

    def leave(self, owner: str) -> None:
        """Cancel and forget what is being made for `owner`; what is finished is kept as usual."""
        with self._lock:
            runs = [run for run in self._runs.values() if run.owner == owner]
        for run in runs:
            run.cancel()
            if run.ended is None:
                self.forget(run.id)

    def holds(self, run: str) -> bool:
        """Whether it is being made, or what it left is still there."""
        with self._lock:
            return run in self._runs

    def forget(self, run: str) -> None:
        """Delete what a run left behind. Repeating is harmless."""
        with self._lock:
            gone = self._runs.pop(run, None)
        if gone is not None:
            gone.muxer.close()
            _remove(gone.job.folder)
            _remove(gone.results)

    def with_room(self, act: Callable[[], Written]) -> Written:
        """`act()`, as often as a finished run can be given up for the room that it needs.

        Raises:
            NoRoomError: if there is still none.
        """
        while True:
            try:
                return act()
            except (OSError, NoRoomError) as error:
                if not lacks_room(error):
                    raise
                if not self._give_up_oldest():
                    raise NoRoomError(FULL) from None

    def close(self) -> None:
        """End everything and delete every file."""
        self.device.close()
        for pool in (self._readers, self._cameras):
            pool.shutdown(wait=False, cancel_futures=True)
        for run in list(self._runs):
            self.forget(run)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _in_turn(self, read: Callable[..., Any], *arguments: Any) -> Any:
        if self._reading >= MAX_READING:
            raise ValueError(
                f"{MAX_READING} pictures and videos are being read, which is the limit: try again "
                "in a moment"
            )
        self._reading += 1
        reading = asyncio.get_running_loop().run_in_executor(self._readers, read, *arguments)
        # Whoever asked may be gone before it is read.
        reading.add_done_callback(lambda _: setattr(self, "_reading", self._reading - 1))
        return await asyncio.shield(reading)

    def within_limits(self, request: Request) -> Request:
        """A request that gives the same video, within the limits.

        The length of a video is one of whole chunks; asking for the largest length that is allowed
        may give as many.

        Raises:
            ValueError: if there is none.
        """
        preset = self.models.preset(request.model)
        longest = self._longest(request)
        if request.seconds is not None and 0 < longest < request.seconds < math.inf:
            chunks = self.models.timeline(request.model).chunk_count
            if chunks(longest) == chunks(request.seconds):
                request = request.model_copy(update={"seconds": longest})
        return check_request(request, preset, self.settings)

    def _longest(self, request: Request) -> float:
        """Seconds that may be asked for at this size."""
        settings, generation = self.settings, self.models.preset(request.model).generation
        height, width = request.height or generation.height, request.width or generation.width
        most = min(settings.max_seconds, settings.max_work / (height * width))
        return math.floor(1000 * most) / 1000  # a product with it stays below the limit

    def _call_again(self, request: Request) -> tuple[Call | None, str | None]:
        """The call that makes a video again, within the limits, or why there is none."""
        if self._call_of is None:
            return None, None
        settings, seconds = self.settings, request.seconds
        if seconds == math.inf:
            return None, "nothing was made"
        if len(request.prompts) > settings.max_cues:
            return None, f"it has {len(request.prompts)} cues; a call may have {settings.max_cues}"
        try:
            return self._call_of(self.within_limits(request)), None
        except ValueError:
            most = self._longest(request)
            return None, f"it has {seconds:g} s; a call may ask for {most:g}, then extend that"

    def _check_client(self, client: str | None) -> None:
        with self._lock:
            theirs = sum(run.client == client and not run.over for run in self._runs.values())
        if client is not None and theirs >= (most := self.settings.runs_of_one):
            raise ValueError(
                f"{theirs} of your videos are being made or waiting, and one client may have "
                f"{most}: wait for one of them, or stop it"
            )

    def _begin(
        self,
        job: Job,
        owner: str | None,
        client: str | None,
        muxer: FragmentMuxer,
        fps: int,
    ) -> Run:
        results = self.results / job.run
        try:
            self._make_room()
            self.with_room(results.mkdir)
            run = Run(
                job,
                self.device,
                muxer,
                results=results,
                fps=fps,
                client=client,
                owner=owner or secrets.token_urlsafe(18),
                call_of=self._call_again,
                with_room=self.with_room,
                over=self._over,
            )
        except ValueError:
            muxer.close()
            _remove(results)
            raise
        with self._lock:
            self._runs[run.id] = run
        return run

    def _over(self, run: Run) -> None:
        """A run is over: log it, and keep or delete what it left."""
        line = run.record()
        if self.settings.log_prompts:
            line["prompts"] = run.job.request.prompts.to_dict()
        log.info(json.dumps(line))
        if run.ended is None or not run.ended.manifest.video.frames:
            self.forget(run.id)
            return
        self._needed = max(self._needed, run.ended.snapshot_bytes + 2 * run.muxer.size)
        self._make_room()
        asyncio.get_running_loop().call_later(self.settings.keep_minutes * 60, self.forget, run.id)

    def _make_room(self) -> None:
        """Keep the newest runs only, of them as many snapshots as may be, and room for new ones."""
        with self._lock:
            kept = [(run, end) for run in reversed(self._runs.values()) if (end := run.ended)]
            needed = self._needed * (1 + len(self._runs) - len(kept))
        room = self.settings.snapshot_mb * 10**6
        for run, ended in kept[:MAX_KEPT]:
            room -= ended.snapshot_bytes
            if room < 0:
                run.ended = dataclasses.replace(ended, snapshot_bytes=0)
                run.job.snapshot_path.unlink(missing_ok=True)
        for run, _ in kept[MAX_KEPT:]:
            self.forget(run.id)
        self.make_room(needed)

    def make_room(self, needed: int) -> None:
        """Give up finished runs until so many bytes are free, or none is left."""
        while shutil.disk_usage(self._folder).free < needed and self._give_up_oldest():
            pass

    def _give_up_oldest(self) -> bool:
        """Delete the longest finished run that nobody watches; whether there was one."""
        with self._lock:
            over = (run.id for run in self._runs.values() if run.over and run.id not in self._held)
            oldest = next(over, None)
        if oldest is None:
            return False
        log.info("the disk is full: run %s is given up", oldest)
        self.forget(oldest)
        return True

    def find(self, run: str) -> Run:
        """
        Raises:
            ValueError: if there is no such run any more.
        """
        with self._lock:
            found = self._runs.get(run)
        if found is None:
            raise ValueError(
                f"there is no run {run!r:.40}; it may have ended more than "
                f"{self.settings.keep_minutes:g} minutes ago"
            )
        return found

    @contextlib.contextmanager
    def _new_folder(self) -> Iterator[tuple[str, Path]]:
        """A run's id and its folder, which goes if the run does not begin."""
        run = secrets.token_urlsafe(9)
        folder = self._work / run
        self.with_room(folder.mkdir)
        try:
            yield run, folder
        except BaseException:
            _remove(folder)
            raise

    @contextlib.contextmanager
    def _holding(self, run: Run) -> Iterator[None]:
        """Inside, a finished run is not given up."""
        self._held.add(run.id)
        try:
            yield
        finally:
            self._held.discard(run.id)

    def _kept(self, file: Path, name: Path) -> Path:
        """The same file under another name, which stays when the first goes."""
        try:
            name.hardlink_to(file)
        except OSError:  # another disk, or one that has no links
            self.with_room(lambda: shutil.copyfile(file, name))
        return name


def _remove(folder: Path) -> None:
    """Delete a folder that other threads may still be writing to.

    It is renamed first, so that nobody can add to it by its name while it is emptied.
    """
    gone = folder.with_name(f"{folder.name}.gone")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
