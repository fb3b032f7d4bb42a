"""The client scripts do what `examples/README.md` says, and say in a sentence why they cannot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.appserver import running
from tests.videos import write_video

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"
WORDS = "a red car drives right"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with running(tmp_path_factory.mktemp("standin"), max_seconds=20) as app:
        yield app.url


@pytest.fixture
def run(url, tmp_path):
    """A function that runs a script in an empty folder."""

    def run_(script: str, *arguments: object, server: str = url) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, EXAMPLES / script, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "CAUSVID_SERVER": server},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run_


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    frames = np.random.default_rng(0).integers(0, 256, (20, 64, 96, 3), np.uint8)
    write_video(folder / "clip.mp4", frames, fps=16)
    Image.fromarray(frames[0]).save(folder / "picture.png")
    (folder / "story.txt").write_text("0s: a red car\n1s [flush]: a blue boat\n")
    (folder / "prompts.txt").write_text(f"{WORDS}\n# nothing\na blue boat  # a remark\n")
    return {path.stem: path for path in folder.iterdir()}


def frames_of(path: Path) -> np.ndarray:
    with av.open(path) as video:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


@pytest.mark.parametrize(
    ("script", "arguments", "needs"),
    [
        ("text.py", [WORDS, "--seconds", 2], []),
        ("image.py", ["picture", WORDS, "--seconds", 2], ["--image", "picture"]),
        ("video.py", ["clip", WORDS, "--strength", 0.6, "--adaptive"], ["--video", "clip"]),
        ("schedule.py", ["story", "--seconds", 2], []),
    ],
)
def test_every_mode_makes_a_video_that_its_manifest_makes_again(
    run, files, tmp_path, script, arguments, needs
):
    made = run(script, *(files.get(it, it) for it in arguments), "--out", "made.mp4")
    assert made.returncode == 0, made.stderr
    assert "chunk   1" in made.stdout
    assert json.loads((tmp_path / "made.json").read_text())["done"]
    again = run("reproduce.py", "made.json", *(files.get(it, it) for it in needs))
    assert again.returncode == 0, again.stderr
    first, second = (frames_of(tmp_path / name) for name in ("made.mp4", "again.mp4"))
    np.testing.assert_array_equal(first, second)


@pytest.mark.usefixtures("unhurried")
def test_a_run_is_steered_and_extended(run, tmp_path):
    made = run("steer.py", WORDS, "a blue boat", "--after", 1, "--seconds", 10, "--more", 1)
    assert made.returncode == 0, made.stderr
    manifest = json.loads((tmp_path / "steered.json").read_text())
    assert manifest["video"]["seconds"] >= 11
    assert [cue["prompt"] for cue in manifest["request"]["prompts"]["cues"]][-1] == "a blue boat"


def test_the_socket_is_followed_and_steered(run, tmp_path):
    made = run("realtime_client.py", WORDS, "a blue boat", "--after", 1, "--seconds", 4)
    assert made.returncode == 0, made.stderr
    assert "in force from chunk" in made.stdout and ": a blue boat" in made.stdout
    assert f": {len(frames_of(tmp_path / 'realtime.mp4'))} frames" in made.stdout
    refused = run("realtime_client.py", WORDS, "--seconds", 999)
    assert "allowed are 20" in refused.stderr and "Traceback" not in refused.stderr


def test_a_batch_goes_on_where_it_was(run, files, tmp_path):
    names = ["000.mp4", "001.mp4"]
    for _ in range(2):
        made = run("batch.py", files["prompts"], "--seconds", 1)
        assert made.returncode == 0, made.stderr
        assert sorted(path.name for path in (tmp_path / "videos").glob("*.mp4")) == names
    assert made.stdout == "", "all is there"


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("text.py", [WORDS, "--seconds", 999], "allowed are 20"),
        ("steer.py", ["", "a boat"], "the prompt is empty"),
        ("image.py", ["nothing.png", WORDS], "there is no file nothing.png"),
        ("image.py", ["story", WORDS], "not a picture"),
        ("video.py", ["picture", WORDS], "picture.png"),
        ("video.py", ["clip", WORDS, "--out", "clip"], "would be overwritten"),
        ("reproduce.py", ["story"], "is no manifest"),
    ],
)
def test_what_cannot_be_is_explained_without_a_traceback(run, files, script, arguments, said):
    refused = run(script, *(files.get(it, it) for it in arguments))
    assert refused.returncode != 0
    assert said in refused.stderr and "Traceback" not in refused.stderr


def test_a_server_that_is_not_there_is_named(run):
    refused = run("text.py", server="http://127.0.0.1:9")
    assert refused.returncode != 0
    assert "no server at http://127.0.0.1:9" in refused.stderr
    assert "Traceback" not in refused.stderr
