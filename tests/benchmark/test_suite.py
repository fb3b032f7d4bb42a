"""The suite loses nothing that it has measured, whatever becomes of a part.

Nothing here imports torch at the top: other processes import this module.
"""

import json
import os
import time
from pathlib import Path

import pytest

from causvid.__main__ import main
from causvid.benchmark import suite
from causvid.benchmark.suite import Plan, run

NAMES = ("first", "second", "third")


def work(connection, done, expected=0.0, longest=30.0, **behaviour):
    """Parts that do as told, the way `measure_parts` reports them."""
    connection.send(("about", {"device": "a machine"}))
    connection.send(("parts", NAMES))
    for name in NAMES:
        if name in done:
            continue
        connection.send(("next", (name, expected, longest)))
        if connection.recv():
            figures = behaviour.get(name, lambda: {"fps": 1.0})()
            connection.send(("result", {"name": name, "seconds": 0.0, "figures": figures}))
    connection.send(("end", "done"))


def well(connection, plan, done):
    def seen():
        return {"seen": json.loads((Path(plan.model) / "suite.json").read_text())["parts"]}

    work(connection, done, third=seen)


def hanging(connection, plan, done):
    work(connection, done, longest=1.0, second=lambda: time.sleep(600))


def dying(connection, plan, done):
    work(connection, done, second=lambda: os._exit(9))


def stillborn(connection, plan, done):
    os._exit(3)


def lavish(connection, plan, done):
    work(connection, done, expected=1000.0)


def endless(connection, plan, done):
    work(connection, done, longest=1000.0, second=lambda: time.sleep(600))


def spoiling(connection, plan, done):
    """The first part leaves a device that is of no use any more."""
    if done:
        work(connection, done)
    else:
        connection.send(("about", {}))
        connection.send(("parts", NAMES))
        connection.send(("next", ("first", 0.0, 30.0)))
        connection.recv()
        failed = {"name": "first", "seconds": 1.0, "note": "failed: an illegal address"}
        connection.send(("result", failed))
        connection.send(("end", "restart"))


@pytest.fixture(scope="module")
def standin(tmp_path_factory) -> Path:
    from tests.standin import save_standin

    folder = save_standin(tmp_path_factory.mktemp("model")).folder
    assert folder is not None
    return folder


def rows(folder) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((folder / "suite.json").read_text())["parts"]}


def test_results_are_in_the_folder_after_every_part(tmp_path):
    report = run(Plan(str(tmp_path)), tmp_path, 60, well)
    assert report.done == NAMES
    seen = rows(tmp_path)["third"]["figures"]["seen"]
    assert [row["name"] for row in seen] == ["first", "second"]
    table = (tmp_path / "suite.md").read_text()
    assert "device: a machine" in table and "| first | 0.0 | fps 1 |" in table


@pytest.mark.parametrize(
    ("worker", "reason"), [(hanging, "it took too long"), (dying, "its process ended (9)")]
)
def test_a_part_that_hangs_or_dies_costs_its_own_row(tmp_path, worker, reason):
    run(Plan(), tmp_path, 60, worker)
    found = rows(tmp_path)
    assert list(found) == list(NAMES)
    assert found["second"]["note"] == f"failed: {reason}"
    assert found["first"]["figures"] == found["third"]["figures"] == {"fps": 1.0}


def test_a_device_that_a_part_has_spoilt_is_taken_by_another_process(tmp_path):
    run(Plan(), tmp_path, 60, spoiling)
    found = rows(tmp_path)
    assert found["first"]["note"] == "failed: an illegal address"
    assert found["third"]["figures"]


def test_a_model_that_cannot_be_loaded_is_one_row(tmp_path):
    run(Plan(), tmp_path, 60, stillborn)
    assert {name: row["note"] for name, row in rows(tmp_path).items()} == {
        "start": "failed: its process ended (3)"
    }


def test_what_does_not_fit_into_the_time_is_not_begun(tmp_path):
    run(Plan(), tmp_path, 60, lavish)
    assert all("skipped: takes about 1000 s" in row["note"] for row in rows(tmp_path).values())


def test_it_ends_when_its_time_is_over(tmp_path):
    started = time.monotonic()
    run(Plan(), tmp_path, 4, endless)
    assert time.monotonic() - started < 100  # not 600
    found = rows(tmp_path)
    assert found["second"]["note"] == "failed: it took too long"
    assert found["third"]["note"] == "skipped: no time left"


def test_a_part_that_raises_says_so_and_the_next_goes_on(standin, monkeypatch):
    from causvid.benchmark import parts

    def broken(bench):
        raise RuntimeError("no kernel image\nis available")

    rows = (
        parts.Part("broken", broken, 0, 1),
        parts.Part("left out", broken, 0, 1),
        parts.Part("parity", parts._parity, 0, 60),
    )
    monkeypatch.setattr(parts, "PARTS_OF_A_CPU", rows)
    answers = iter([True, False, True])
    messages = list(parts.measure_parts(Plan(str(standin), "cpu"), (), lambda: next(answers)))
    about, planned, *_, end = messages
    assert about[1]["torch"] and planned[1] == ("broken", "left out", "parity")
    failed, found = (content for kind, content in messages if kind == "result")
    assert failed["note"] == "failed: RuntimeError: no kernel image"
    assert "in broken" in failed["trace"]
    assert found["figures"]["static_to_own"] < 1e-2 and found["figures"]["again_equal"]
    assert end == ("end", "done")


@pytest.mark.slow
def test_both_paths_are_measured_on_a_cpu(standin, tmp_path, capsys):
    command = ["benchmark", "--suite", str(tmp_path), "--model", str(standin), "--device", "cpu"]
    assert main(command) == 0
    found = rows(tmp_path)
    assert not any(row["note"] for row in found.values())
    for name in ("plain", "static"):
        figures = found[name]["figures"]
        assert figures["fps"] > 0 and figures["chunk_ms_p95"] >= figures["chunk_ms_p50"] > 0
        assert sum(figures["of_it"].values()) == pytest.approx(figures["first_picture_s"])
    assert "| plain |" in capsys.readouterr().out


def test_a_time_without_a_suite_is_refused(tmp_path, capsys):
    assert main(["benchmark", "--budget-seconds", "5"]) == 2
    assert "add --suite OUT" in capsys.readouterr().err
    assert main(["benchmark", "--suite", str(tmp_path), "--budget-seconds", "0"]) == 2
    assert "must be above 0, got 0" in capsys.readouterr().err


def test_the_budget_of_a_pass_adds_up(generator):
    import torch

    from causvid.benchmark.budget import Ceilings, budget
    from causvid.presets.costs import modulation_flops, transformer_flops

    at = Ceilings(flops=1e9, bandwidth=1e9)
    for row in budget(generator, torch.bfloat16, at):
        whole = transformer_flops(generator.transformer, generator.grid, 3, row.visible)
        whole -= modulation_flops(generator.transformer, 3)
        assert row.products + row.attention == whole
        assert row.at_best == pytest.approx((whole + row.activations) / 1e9)
    assert row.visible == generator.config.window
    cache = generator.new_cache()
    stored = sum(it.numel() for it in (*cache.keys, *cache.values)) * 2
    assert row.cache == stored


def test_the_budget_is_printed(capsys):
    assert main(["benchmark", "--budget", "--model", "pocket", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "TFLOP/s" in out and "at best, ms" in out
    assert suite.BUDGET_SECONDS <= 540
