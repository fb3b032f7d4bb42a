"""The public endpoints, called as a stranger would call them."""

import asyncio
import base64
import json
import os
import re
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from jsonschema import Draft202012Validator
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from causvid.ui.files import Uploads
from tests.appserver import running
from tests.videos import write_video

GENERATING = {"/text_to_video", "/image_to_video", "/video_to_video", "/scheduled_video", "/extend"}
PUBLIC = GENERATING | {"/steer", "/models", "/preflight"}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standin")
    with running(folder, max_seconds=30.0, viewers=2, waiting=2, max_prompt=200) as app:
        yield app


@pytest.fixture(scope="module")
def client(app):
    return Client(app.url, verbose=False)


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("inputs") / "picture.png"
    pixels = np.zeros((90, 90, 3), np.uint8)
    pixels[:, :45] = (200, 30, 30)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("inputs") / "clip.mp4"
    frames = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    write_video(path, frames, fps=16)
    return path


def decoded(path: str | Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_the_endpoints_are_documented_and_browser_events_are_not(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == PUBLIC
    text = [p["parameter_name"] for p in named["/text_to_video"]["parameters"]]
    assert text[:3] == ["prompt", "seconds", "seed"]
    video = [p["parameter_name"] for p in named["/video_to_video"]["parameters"]]
    assert video[:4] == ["video", "prompt", "strength", "seed"]
    for name in GENERATING:
        needed = [
            p["parameter_name"] for p in named[name]["parameters"] if not p["parameter_has_default"]
        ]
        assert set(needed) <= {"prompt", "image", "video", "schedule", "run"}
        assert [r["label"] for r in named[name]["returns"]] == ["chunk_mp4", "info", "final_mp4"]


def test_parameters_have_types_and_sentences(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    for endpoint in named.values():
        for parameter in endpoint["parameters"]:
            assert parameter["python_type"]["description"].endswith("."), parameter
            assert parameter["label"] == parameter["parameter_name"]
    told = {it["parameter_name"]: it for it in named["/video_to_video"]["parameters"]}
    whole = {name for name, it in told.items() if it["python_type"]["type"] == "int"}
    assert whole == {"seed", "steps", "window", "sink"}
    assert told["decoder"]["type"]["enum"] == ["full", "tiny"]
    components = {it["component"] for it in told.values()}
    assert components == {"File", "Textbox", "Number", "Checkbox", "Json"}


def test_chunks_come_in_order_and_add_up_to_the_final_video(client):
    job = client.submit("a red car", seconds=2, api_name="/text_to_video")
    chunks, infos = [], []
    for chunk, info, final in job:
        if final is None:
            chunks.append(decoded(chunk))
            infos.append(info)
    assert chunk is None
    assert [info["index"] for info in infos] == list(range(len(infos)))
    assert [info["frames"] for info in infos] == [len(part) for part in chunks]
    assert not any(info["done"] for info in infos) and info["done"]
    np.testing.assert_array_equal(np.concatenate(chunks), decoded(final))
    assert info["video"]["frames"] == sum(map(len, chunks))
    assert {info["run"] for info in infos} == {info["run"]}


def test_a_manifests_call_gives_the_same_video_again(client):
    text = "0s: a red car\n1s [blend:1]: a blue boat\n"
    _, manifest, final = client.predict(
        schedule=text, seconds=2, seed=7, api_name="/scheduled_video"
    )
    call = json.loads(json.dumps(manifest["call"]))
    _, again, repeated = client.predict(**call["parameters"], api_name=call["api_name"])
    np.testing.assert_array_equal(decoded(final), decoded(repeated))
    assert again["request"] == manifest["request"]


def test_a_schedule_may_be_text_or_json(client):
    cues = {"version": 1, "cues": [{"start": 0, "prompt": "a ball"}, {"start": 1, "prompt": "sea"}]}
    written = "0s: a ball\n1s: sea\n"
    finals = [
        client.predict(schedule, seconds=2, api_name="/scheduled_video")[2]
        for schedule in (cues, written, json.dumps(cues))
    ]
    first, *others = map(decoded, finals)
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_a_picture_begins_its_video(client, picture):
    _, manifest, final = client.predict(
        handle_file(picture), "a red car", seconds=1, api_name="/image_to_video"
    )
    assert manifest["request"]["mode"] == "image"
    assert len(decoded(final)) == manifest["video"]["frames"]


def test_a_video_gives_one_of_its_own_length(client, clip):
    _, manifest, final = client.predict(
        handle_file(clip), "a red car", strength=0.5, api_name="/video_to_video"
    )
    assert len(decoded(final)) == 20
    assert manifest["call"]["parameters"]["strength"] == 0.5


def test_a_video_can_be_extended_with_another_prompt(client):
    _, first, _ = client.predict("a red car", seconds=1, api_name="/text_to_video")
    _, whole, final = client.predict(
        first["run"], seconds=1, prompt="a blue boat", api_name="/extend"
    )
    assert len(decoded(final)) == whole["video"]["frames"] > first["video"]["frames"]
    assert whole["chunks"][-1]["prompt"] == "a blue boat"


@pytest.mark.usefixtures("unhurried")
def test_a_video_is_steered_while_it_is_made(client):
    job = client.submit("a red car", seconds=30, api_name="/text_to_video")
    chunks = iter(job)
    _, info, _ = next(chunks)
    assert info["prompt"] == "a red car"
    answer = client.predict(info["run"], "a blue boat", "swap", api_name="/steer")
    assert answer["accepted"]
    assert any(info["prompt"] == "a blue boat" for _, info, final in chunks if final is None)
    job.cancel()


def test_two_clients_are_served_at_once(app):
    def make(seed: int) -> np.ndarray:
        mine = Client(app.url, verbose=False)
        return decoded(mine.predict("a ball", seconds=2, seed=seed, api_name="/text_to_video")[2])

    with ThreadPoolExecutor(3) as pool:
        first, second, third = pool.map(make, (1, 2, 1))
    np.testing.assert_array_equal(first, third)
    assert not np.array_equal(first, second)


@pytest.mark.usefixtures("unhurried")
def test_cancelling_gives_the_device_back(app, client):
    job = client.submit("a red car", seconds=30, api_name="/text_to_video")
    next(iter(job))
    assert app.service.device.load[0] == 1
    assert job.cancel()
    deadline = time.monotonic() + 5
    while app.service.device.load != (0, 0) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert app.service.device.load == (0, 0)


def test_the_models_and_their_cost_are_told(client):
    (model,) = client.predict(api_name="/models")
    assert model["name"] == "standin" and model["licence"]["commercial_use"]
    cost = client.predict(api_name="/preflight")
    assert cost["fits"] and cost["total_bytes"] > 0


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"prompt": "  "}, "the prompt is empty"),
        ({"prompt": "x" * 201}, "201 characters; allowed are 200"),
        ({"prompt": "a", "seconds": 31}, "31 s; allowed are 30"),
        ({"prompt": "a", "seconds": -1}, "expected more than 0"),
        ({"prompt": "a", "seed": -1}, "the seed is -1"),
        ({"prompt": "a", "seed": 0.5}, "a whole number"),
        ({"prompt": "a", "size": "big"}, "WIDTHxHEIGHT"),
        ({"prompt": "a", "size": "97x64"}, "not a multiple of 8"),
        ({"prompt": "a", "size": "4000x4000"}, "16,000,000 pixels; allowed are"),
        ({"prompt": "a", "model": "sora"}, "offered are standin"),
        ({"prompt": "a", "decoder": "fast"}, "full or tiny"),
        ({"prompt": "a", "decoder": "tiny"}, "no tiny decoder"),
        ({"prompt": "a", "steps": 99}, "1 … 50"),
        ({"prompt": "a", "window": 1}, "cannot hold"),
        ({"prompt": "a", "window": 10**6}, "the window is 1000000 latent frames; allowed are 21"),
        ({"prompt": "a", "seconds": "long"}, "the length is 'long'; expected a number"),
        ({"prompt": "a", "seconds": True}, "the length is True; expected a number"),
        ({"prompt": "a", "seed": None}, "the seed is empty; expected a whole number"),
        ({"prompt": "a", "seed": "x"}, "the seed is 'x'; expected a whole number"),
        ({"prompt": "a", "steps": "few"}, "the number of steps is 'few'; expected a whole number"),
        ({"prompt": "a", "sink": 0.5}, "the sink is 0.5; expected a whole number"),
    ],
)
def test_what_is_beyond_the_limits_is_refused_with_a_reason(app, client, parameters, said):
    with pytest.raises(AppError, match=said):
        client.predict(**parameters, api_name="/text_to_video")
    assert app.service.device.load == (0, 0)


