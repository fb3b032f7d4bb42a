"""Training logs become pictures, one panel for each figure, whatever the logs hold."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from causvid.__main__ import main
from causvid.training.curves import draw_curves, read_log


def write_log(folder: Path, rows: list[dict]) -> Path:
    folder.mkdir(parents=True)
    log = folder / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return log


@pytest.fixture
def teacher(tmp_path) -> Path:
    rows = [
        {"step": step, "cpu_seconds": 2.0 * step, "loss": 50 / step, "grad_norm": 1.0}
        for step in range(1, 101)
    ]
    return write_log(tmp_path / "run" / "teacher", rows)


@pytest.fixture
def student(tmp_path) -> Path:
    rows = [{"step": 10, "cpu_seconds": 5.0, "loss": 0.4, "critic_loss": 0.1}]
    return write_log(tmp_path / "run" / "dmd", rows)


def test_columns_keep_their_place_where_a_line_lacks_a_figure(tmp_path):
    log = write_log(tmp_path / "a", [{"step": 1, "loss": 2.0}, {"step": 2, "other": 3.0}])
    columns = read_log(log)
    np.testing.assert_array_equal(columns["loss"], [2.0, np.nan])
    np.testing.assert_array_equal(columns["other"], [np.nan, 3.0])


def test_runs_are_drawn_together_even_where_their_figures_differ(teacher, student, tmp_path):
    for against in ("step", "cpu_seconds"):
        out = tmp_path / f"{against}.png"
        draw_curves({"teacher": teacher, "dmd": student}, out, against=against)
        picture = np.asarray(PIL.Image.open(out).convert("RGB"), float)
        assert picture.std() > 10  # something was drawn


def test_a_long_log_is_no_larger_a_picture_than_a_short_one(teacher, student, tmp_path):
    sizes = []
    for log in (teacher, student):
        draw_curves({"run": log}, tmp_path / "curves.png")
        sizes.append(PIL.Image.open(tmp_path / "curves.png").size)
    assert sizes[0] == sizes[1]


def test_what_cannot_be_drawn_is_named(teacher, tmp_path):
    with pytest.raises(ValueError, match="has that stage been trained"):
        draw_curves({"a": tmp_path / "missing" / "log.jsonl"}, tmp_path / "a.png")
    with pytest.raises(ValueError, match="against step or seconds or cpu_seconds, got 'hours'"):
        draw_curves({"a": teacher}, tmp_path / "a.png", against="hours")


def test_the_command_draws_every_stage_of_a_run(teacher, student):
    run = teacher.parents[1]
    assert main(["train", "curves", "--run", str(run)]) == 0
    assert [log.with_name("curves.png").exists() for log in (teacher, student)] == [True, True]


def test_the_command_draws_several_runs_into_one_picture(teacher, student, tmp_path):
    out = tmp_path / "together.png"
    folders = [str(log.parent) for log in (teacher, student)]
    assert main(["train", "curves", "--logs", *folders, "--out", str(out)]) == 0
    assert out.exists()


def test_a_run_without_logs_is_refused(tmp_path, capsys):
    assert main(["train", "curves", "--run", str(tmp_path)]) == 2
    assert "has a log" in capsys.readouterr().err
