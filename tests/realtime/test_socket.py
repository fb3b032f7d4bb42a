"""The socket of the real app: four modes, receipts, back-pressure, wrong messages, rude ends."""

import io

import av
import httpx
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image
from websockets.exceptions import InvalidStatus

from causvid.realtime.messages import schemas
from tests.appserver import running
from tests.realtime.client import PATH, Client
from tests.videos import write_video

CHUNK = 12  # pictures of every chunk but the first, which is one
FPS = 16


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standin")
    with running(folder, viewers=2, waiting=2, max_seconds=20) as app:
        yield app


@pytest.fixture
def client(app):
    with Client(app.url) as client:
        yield client
    assert app.reaches(0), "nothing goes on without its client"


def frames_of(video: bytes) -> np.ndarray:
    with av.open(io.BytesIO(video)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def picture(shade: int, size: tuple[int, int] = (96, 64), kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 255 - shade, 128)).save(buffer, kind)
    return buffer.getvalue()


def check(client: Client) -> None:
    """What every session's messages are like."""
    schema = Draft202012Validator(schemas()["server"])
    for message in client.heard:
        if isinstance(message, dict):
            schema.validate(message)
    expected = None
    for message in client.heard:
        if isinstance(message, bytes):
            assert expected in (True, len(message)), "a binary message that was not announced"
            expected = None
        else:
            assert expected is None, "what was announced did not follow"
            if message["type"] == "video.start":
                expected = message["init"] or None
            if message["type"] == "video.chunk":
                expected = message["size"]


def test_words_become_a_video(app, client):
    client.start(seconds=2, seed=3, id="first")
    done = client.until("session.done")
    check(client)
    (started,), (start,) = client.all("session.started"), client.all("video.start")
    assert started["id"] == "first" and started["mode"] == "text"
    assert start["mime"] == f'video/mp4; codecs="{start["codec"]}"' and start["init"]
    assert (start["width"], start["height"], start["fps"]) == (96, 64, FPS)
    manifest = done["manifest"]
    assert not manifest["stopped"] and done["extendable"] and done["run"] == started["run"]
    frames = frames_of(client.video)
    assert len(frames) == manifest["video"]["frames"] == 1 + 3 * CHUNK
    infos = [it["info"] for it in client.all("video.chunk")]
    kept = {key: infos[-1][key] for key in manifest["chunks"][-1]}
    assert kept == manifest["chunks"][-1]


def test_the_same_request_over_both_doors_is_the_same_video(app, client):
    from gradio_client import Client as Gradio

    client.start(seconds=1, seed=5)
    client.until("session.done")
    *_, final = Gradio(app.url, verbose=False).predict(
        "a red car", seconds=1, seed=5, api_name="/text_to_video"
    )
    with open(final, "rb") as file:
        np.testing.assert_array_equal(frames_of(client.video), frames_of(file.read()))


def test_a_prompt_has_two_receipts_and_the_record_says_the_same(client):
    client.start(seconds=20, ahead=1.0)
    client.chunk()
    for name, (prompt, handover) in enumerate([("a blue boat", "swap"), ("the sea", "blend:2")]):
        client.say(
            {
                "type": "session.prompt_update",
                "prompt": f" {prompt} ",
                "handover": handover,
                "id": name,
            }
        )
        received = client.until("prompt.received")
        assert received["id"] == name and received["change"] == name + 1
        played = client.all("video.chunk")[-1]["info"]["end"] + 1
        client.say({"type": "session.played", "seconds": played})
        force = client.until("prompt.in_force")
        assert (force["prompt"], force["handover"], force["id"]) == (prompt, handover, name)
        info = client.chunk()
        assert client.heard[-3] == force, "it is told before its chunk"
        assert force["chunk"] == info["index"] and force["seconds"] == info["start"]
        assert info["change"] == name + 1
        assert info["prompt"] == prompt and info["handover"] == handover
        earlier = [it["info"] for it in client.all("video.chunk")[:-1]]
        assert all((it["change"] or 0) <= name for it in earlier)
    client.say({"type": "session.stop"})
    done = client.until("session.done")
    check(client)
    for force in client.all("prompt.in_force"):
        first = next(it for it in done["manifest"]["chunks"] if it["change"] == force["change"])
        assert first["index"] == force["chunk"] and first["start"] == force["seconds"]
    cues = done["manifest"]["request"]["prompts"]["cues"]
    assert [cue["prompt"] for cue in cues] == ["a red car", "a blue boat", "the sea"]


