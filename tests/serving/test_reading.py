"""Uploads are read beside everything else: few at once, and not in the threads of others."""

import asyncio
import threading

import pytest

import causvid.serving.service as serving
from causvid.serving.models import Models
from causvid.serving.request import Request
from causvid.serving.service import MAX_READING, Service
from causvid.serving.settings import Settings


class NoDevice:
    def close(self):
        pass


@pytest.fixture
def service():
    settings = Settings(model="pocket", device="cpu")
    service = Service(settings, Models(settings), NoDevice())
    yield service
    service.close()


def test_an_upload_that_is_gone_is_to_be_sent_again(service, tmp_path):
    gone = tmp_path / "picture.png"
    request = Request(model="pocket", prompts="a ball", mode="video", height=64, width=96)
    for read in (
        lambda: service.read_image(gone, 64, 96),
        lambda: service.read_video(gone, request),
    ):
        with pytest.raises(ValueError, match=r"picture\.png is not on the server any more.* again"):
            asyncio.run(read())


def test_slow_pictures_delay_no_other_work_and_are_bounded(service, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(serving, "check_image", lambda *_: go_on.wait(30))

    async def scenario():
        reading = [asyncio.create_task(service.read_image("any", 1, 1)) for _ in range(MAX_READING)]
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match=f"{MAX_READING} pictures and videos are being read"):
            await service.read_image("any", 1, 1)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "written"), 30) == "written"
        go_on.set()
        assert await asyncio.gather(*reading) == [True] * MAX_READING
        assert await service.read_image("any", 1, 1)

    asyncio.run(scenario())


def test_whoever_leaves_while_waiting_gives_the_place_up_when_the_picture_is_read(
    service, monkeypatch
):
    go_on = threading.Event()
    monkeypatch.setattr(serving, "check_image", lambda *_: go_on.wait(30))

    async def scenario():
        gone = [asyncio.create_task(service.read_image("any", 1, 1)) for _ in range(MAX_READING)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        go_on.set()
        while service._reading:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_what_is_wrong_with_a_picture_is_told(service, tmp_path):
    (tmp_path / "words.png").write_text("hello")
    with pytest.raises(ValueError, match=r"words\.png is not a picture"):
        asyncio.run(service.read_image(tmp_path / "words.png", 64, 96))
    with pytest.raises(ValueError, match="there is no video"):
        asyncio.run(service.read_video(None, None))
    assert not service._reading