def test_seconds_times_size_is_limited(app, client):
    object.__setattr__(app.service.settings, "max_work", 64 * 96 * 4.0)
    try:
        for endpoint in ("/text_to_video", "/scheduled_video"):
            with pytest.raises(AppError, match=r"5 s at 96x64 are too much; .* allowed are 4 s"):
                client.predict("a ball", 5, api_name=endpoint)
    finally:
        object.__setattr__(app.service.settings, "max_work", 1e9)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"seconds": "long"}, "the length is 'long'; expected a number"),
        ({"seconds": 1e9}, "allowed are 30"),
        ({"window": 10**6}, "allowed are 21"),
        ({"decoder": "fast"}, "full or tiny"),
    ],
)
def test_what_cannot_be_made_is_not_estimated(client, parameters, said):
    with pytest.raises(AppError, match=said):
        client.predict(**parameters, api_name="/preflight")


def test_words_in_place_of_a_file_are_refused(client):
    for name, endpoint in (("image", "/image_to_video"), ("video", "/video_to_video")):
        with pytest.raises(AppError, match=r"got 'red\.png' for a file; expected handle_file"):
            client.predict(**{name: "red.png", "prompt": "a ball"}, api_name=endpoint)


def test_a_run_goes_on_by_a_number_and_a_hand_over(client):
    _, manifest, _ = client.predict("a ball", seconds=1, api_name="/text_to_video")
    run = manifest["run"]
    for seconds, said in ((None, "is empty; expected a number"), ("x", "a number"), (0, "than 0")):
        with pytest.raises(AppError, match=f"the extension .*{said}"):
            client.predict(run, seconds, api_name="/extend")
    with pytest.raises(AppError, match="hand-over 'soft' is unknown; expected swap"):
        client.predict(run, 1, "a boat", "soft", api_name="/extend")
    _, longer, _ = client.predict(run, 1, "a boat", None, api_name="/extend")
    assert longer["request"]["prompts"]["cues"][-1]["handover"] == "recache", "the default"


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("0s: a ball\nsea", "line 2"),
        ([[0, "a ball"], [5, "sea"]], "video ends"),
        ([[1, "a ball"]], "row 1"),
        ({"cues": "none"}, "expected"),
        (None, "got None; expected {"),
        ("", "there is no prompt; expected words, or lines such as"),
        ([], "there is no cue; expected at least one, at 0 s"),
    ],
)
def test_a_bad_schedule_names_its_row(client, schedule, said):
    with pytest.raises(AppError, match=said):
        client.predict(schedule, seconds=2, api_name="/scheduled_video")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("noise.mp4", lambda clip: bytes(range(256)) * 40, "noise.mp4"),
        ("cut.mp4", lambda clip: clip[:200], "cut.mp4"),
        ("empty.mp4", lambda clip: b"", "empty"),
        ("words.mp4", lambda clip: b"#EXTM3U\n/etc/passwd\n", "words.mp4"),
    ],
)
def test_bad_videos_are_refused(app, client, clip, tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content(clip.read_bytes()))
    with pytest.raises(AppError, match=said):
        client.predict(handle_file(path), "a ball", api_name="/video_to_video")
    assert app.service.device.load == (0, 0)


