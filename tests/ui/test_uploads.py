"""Nothing that was uploaded outlives its time, and nothing at all the server."""

import os
from pathlib import Path

from causvid.ui.files import VARIABLE, Uploads


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_old_files_go_with_their_folders_and_new_ones_stay(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with Uploads(keep=60) as uploads:
        folder = Path(os.environ[VARIABLE])
        for name in ("old", "new", "both"):
            (folder / name).mkdir()
        for name in ("old/a.png", "both/a.png", "broken-off"):
            (folder / name).touch()
            age(folder / name, 100)
        for name in ("new/b.png", "both/b.png"):
            (folder / name).touch()
        age(folder / "old", 100)
        uploads.sweep()
        left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert left == {"new/b.png", "both/b.png"}
        for name in ("old", "new", "both"):
            if (folder / name).exists():
                age(folder / name, 100)
        uploads.sweep()
        assert {path.name for path in folder.iterdir()} == {"new", "both"}
    assert not folder.exists()
    assert VARIABLE not in os.environ


def test_a_folder_of_the_operators_choice_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "mine").touch()
    age(tmp_path / "mine", 100)
    with Uploads(keep=60) as uploads:
        uploads.sweep()
    assert (tmp_path / "mine").exists()
    assert os.environ[VARIABLE] == str(tmp_path)