def test_of_two_changes_at_once_the_second_is_made_and_the_first_is_answered(client):
    client.start(seconds=20, ahead=0.5)
    client.until("video.chunk")
    while client.all("video.chunk")[-1]["info"]["end"] < 0.5:
        client.until("video.chunk")
    for prompt in ("a blue boat", "the sea"):  # the run is held back meanwhile
        client.say({"type": "session.prompt_update", "prompt": prompt})
        client.until("prompt.received")
    client.say({"type": "session.played", "seconds": 1.0})
    replaced = client.until("prompt.replaced")
    assert (replaced["change"], replaced["by"]) == (1, 2)
    assert client.until("prompt.in_force")["prompt"] == "the sea"
    client.say({"type": "session.prompt_update", "prompt": "a ball"})
    client.until("prompt.received")
    client.say({"type": "session.stop"})
    client.until("session.done")
    answered = {
        it["change"] for it in client.all("prompt.replaced") + client.all("prompt.in_force")
    }
    assert answered == {1, 2, 3}
    check(client)


@pytest.mark.parametrize("ahead", [0.5, 1.5])
def test_the_video_is_no_further_ahead_than_the_client_wants(app, client, ahead):
    client.start(seconds=20, ahead=ahead)
    played = 0.0
    for _ in range(4):
        end = client.chunk()["end"]
        while end < played + ahead:
            end = client.chunk()["end"]
        assert end < played + ahead + CHUNK / FPS + 0.01
        with pytest.raises(TimeoutError):  # it waits, and the device is free
            client.socket.recv(timeout=0.3)
        with Client(app.url) as other:
            other.start(seconds=1)
            other.until("session.done")
        played = end
        client.say({"type": "session.played", "seconds": played})
    client.say({"type": "session.stop"})
    assert client.until("session.done")["manifest"]["stopped_by"] == "viewer"


def test_a_file_becomes_a_video(client, tmp_path):
    clip = tmp_path / "clip.mp4"
    shades = np.linspace(0, 250, 30).astype(np.uint8)
    write_video(clip, np.repeat(shades, 64 * 96 * 3).reshape(30, 64, 96, 3), FPS)
    for mode, data, frames in (
        ("video", clip.read_bytes(), 30),
        ("image", picture(200, (300, 200), "PNG"), 1 + 2 * CHUNK),
    ):
        client.start(mode=mode, input_bytes=len(data), seconds=None if mode == "video" else 1)
        for at in range(0, len(data), 1000):
            client.say(data[at : at + 1000])
        done = client.until("session.done")
        assert done["manifest"]["video"]["frames"] == frames
        assert done["manifest"]["request"]["mode"] == mode
        check(client)


