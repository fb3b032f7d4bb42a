"""A full disk: finished runs are given up first, runs in the making go on, and nobody sees an error
of the system. Simulated where the system writes, and on a real small disk where one can be mounted.
"""

import asyncio
import errno
import os
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

from causvid.media import FragmentMuxer, NoRoomError, fragments, writer
from causvid.serving.device import SharedDevice
from causvid.serving.job import Ended
from causvid.serving.models import Models
from causvid.serving.service import Service
from causvid.serving.settings import Settings
from causvid.ui.playback import Playback
from tests.serving.test_serving import ask, watch
from tests.standin import save_standin


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return save_standin(tmp_path_factory.mktemp("weights"))


def serve(preset) -> Service:
    settings = Settings(model=str(preset.folder), device="cpu", viewers=2, max_seconds=20)
    models = Models(settings)
    models.open(settings.model)
    device = SharedDevice(models.open, viewers=2, waiting=4, lead=1000)
    return Service(settings, models, device)


@pytest.fixture
def service(preset):
    with closing(serve(preset)) as service:
        yield service


class Disk:
    """Where videos, results and snapshots are written; full if there is no room for one write."""

    def __init__(self):
        self.full = False
        self.refused = 0

    def write(self) -> None:
        if self.full:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def wrapped(self, function):
        def write(*arguments, **options):
            self.write()
            return function(*arguments, **options)

        return write


@pytest.fixture
def disk(monkeypatch):
    disk = Disk()
    make = fragments._temporary_file

    def temporary_file():
        file = make()
        file.write = disk.wrapped(file.write)
        return file

    monkeypatch.setattr(fragments, "_temporary_file", temporary_file)
    monkeypatch.setattr(fragments, "copy_mp4", disk.wrapped(writer.copy_mp4))
    for name in ("write_bytes", "write_text", "mkdir"):
        monkeypatch.setattr(Path, name, disk.wrapped(getattr(Path, name)))
    return disk


def frames_of(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


async def finished(service, **changes):
    run = service.start(ask(**changes))
    await watch(run)
    await asyncio.to_thread(run.save)
    return run


def test_finished_runs_are_given_up_the_oldest_first_and_the_new_one_is_made(
    service, disk, monkeypatch
):
    async def scenario():
        runs = [await finished(service) for _ in range(3)]
        forget = service.forget

        def room(run):
            forget(run)
            disk.full = False

        monkeypatch.setattr(service, "forget", room)
        disk.full = True
        newest = await finished(service)
        assert frames_of(next(newest.results.glob("*.mp4"))) == newest.muxer.frame_count
        return [run.id for run in runs], newest.id

    runs, newest = asyncio.run(scenario())
    assert disk.refused == 1
    assert list(service._runs) == [*runs[1:], newest]


def test_a_run_in_the_making_goes_on_without_room_and_keeps_what_had_some(service, disk):
    async def scenario():
        run = service.start(ask(seconds=4.0), watched=True)
        playback, shown, told = Playback(run), 0, ""
        async for message in playback.messages():
            if message["kind"] == "chunk":
                shown += message["info"]["frames"]
                disk.full = shown >= 20
            if message["kind"] == "end":
                told = message["text"]
                return run, playback, shown, told

    with pytest.raises(NoRoomError, match="no room left on this server's disk: try again"):
        asyncio.run(scenario())
    assert disk.refused

    disk.full = False

    async def room_again():
        run = service.start(ask(seconds=4.0), watched=True)
        playback, shown = Playback(run), 0
        async for message in playback.messages():
            if message["kind"] == "chunk":
                shown += message["info"]["frames"]
                disk.full = 20 <= shown < 50
            if message["kind"] == "end":
                return run, playback.results, shown, message["text"]

    run, results, shown, told = asyncio.run(room_again())
    assert shown == run.muxer.frame_count > run.muxer.kept_count == frames_of(results.video) >= 20
    assert "disk was full: the MP4 ends earlier" in told
    assert not run.ended.continuable, "the beginning that an extension shares is not there"


def test_without_room_no_run_begins_and_nothing_is_left(service, disk):
    async def scenario():
        disk.full = True
        with pytest.raises(NoRoomError, match="try again in some minutes"):
            service.start(ask())
        disk.full = False
        run = await finished(service)
        disk.full = True
        with pytest.raises(NoRoomError):
            service.extend(run.id, 1.0)
        disk.full = False
        await watch(service.extend(run.id, 1.0))
        service.forget(run.id)

    asyncio.run(scenario())
    assert len(list(service._work.iterdir())) == len(list(service.results.iterdir())) == 1


def test_without_room_for_a_snapshot_the_video_is_kept(service, disk, monkeypatch):
    def snapshot(path, data):
        if path.suffix == ".safetensors":
            Path.touch(path)
            raise OSError(errno.ENOSPC, "full")
        with path.open("wb") as file:
            return file.write(data)

    monkeypatch.setattr(Path, "write_bytes", snapshot)
    run = asyncio.run(finished(service))
    assert not run.ended.continuable and not run.job.snapshot_path.exists()
    assert frames_of(next(run.results.glob("*.mp4"))) == run.muxer.frame_count


def test_a_chunk_that_cannot_be_sent_stops_its_run_and_the_rest_is_kept(service, disk):
    async def scenario():
        run = service.start(ask(seconds=20.0))
        saved, told = [], None
        async for event in run.events():
            if isinstance(event, Ended):
                break
            disk.full = len(saved) == 2
            try:
                saved.append(run.save_chunk(event))
            except NoRoomError as error:
                told = str(error)
                disk.full = False
        return run, told, run.save()

    run, told, results = asyncio.run(scenario())
    assert "no room left" in told
    assert results.manifest.stopped_by == "room"
    assert frames_of(results.video) == run.muxer.kept_count > 0


def test_where_there_is_no_room_for_the_result_it_is_the_file_that_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def full(*_):
        raise NoRoomError("full")

    with FragmentMuxer(16, 64, 96) as muxer:
        muxer.append(ask_frames(12))
        muxer.append(ask_frames(12))
        monkeypatch.setattr(fragments, "copy_mp4", full)
        assert muxer.finish(tmp_path / "a.mp4") == 24
    assert frames_of(tmp_path / "a.mp4") == 24
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def ask_frames(count: int) -> np.ndarray:
    return np.full((count, 64, 96, 3), 90, np.uint8)


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A real one of 3 MB, or the simulated tests above must do."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.xfail("no disk can be mounted here")
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_on_a_small_disk_every_run_is_made(small_disk, preset):
    def fill() -> Path:
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return ballast

    async def scenario(service):
        for number in range(8):
            run = await finished(service)
            assert frames_of(next(run.results.glob("*.mp4"))) == run.muxer.frame_count == 25
            if number in (2, 5):
                ballast = fill()
        ballast.unlink()
        await watch(service.extend(run.id, 1.0))

    with closing(serve(preset)) as service:
        asyncio.run(scenario(service))
        assert 0 < len(service._runs) < 9, "some were given up"
