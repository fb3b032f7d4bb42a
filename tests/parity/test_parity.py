"""The parity command agrees with reference runs, and notices whatever does not agree."""

import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from causvid.model.cache import KVCache
from tests.parity import run
from tests.parity.__main__ import main
from tests.parity.case import relative_error
from tests.parity.rollouts import LongLiveCache, in_order

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = [
    "dit/weights",
    "keys/vae_official_to_diffusers",
    "selfforcing/rollout_i2v",
    "selfforcing/teacher_forcing_forward",
    "text/umt5_tiny",
]
PASS = r"parity: (\d+) of (\d+) cases agree, worst relative error (\S+)"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A reference folder with a few of the real cases."""
    for case in CASES:
        for suffix in (".json", ".safetensors"):
            source, target = GOLDEN / f"{case}{suffix}", tmp_path / f"{case}{suffix}"
            if source.exists():
                target.parent.mkdir(exist_ok=True)
                shutil.copy(source, target)
    return tmp_path


def change(folder: Path, case: str, edit) -> None:
    """Rewrite the tensors of a case, and what its JSON lists of them."""
    tensors, path = load_file(folder / f"{case}.safetensors"), folder / f"{case}.json"
    edit(tensors)
    save_file(tensors, folder / f"{case}.safetensors")
    settings = json.loads(path.read_text())
    settings["tensors"] = {
        name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for name, tensor in tensors.items()
    }
    path.write_text(json.dumps(settings))


def only_failure(folder: Path) -> str:
    """Why the one case that fails does so."""
    (failed,) = [result for result in run(folder) if not result.agrees]
    return failed.failure or failed.worst


def test_all_cases_of_a_reference_folder_agree(folder, capsys):
    assert main([str(folder)]) == 0
    *rows, summary = capsys.readouterr().out.splitlines()
    agreeing, total, worst = re.fullmatch(PASS, summary).groups()
    assert (int(agreeing), int(total)) == (len(CASES), len(CASES))
    assert float(worst) < 1e-5
    for case in CASES:
        (row,) = [row for row in rows if row.startswith(f"{case} ")]
        assert "FAILED" not in row


def test_nested_checkpoints_are_cases_of_their_own(folder):
    weights = load_file(folder / "dit/weights.safetensors")
    wrong = {name: value + 1 for name, value in weights.items()}
    good = {"generator": wrong, "critic": wrong, "generator_ema": weights}
    torch.save(good, folder / "dit/good.pt")
    torch.save({"generator": wrong, "critic": weights}, folder / "dit/wrong.pt")
    results = {result.case: result for result in run(folder)}
    assert results["dit/good.pt"].agrees
    assert not results["dit/wrong.pt"].agrees


@pytest.mark.parametrize(
    "case, name",
    [
        ("selfforcing/rollout_i2v", "latents"),
        ("selfforcing/rollout_i2v", "draw02"),
        ("selfforcing/rollout_i2v", "initial_latent"),
        ("selfforcing/teacher_forcing_forward", "x0"),
        ("selfforcing/teacher_forcing_forward", "clean_x"),
        ("text/umt5_tiny", "hidden"),
    ],
)
def test_a_deviation_of_one_thousandth_fails(folder, capsys, case, name):
    def disturb(tensors):
        tensors[name] = tensors[name] * (1 + 1e-3 * torch.randn(tensors[name].shape))

    change(folder, case, disturb)
    assert main([str(folder)]) == 1
    summary = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(PASS, summary).groups()[:2] == (str(len(CASES) - 1), str(len(CASES)))


def test_a_single_wrong_number_fails(folder):
    def disturb(tensors):
        tensors["latents"][0, -1, 3, 2, 1] += 1e-3 * tensors["latents"].abs().max()

    change(folder, "selfforcing/rollout_i2v", disturb)
    assert only_failure(folder) == "latents"


def test_an_index_off_by_one_fails(folder):
    change(folder, "selfforcing/rollout_i2v", lambda t: t["cache.local_end_index"].add_(1))
    assert only_failure(folder) == "cache.local_end_index"


def test_a_case_of_unknown_kind_fails(folder):
    (folder / "dit/novelty.json").write_text('{"about": "something new"}')
    assert only_failure(folder) == "is of no known kind"


def test_a_case_that_raises_fails_in_one_line_and_the_others_run(folder):
    path = folder / "selfforcing/rollout_i2v.json"
    path.write_text(path.read_text().replace('"local_attn_size": -1', '"local_attn_size": 1'))
    assert "window" in only_failure(folder)


def test_a_tensor_that_nothing_compares_fails_its_case(folder):
    case = "selfforcing/rollout_i2v"
    change(folder, case, lambda t: t.update({"aftermath": torch.zeros(2)}))
    assert only_failure(folder) == "not compared: aftermath"


def test_draws_too_few_or_too_many_fail(folder):
    case = "selfforcing/rollout_i2v"
    change(folder, case, lambda tensors: tensors.update(draw99=tensors["draw00"].clone()))
    assert only_failure(folder) == "has more draws than the rollout needs"
    change(folder, case, lambda tensors: [tensors.pop(name) for name in ("draw99", "draw05")])
    assert only_failure(folder) == "has fewer draws than the rollout needs"


def test_json_and_tensors_must_belong_together(folder):
    (folder / "text/umt5_tiny.json").unlink()
    assert only_failure(folder) == "there is no text/umt5_tiny.json"
    shutil.copy(GOLDEN / "text/umt5_tiny.json", folder / "text/umt5_tiny.json")
    (folder / "text/umt5_tiny.safetensors").unlink()
    assert "umt5_tiny.safetensors cannot be read" in only_failure(folder)


def test_weights_of_another_shape_fail_all_that_run_on_them(folder):
    path = folder / "dit/weights.json"
    path.write_text(path.read_text().replace('"num_layers": 3', '"num_layers": 2'))
    failed = [result.case for result in run(folder) if not result.agrees]
    assert failed == [case for case in CASES if case.startswith(("dit", "selfforcing"))]


def test_a_folder_without_cases_is_an_error(tmp_path, capsys):
    with pytest.raises(ValueError, match="holds no case"):
        run(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        run(tmp_path / "nowhere")
    assert main([str(tmp_path)]) != 0


def test_the_relative_error_sees_spread_and_concentrated_deviations():
    expected = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    assert relative_error(expected, expected) == 0
    assert relative_error(expected * 1.01, expected) == pytest.approx(0.01, rel=1e-3)
    one = expected.clone()
    one[7] += 0.01 * expected.abs().max()
    assert relative_error(one, expected) == pytest.approx(0.01, rel=1e-3)
    assert relative_error(expected - expected, expected) == pytest.approx(1)


def test_the_relative_error_of_what_is_not_a_number_is_not_small():
    expected = torch.ones(3)
    assert math.isnan(relative_error(torch.tensor([1.0, math.nan, 1.0]), expected))
    assert relative_error(torch.full((3,), 1e-3), torch.zeros(3)) > 1e-4


def test_integers_agree_exactly_or_not_at_all():
    expected = torch.tensor([100_000])
    assert relative_error(torch.tensor([100_000.0]), expected) == 0
    assert relative_error(torch.tensor([100_001]), expected) == math.inf


def test_rounding_to_half_precision_is_no_error():
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert relative_error(values, values.half()) == 0
    assert relative_error(values + 2e-3, values.half()) > 1e-3


def filled(kind: type[KVCache], *, window: int, sink: int) -> KVCache:
    """Three one-frame chunks of one token, each written twice: frame + 0.5, then frame."""
    cache = kind(
        num_layers=1,
        batch=1,
        heads=1,
        head_dim=2,
        grid=(1, 1),
        window=window,
        sink=sink,
        sink_rotation="absolute",
    )
    for frame in range(3):
        cache.open(1)
        for value in (frame + 0.5, frame):
            token = torch.full((1, 1, 1, 2), float(value))
            cache.write(0, token, token)
        cache.advance()
    return cache


def test_an_ordered_cache_lists_the_sink_and_then_the_window():
    keys, values = in_order(filled(KVCache, window=2, sink=1), 0)
    assert keys[0, :, 0, 0].tolist() == values[0, :, 0, 0].tolist() == [0, 2]


def test_the_cache_of_longlive_keeps_noisy_keys_in_a_long_sink():
    keys, _ = in_order(filled(LongLiveCache, window=4, sink=2), 0)
    assert keys[0, :, 0, 0].tolist() == [0, 1.5, 2]
    keys, _ = in_order(filled(KVCache, window=4, sink=2), 0)
    assert keys[0, :, 0, 0].tolist() == [0, 1, 2]


def test_the_cache_of_longlive_attends_to_zeros_in_an_unfilled_sink():
    cache = filled(LongLiveCache, window=4, sink=2)
    cache.reset()
    cache.open(1)
    token = torch.ones(1, 1, 1, 2)
    keys, _ = cache.write(0, token, token)
    assert keys[0, :, 0, 0].tolist() == [1, 0]