def test_strength_changes_on_the_way_with_two_receipts(app, client, tmp_path):
    clip = tmp_path / "clip.mp4"
    write_video(clip, np.full((20 * FPS, 64, 96, 3), 90, np.uint8), FPS)
    data = clip.read_bytes()
    client.start(mode="video", input_bytes=len(data), strength=0.4, ahead=0.5)
    for at in range(0, len(data), 1000):
        client.say(data[at : at + 1000])
    client.until("video.chunk")
    while client.all("video.chunk")[-1]["info"]["end"] < 0.5:
        client.until("video.chunk")  # from here on the run is held back
    for name, values in enumerate(({"prompt": "a blue boat"}, {"strength": 0.9}, {"strength": 1})):
        client.say({"type": "session.prompt_update", "id": name, **values})
        received = client.until("prompt.received")
        assert received["id"] == name and received["change"] == name + 1
        assert received["prompt"] == values.get("prompt")
        assert received["strength"] == values.get("strength")
    client.say({"type": "session.played", "seconds": 1.0})
    info = client.chunk()
    assert [it["change"] for it in client.all("prompt.in_force")] == [1, 3], "both hold"
    assert [it["change"] for it in client.all("prompt.replaced")] == [2]
    assert all(it["seconds"] == info["start"] for it in client.all("prompt.in_force"))
    assert (info["prompt"], info["strength"], info["change"]) == ("a blue boat", 1.0, 3)
    client.say({"type": "session.prompt_update", "adaptive_strength": True})
    client.until("prompt.received")
    client.say({"type": "session.played", "seconds": 2.0})
    assert client.until("prompt.in_force")["adaptive_strength"] is True
    client.say({"type": "session.stop"})
    manifest = client.until("session.done")["manifest"]
    check(client)
    assert {it["strength"] for it in manifest["chunks"] if it["change"] is None} == {0.4}
    assert manifest["request"]["strength"] == 0.4, "that of the beginning"
    first, second = manifest["strengths"]
    assert (first["start"], first["strength"]) == (info["start"], 1.0)
    assert second["adaptive_strength"] is True and second["strength"] is None
    assert manifest["call"] is None and "strength" in manifest["no_call"]


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({}, "invalid_request", "nothing is to be changed"),
        ({"strength": 0.5}, "invalid_request", "which this video has not"),
        ({"adaptive_strength": False}, "invalid_request", "which this video has not"),
        ({"strength": 0}, "invalid_message", "strength is 0; expected more than 0"),
        ({"strength": 1.5}, "invalid_message", "strength is 1.5; expected at most 1"),
        ({"adaptive_strength": "much"}, "invalid_message", "expected 1 or 0"),
    ],
)
def test_a_change_that_cannot_be_made_is_answered(app, client, change, code, said):
    client.start(seconds=20, ahead=0.5)
    client.until("video.start")
    client.say({"type": "session.prompt_update", **change})
    while isinstance(error := client.hear(), bytes) or error["type"] != "error":
        pass
    assert error["code"] == code and said in error["message"], error
    client.say({"type": "session.stop"})
    client.until("session.done")


def test_a_snapshot_on_the_way_is_gone_on_from_elsewhere(app, client):
    client.start(seconds=20, ahead=1.0)
    client.chunk()
    client.say({"type": "session.snapshot", "id": "here"})
    kept = client.until("snapshot.kept")
    assert kept["id"] == "here"
    so_far = client.all("video.chunk")[-1]["info"]
    assert (kept["chunk"], kept["seconds"]) == (so_far["index"] + 1, so_far["end"])
    client.say({"type": "session.played", "seconds": 20})
    while client.chunk()["index"] < kept["chunk"] + 1:
        pass
    with Client(app.url) as other:
        for prompt in (None, "a blue boat"):
            other.say(
                {
                    "type": "session.extend",
                    "run": kept["snapshot"],
                    "seconds": 2 * CHUNK / FPS,
                    "prompt": prompt,
                }
            )
            done = other.until("session.done")
            made = done["manifest"]["chunks"]
            assert len(made) == kept["chunk"] + 2 and done["manifest"]["run"] != kept["run"]
            went_on = [it["info"]["drift"] for it in client.all("video.chunk")][: len(made)]
            assert ([it["drift"] for it in made] == went_on) == (prompt is None)
        check(other)
    client.say({"type": "session.stop"})
    client.until("session.done")
    check(client)
    assert app.reaches(0)


def test_of_many_snapshots_the_newest_are_kept(app, client):
    client.start(seconds=20)
    kept = []
    for _ in range(6):
        client.chunk()
        client.say({"type": "session.snapshot"})
        kept.append(client.until("snapshot.kept")["snapshot"])
    assert [app.service.holds(it) for it in kept] == [False] * 2 + [True] * 4
    client.say({"type": "session.stop"})
    client.until("session.done")
    for snapshot in kept:
        app.service.forget(snapshot)
    check(client)


