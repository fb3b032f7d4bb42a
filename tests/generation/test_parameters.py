"""Seeds and sizes in the forms that programs write them."""

import json

import numpy as np
import pytest
import torch

from causvid.__main__ import main
from causvid.generation.parameters import check_seed, parse_size
from causvid.serving.request import Request

WHOLE = [
    5,
    np.int64(5),
    np.uint8(5),
    np.array(5),
    5.0,
    np.float64(5),
    torch.tensor(5),
]


@pytest.mark.parametrize("seed", WHOLE, ids=lambda it: type(it).__name__)
def test_a_whole_number_of_any_type_is_the_same_seed(pipeline, seed):
    with pipeline.stream("a red car", seconds=0.2, seed=seed) as stream:
        frames = stream.step().frames
    with pipeline.stream("a red car", seconds=0.2, seed=5) as stream:
        np.testing.assert_array_equal(stream.step().frames, frames)
    request = Request(model="pocket", prompts="a red car", seed=seed)
    assert json.loads(json.dumps(request.model_dump(mode="json")))["seed"] == 5
    assert type(request.seed) is type(check_seed(seed)) is int


@pytest.mark.parametrize(
    "seed",
    [None, "5", 1.5, float("nan"), -1, 2**63, 10**5000, True, [5], np.array([1, 2])],
    ids=lambda it: type(it).__name__,
)
def test_anything_else_is_refused_by_name_before_any_work(pipeline, seed):
    with pytest.raises(ValueError, match="seed"):
        pipeline.stream("a red car", seed=seed)


@pytest.mark.parametrize("seed", ["-1", str(2**63), "18446744073709551616"])
def test_the_command_takes_the_seeds_that_the_server_takes(tmp_path, capsys, seed):
    arguments = ["generate", "a red car", "--seed", seed, "--out", str(tmp_path / "v.mp4")]
    assert main([*arguments, "--model", "pocket"]) == 2
    assert f"the seed is {seed}; expected" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text", ["224x128", "224X128", "224×128", "224*128", " 224 x 128 ", "224 * 128"]
)
def test_a_size_is_read_in_every_common_form(text):
    assert parse_size(text) == (128, 224)


@pytest.mark.parametrize(
    "text", ["²x480", "1" * 5000 + "x480", "480p", "224", "224**128", "x128", "٢٢٤x128", "2.5x3"]
)
def test_what_is_no_size_is_answered_with_the_form(text):
    with pytest.raises(ValueError, match="expected WIDTHxHEIGHT, such as 832x480"):
        parse_size(text)