def test_bad_pictures_are_refused(client, clip, tmp_path):
    wrong = tmp_path / "wrong.png"
    shutil.copy(clip, wrong)
    with pytest.raises(AppError, match="not a picture"):
        client.predict(handle_file(wrong), "a ball", api_name="/image_to_video")
    bomb = tmp_path / "bomb.png"
    Image.new("1", (12_000, 12_000)).save(bomb)
    with pytest.raises(AppError, match="12000x12000"):
        client.predict(handle_file(bomb), "a ball", api_name="/image_to_video")


def test_a_picture_under_a_wrong_name_is_still_a_picture(client, picture, tmp_path):
    misnamed = tmp_path / "picture.mp4"
    shutil.copy(picture, misnamed)
    _, manifest, _ = client.predict(
        handle_file(misnamed), "a ball", seconds=1, api_name="/image_to_video"
    )
    assert manifest["video"]["frames"]


def test_a_run_that_is_gone_cannot_be_steered_or_extended(client):
    with pytest.raises(AppError, match="there is no run"):
        client.predict("nobody", "a ball", api_name="/steer")
    with pytest.raises(AppError, match="there is no run"):
        client.predict("nobody", api_name="/extend")


def test_readiness_is_told(app):
    answer = httpx.get(f"{app.url}/healthz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ready"


def test_nothing_accumulates_on_the_server(app, client):
    for _ in range(3):
        client.predict("a ball", seconds=1, api_name="/text_to_video")
    for folder in app.service.results.iterdir():
        app.service.forget(folder.name)
    assert list(app.service._folder.glob("*/*")) == []


def written(title: str) -> set[str]:
    """The keys in a table of `examples/README.md`."""
    text = (Path(__file__).parents[2] / "examples" / "README.md").read_text(encoding="utf-8")
    table = text.partition(f"## {title}")[2].partition("\n## ")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return set(re.findall("`([a-z_]+)`", " ".join(first)))


def test_info_and_manifest_are_what_is_written_down(client):
    job = client.submit("a red car", seconds=1, api_name="/text_to_video")
    *_, (_, info, _), (_, manifest, _) = job
    assert set(info) == written("`info`, one per chunk")
    assert set(manifest) == written("The manifest")
    told, cost = (client.predict(api_name=name) for name in ("/models", "/preflight"))
    assert {*told[0], *cost} == written("What the others return")


def test_the_endpoints_are_mcp_tools_when_asked_for(tmp_path):
    async def use(url: str) -> None:
        async with (
            streamable_http_client(f"{url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as agent,
        ):
            await agent.initialize()
            tools = {tool.name: tool for tool in (await agent.list_tools()).tools}
            assert {f"/{name}" for name in tools} == PUBLIC
            for tool in tools.values():
                Draft202012Validator.check_schema(tool.inputSchema)
            assert "chunk by chunk" in tools["text_to_video"].description
            assert all(
                it["description"] for it in tools["extend"].inputSchema["properties"].values()
            )
            for schedule in ("0s: a ball\n0.5s: the sea", {"cues": [{"start": 0, "prompt": "a"}]}):
                parameters = {"schedule": schedule, "seconds": 1}
                answer = await agent.call_tool("scheduled_video", parameters)
                assert not answer.isError and ".mp4" in answer.content[0].text
            refused = await agent.call_tool("text_to_video", {"prompt": " "})
            assert refused.isError and "the prompt is empty" in refused.content[0].text

    with running(tmp_path, mcp=True) as app:
        asyncio.run(use(app.url))


def data_url(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


@pytest.fixture
def agents(tmp_path, monkeypatch):
    """A function that calls a tool as an agent does; afterwards, no file is left anywhere."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Uploads(keep=600):
        with running(tmp_path / "model", mcp=True) as app:

            def call(name: str, *calls: dict) -> list:
                async def use() -> list:
                    async with (
                        streamable_http_client(f"{app.url}/gradio_api/mcp/") as (read, write, _),
                        ClientSession(read, write) as agent,
                    ):
                        await agent.initialize()
                        return [await agent.call_tool(name, it) for it in calls]

                return asyncio.run(use())

            call.url = app.url
            yield call
        assert not list((tmp_path / "gradio").rglob("*.*")), "all is among the uploads"
    left = [path for path in tmp_path.rglob("*.*") if path.suffix in (".png", ".mp4", ".part")]
    assert not [path for path in left if path.parent != tmp_path]


@pytest.mark.slow
def test_a_picture_in_an_agents_call_goes_with_the_uploads(agents, picture):
    call = {"image": data_url(picture, "image/png"), "prompt": "a ball", "seconds": 0.5}
    wrong = ("data:image/png;base64,%%%", "data:,", "data:image/png;base64,AAAA")
    made, *refused = agents("image_to_video", call, *({**call, "image": it} for it in wrong))
    assert not made.isError, made.content
    assert any(Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*.png"))
    for answer in refused:
        assert answer.isError and len(answer.content[0].text.split()) > 2


@pytest.mark.slow
def test_a_video_in_an_agents_call_goes_with_the_uploads(agents, clip):
    call = {"video": data_url(clip, "video/mp4"), "prompt": "a ball"}
    (made,) = agents("video_to_video", call)
    assert not made.isError, made.content
    assert any(Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*.mp4"))


@pytest.mark.slow
def test_too_large_a_picture_in_an_agents_call_is_refused_with_the_way_out(agents):
    image = "data:image/png;base64," + "A" * 1_100_000
    call = {"name": "image_to_video", "arguments": {"image": image, "prompt": "a ball"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    accept = {"accept": "application/json, text/event-stream"}
    answer = httpx.post(f"{agents.url}/gradio_api/mcp/", json=message, headers=accept, timeout=60)
    assert answer.status_code == 413 and "http address" in answer.json()["detail"]