def test_a_snapshot_that_cannot_be_is_answered(app, client):
    def refusal() -> dict:
        while isinstance(heard := client.hear(), bytes) or heard["type"] != "error":
            pass
        assert heard["of"] == "session.snapshot"
        return heard

    client.say({"type": "session.snapshot"})
    assert refusal()["code"] == "unexpected_message"
    with Client(app.url) as first, Client(app.url) as second:
        for busy in (first, second):
            busy.start(seconds=20, ahead=0.1)
            busy.until("video.start")
        client.start(seconds=20)
        client.until("session.started")
        client.say({"type": "session.snapshot", "id": 5})
        error = refusal()
        assert error["id"] == 5 and "wait for the first chunk" in error["message"]
    client.chunk()
    client.say({"type": "session.snapshot", "id": 6})
    client.say({"type": "session.stop"})
    heard = []
    while not heard or isinstance(heard[-1], bytes) or heard[-1]["type"] != "session.done":
        heard.append(client.hear())
    answers = [it for it in heard if isinstance(it, dict) and it.get("id") == 6]
    assert [it["type"] for it in answers] in (["error"], ["snapshot.kept"])


def test_a_video_is_extended_and_branched(app, client):
    client.start(seconds=1)
    first = client.until("session.done")
    client.say({"type": "session.extend", "seconds": 1, "prompt": "a blue boat", "id": 7})
    second = client.until("session.done")
    assert client.all("session.started")[-1]["id"] == 7
    start = client.all("video.start")[-1]
    assert start["continues"] == first["run"] and not start["init"]
    frames = frames_of(client.video)
    assert len(frames) == second["manifest"]["video"]["frames"] > 30
    check(client)
    with Client(app.url) as other:  # another branch, from elsewhere
        other.say({"type": "session.extend", "seconds": 1, "run": first["run"]})
        third = other.until("session.done")
        assert other.all("video.start")[-1]["init"]
        assert third["manifest"]["video"]["frames"] == second["manifest"]["video"]["frames"]
        check(other)


def test_two_clients_at_once_have_their_own_videos(app):
    with Client(app.url) as one, Client(app.url) as two:
        one.start("a red car", seconds=3, seed=1)
        two.start("a blue boat", seconds=3, seed=2)
        ends = [client.until("session.done") for client in (one, two)]
        for client, seed in ((one, 1), (two, 2)):
            check(client)
            assert {it["info"]["seed"] for it in client.all("video.chunk")} == {seed}
            with Client(app.url) as alone:
                alone.start("a red car" if seed == 1 else "a blue boat", seconds=3, seed=seed)
                alone.until("session.done")
                assert alone.video == client.video
        assert ends[0]["run"] != ends[1]["run"]
    assert app.reaches(0)


def test_who_waits_knows_the_place(app):
    with Client(app.url) as one, Client(app.url) as two, Client(app.url) as three:
        for client in (one, two):
            client.start(seconds=20, ahead=0.1)
            client.until("video.chunk")
        three.start(seconds=1)
        assert three.until("session.queued")["place"] == 1
        one.say({"type": "session.stop"})
        one.until("session.done")
        three.until("session.done")
        check(three)
    assert app.reaches(0)


@pytest.mark.parametrize("rude", [False, True])
def test_a_client_that_goes_leaves_nothing(app, rude, caplog):
    with Client(app.url) as client:
        client.start(seconds=20)
        client.until("video.chunk")
        if rude:
            client.socket.socket.close()
    assert app.reaches(0)
    assert not [it for it in caplog.records if it.levelname == "ERROR"]


WRONG = [
    ("not JSON", "invalid_message", "is no JSON"),
    ("[1, 2]", "invalid_message", "expected a JSON object"),
    ("{}", "invalid_message", "expected one of session.start"),
    ({"type": "session.begin"}, "invalid_message", "expected one of session.start"),
    ({"type": "session.stop", "now": True}, "invalid_message", "now"),
    ({"type": "session.prompt_update", "prompt": 5}, "invalid_message", "a text"),
    ({"type": "session.prompt_update", "prompt": ""}, "invalid_request", "the prompt is empty"),
    (
        {"type": "session.prompt_update", "prompt": "a", "handover": "fade"},
        "invalid_request",
        "fade",
    ),
    ({"type": "session.played", "seconds": -1}, "invalid_message", "seconds"),
    ({"type": "session.start", "prompt": "a"}, "unexpected_message", "is being made"),
    ({"type": "session.extend"}, "unexpected_message", "is being made"),
    (b"bytes", "unexpected_message", "nobody waits for"),
    ("[" * 5000, "invalid_message", "is no JSON"),
    ('{"type": "session.stop", "id": "' + "x" * 1_000_000 + '"}', "too_large", "1,000,000"),
]


