"""A server leaves no temporary file, however it ends, and sweeps what killed ones left."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from causvid.serving.process import PREFIX, sweep

SERVE = """
import pathlib, sys, tempfile, threading, time
from causvid.serving.process import ServerProcess

with ServerProcess() as process:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="run-"))
    assert folder.is_relative_to(process.folder)

    def write():  # as a run does: threads of its own, and files that come and go
        for number in range(10**9):
            folder.mkdir(exist_ok=True)
            (folder / str(number)).write_bytes(bytes(1000))
            time.sleep(0.002)

    for _ in range(3):
        threading.Thread(target=write, daemon=SHARED).start()
    print("serving", flush=True)
    process.serve(stop=lambda: time.sleep(0.3))
"""


@contextmanager
def server(place: Path, **options) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-c", SERVE.replace("SHARED", str(options.pop("daemon", True)))]
    environment = {**os.environ, "TMPDIR": str(place)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=pipe, text=True, **options
    ) as process:
        try:
            assert process.stdout.readline() == "serving\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_once_or_twice_leaves_nothing_and_says_nothing(tmp_path, number, times):
    with server(tmp_path) as process:
        for _ in range(times):
            process.send_signal(number)
        assert process.wait(20) == 0
        assert list(tmp_path.iterdir()) == []
        assert process.stderr.read() == ""


def test_signals_of_all_kinds_together_are_one_end(tmp_path):
    with server(tmp_path) as process:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
        assert process.wait(20) == 0
        assert list(tmp_path.iterdir()) == [] and process.stderr.read() == ""


def test_threads_that_go_on_are_not_waited_for(tmp_path):
    with server(tmp_path, daemon=False) as process:
        process.terminate()
        assert process.wait(20) == 0
        assert list(tmp_path.iterdir()) == []


def test_a_server_that_was_started_to_outlive_its_terminal_does(tmp_path):
    """As `nohup` starts it."""
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    command = [sys.executable, "-c", ignore + SERVE.replace("SHARED", "True")]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"serving\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        assert process.wait(20) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_next_server_sweeps_what_a_killed_one_left_and_no_living_ones(tmp_path):
    with server(tmp_path) as living, server(tmp_path) as killed:
        mine, other = tmp_path / f"{PREFIX}mine", tmp_path / "causvid-of-somebody"
        mine.symlink_to(other)
        other.mkdir()
        killed.kill()
        killed.wait(20)
        assert len(list(tmp_path.iterdir())) == 4
        with server(tmp_path) as third:
            left = {path.name for path in tmp_path.iterdir()}
            assert len(left) == 4 and {mine.name, other.name} <= left
            assert living.poll() is third.poll() is None
            for process in (living, third):
                process.terminate()
                assert process.wait(20) == 0
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, other.name}


def test_a_folder_that_was_half_emptied_is_swept(tmp_path):
    (tmp_path / f"{PREFIX}abc.gone" / "work").mkdir(parents=True)
    (tmp_path / f"{PREFIX}a-file").touch()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{PREFIX}a-file"]


def test_without_a_place_for_temporary_files_the_start_is_refused(tmp_path):
    program = (
        "import tempfile, runpy; tempfile._candidate_tempdir_list = lambda: ['/nowhere/at/all']\n"
        "runpy.run_path('app.py', run_name='__main__')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 2
    assert ended.stderr == (
        "app.py: there is no folder that temporary files can be written to; name one in TMPDIR\n"
    )
