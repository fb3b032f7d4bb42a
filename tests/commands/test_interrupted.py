"""What `generate` made before it was ended is kept; what cannot be written is found out first."""

import json
import os
import resource
import signal
from pathlib import Path

import av
import pytest

from causvid.__main__ import main
from causvid.media import VideoWriter
from tests.standin import save_standin


@pytest.fixture(scope="module")
def standin(tmp_path_factory):
    return str(save_standin(tmp_path_factory.mktemp("standin")).folder)


def frames_of(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


def generate(standin: str, out: Path | str, *more: str) -> int:
    return main(["generate", "a red car", "--model", standin, "--out", str(out), "--quiet", *more])


@pytest.fixture
def after_three_chunks(monkeypatch):
    """Do something in the middle of a video."""

    def install(act):
        append, count = VideoWriter.append, 0

        def counted(self, frames):
            nonlocal count
            append(self, frames)
            count += 1
            if count == 3:
                act()

        monkeypatch.setattr(VideoWriter, "append", counted)

    return install


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_made(standin, tmp_path, after_three_chunks, number):
    after_three_chunks(lambda: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        generate(standin, tmp_path / "video.mp4", "--seconds", "60")
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) == before
    manifest = json.loads((tmp_path / "video.json").read_text())
    assert manifest["stopped"] and manifest["stopped_by"] == "viewer"
    assert frames_of(tmp_path / "video.mp4") == manifest["video"]["frames"] == 25
    assert sorted(path.name for path in tmp_path.iterdir()) == ["video.json", "video.mp4"]
    again = tmp_path / "again.mp4"
    assert main(["generate", "--manifest", str(tmp_path / "video.json"), "--out", str(again)]) == 2


def test_a_stopped_video_can_be_made_again(standin, tmp_path, after_three_chunks, monkeypatch):
    after_three_chunks(lambda: os.kill(os.getpid(), signal.SIGINT))
    out, again = tmp_path / "video.mp4", tmp_path / "again.mp4"
    with pytest.raises(SystemExit):
        generate(standin, out, "--seconds", "60")
    arguments = ["--manifest", str(tmp_path / "video.json"), "--model", standin, "--quiet"]
    assert main(["generate", *arguments, "--out", str(again)]) == 0
    assert again.read_bytes() == out.read_bytes()


def test_a_failure_keeps_what_was_made_and_is_told(standin, tmp_path, after_three_chunks):
    def fail():
        raise RuntimeError("out of tea")

    after_three_chunks(fail)
    with pytest.raises(RuntimeError, match="out of tea"):
        generate(standin, tmp_path / "video.mp4", "--seconds", "60")
    manifest = json.loads((tmp_path / "video.json").read_text())
    assert manifest["stopped_by"] == "failure"
    assert frames_of(tmp_path / "video.mp4") == manifest["video"]["frames"] == 25


def test_what_ends_before_the_first_chunk_leaves_nothing(standin, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("out of tea")

    monkeypatch.setattr("causvid.generation.stream.Stream.step", fail)
    with pytest.raises(RuntimeError):
        generate(standin, tmp_path / "video.mp4", "--seconds", "60")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("kilobytes", "kept"), [(100, True), (200, True), (1, False)])
def test_a_full_disk_is_a_sentence_and_what_had_room_plays(
    standin, tmp_path, capsys, kilobytes, kept
):
    """A limit of a file's size fails as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, hard))
    try:
        assert generate(standin, tmp_path / "o.mp4", "--seconds", "10") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err
    assert "no room" in said and "o.mp4" in said and "part" not in said
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]
    if kept:
        count = frames_of(tmp_path / "o.mp4")
        assert 4 <= count < 161 and f"holds the first {count} of" in said
    else:
        assert "nothing was kept" in said and list(tmp_path.iterdir()) == []
    assert generate(standin, tmp_path / "o.mp4", "--seconds", "1") == 0, "the next one works"


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("folder.mp4", "folder.mp4 is a folder; pass the name of a file"),
        ("no/such/out.mp4", "the folder for out.mp4 does not exist"),
        ("out.webm", "out.webm does not end in .mp4"),
        ("out", "out does not end in .mp4"),
        ("車" * 84 + ".mp4", "cannot be written: File name too long"),
        ("record.mp4", "record.json is a folder"),
        ("a" * 251 + ".mp4", "a.json cannot be written: File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_weights_are_loaded(
    standin, tmp_path, monkeypatch, capsys, out, said
):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "record.json").mkdir()
    monkeypatch.setattr("causvid.presets.loading.load", None)
    assert generate(standin, tmp_path / out) == 2
    error = capsys.readouterr().err
    assert said in error and ".part" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.mp4", "record.json"]


@pytest.mark.parametrize("name", ["車" * 75, "a" * 250, "🎬" * 60, ".", "-"])
def test_a_name_that_a_file_can_have_is_given_to_it(standin, tmp_path, name):
    assert generate(standin, tmp_path / f"{name}.mp4", "--seconds", "0.5") == 0
    assert (tmp_path / f"{name}.mp4").is_file() and (tmp_path / f"{name}.json").is_file()


def test_if_only_the_last_step_fails_the_video_stays_and_its_place_is_told(
    standin, tmp_path, after_three_chunks, capsys
):
    out = tmp_path / "out.mp4"
    after_three_chunks(out.mkdir)
    assert generate(standin, out, "--seconds", "2") == 2
    said = capsys.readouterr().err
    (kept,) = (path for path in tmp_path.iterdir() if path.is_file())
    assert "out.mp4 cannot be put in its place" in said and str(kept) in said
    assert frames_of(kept) == 37