def test_a_wrong_message_ends_nothing(client):
    client.start(seconds=20, ahead=0.1)
    client.until("video.chunk")
    for wrong, code, said in WRONG:
        client.say(wrong)
        while (heard := client.hear()) and (
            isinstance(heard, bytes) or heard["type"] == "video.chunk"
        ):
            pass
        assert heard["type"] == "error" and heard["code"] == code, (wrong, heard)
        assert said in heard["message"] and "Traceback" not in heard["message"]
    client.say({"type": "session.stop"})
    assert not client.until("session.done")["manifest"]["chunks"][-1]["change"]
    check(client)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"prompt": None}, "the prompt is empty"),
        ({"seconds": 99}, "allowed are 20"),
        ({"seconds": "long"}, "the length is 'long'; expected a number"),
        ({"size": "9x9"}, "9x9"),
        ({"model": "gpt"}, "gpt"),
        ({"mode": "image"}, "needs input_bytes"),
        ({"input_bytes": 10}, "takes no input_bytes"),
        ({"schedule": "0s: a\n99s: b"}, "b"),
    ],
)
def test_what_cannot_be_made_is_answered_and_the_next_is_made(client, asked, said):
    client.start(**{"prompt": "a red car", "id": "it", **asked})
    error = client.hear()
    assert error["code"] == "invalid_request" and error["of"] == "session.start"
    assert said in error["message"] and error["id"] == "it"
    client.start(seconds=0.1)
    client.until("session.done")


def test_files_that_are_no_pictures_or_too_large_are_refused(app, client):
    client.start(mode="image", input_bytes=4)
    client.say(b"none")
    assert "the image is not a picture" in client.hear()["message"]
    client.start(mode="image", input_bytes=4)
    client.say(b"none more")
    assert client.hear()["code"] == "too_large"
    client.start(mode="video", input_bytes=10**9)
    assert client.hear()["code"] == "too_large"
    for _ in range(3):
        client.say(b"x" * 1000)  # what was on its way is not answered again
    client.start(mode="image", input_bytes=10**6)
    client.say(b"x" * 1000)
    client.say({"type": "session.stop"})
    assert client.until("session.done")["run"] is None
    client.say(b"x" * 1000)
    client.start(seconds=0.1)
    client.until("session.done")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1"])
def test_pages_from_elsewhere_are_kept_out_on_a_local_host(app, origin):
    with pytest.raises(InvalidStatus) as refused:
        Client(app.url, origin=origin)
    assert refused.value.response.status_code == 403
    with Client(app.url, origin=app.url) as own:
        own.start(seconds=0.1)
        own.until("session.done")


def test_elsewhere_there_is_no_socket_and_nothing_breaks(app, capfd):
    asking = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-key": "x3JJHMbDL1EzLkh9GBhXDw==",
        "sec-websocket-version": "13",
    }
    assert httpx.get(app.url, headers=asking, timeout=60).status_code == 200
    assert "<h1>One socket</h1>" in httpx.get(app.url + PATH, timeout=60).text
    incomplete = {name: asking[name] for name in ("connection", "upgrade")}
    assert httpx.get(app.url + PATH, headers=incomplete, timeout=60).status_code in (400, 426)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_no_words_reach_the_log(app, client, caplog, capfd):
    with caplog.at_level("DEBUG", logger="causvid"):
        client.start("a secret car", seconds=0.5)
        client.until("session.done")
        for wrong in ('{"type": "session.prompt_update", "prompt": "a secret"}', '{"secret": ['):
            client.say(wrong)
            assert client.hear()["type"] == "error"
    assert '"outcome": "finished"' in caplog.text
    assert "secret" not in caplog.text + "".join(capfd.readouterr())
