"""A folder of captioned videos is enough for a model of another world."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import AutoTokenizer

from causvid.__main__ import main
from causvid.world.tokenizer import words_of
from tests.videos import write_video

SIDE, FRAMES = 64, 25
COLOURS = {"ruby": (200, 30, 60), "teal": (20, 150, 140)}
WAYS = {"left": -1, "right": 1}
RECIPE = {
    "recipe": "pocket-2",
    "generation": {"height": SIDE, "width": SIDE},
    "transformer": {"num_layers": 1, "num_attention_heads": 1, "ffn_dim": 64},
    "data": {"clips": 2, "latents": 7, "more_sizes": []},
    "codec": {"clips": 8},
    "decoder": {"steps": 1, "pool": 2, "clips": 1, "crop": [64, 64]},
    "teacher": {"phases": [{"frames": 1, "batch": 2, "steps": 1}]},
    "causal": {"phases": [{"frames": 7, "batch": 1, "steps": 1}]},
    "consistency": {"steps": 1, "batch": 1},
    "dmd": {"steps": 1, "batch": 1, "rollout_chunks": [3], "critic_updates": 1},
}


@pytest.fixture
def videos(tmp_path) -> Path:
    """Squares that slide over stripes."""
    folder = tmp_path / "videos"
    folder.mkdir()
    stripes = np.broadcast_to(np.arange(SIDE)[:, None, None] * 3 % 256, (SIDE, SIDE, 3))
    for (colour, rgb), (way, sign) in product(COLOURS.items(), WAYS.items()):
        frames = np.repeat(stripes[None], FRAMES, axis=0).astype(np.uint8)
        for index, frame in enumerate(frames):
            x = 24 + sign * index // 2
            frame[24:40, x : x + 16] = rgb
        write_video(folder / f"{colour}-{way}.mp4", frames, fps=16)
        (folder / f"{colour}-{way}.txt").write_text(f"a {colour} square slides {way}\n")
    return folder


def events(folder: Path) -> list[Path]:
    return list(folder.rglob("events.*"))


@pytest.mark.slow
def test_a_folder_of_captioned_videos_becomes_a_model_that_knows_their_words(
    videos, tmp_path, capsys
):
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))

    def train(stage: str, *options: object) -> int:
        where = ("--recipe", tmp_path / "recipe.json", "--run", tmp_path / "run")
        return main(["train", stage, *map(str, (*where, *options))])

    assert train("codec", "--videos", videos) == 0
    assert train("decoder", "--videos", videos) == 0
    assert train("data", "--videos", videos) == 0
    (tmp_path / "shown.txt").write_text("a ruby square slides right\na square\n")
    for stage in ("teacher", "causal", "consistency", "dmd"):
        shown = ("--sheet", tmp_path / "shown.txt", "--tracker", "tensorboard")
        assert train(stage, *shown) == 0
        with Image.open(tmp_path / f"run/{stage}/sheet.png") as sheet:
            assert sheet.width > 2 * 4 * SIDE, "two prompts side by side, four pictures of each"
        assert any(b"loss" in file.read_bytes() for file in events(tmp_path / f"run/{stage}"))
    assert train("export", "--out", tmp_path / "model") == 0
    known = AutoTokenizer.from_pretrained(tmp_path / "model/tokenizer").get_vocab()
    assert {"ruby", "teal", "slides", "left"} <= known.keys()
    assert "desert" not in known, "a word of the recipe's own world"
    asked = ["a teal square slides left", "--model", str(tmp_path / "model"), "--seconds", "1"]
    assert main(["generate", *asked, "--out", str(tmp_path / "out.mp4")]) == 0
    assert (tmp_path / "out.mp4").stat().st_size

    assert train("data", "--videos", videos) == 0, "the same captions, once more"
    (videos / "teal-left.txt").write_text("a violet square slides left\n")
    assert train("data", "--videos", videos) == 2
    assert "reads other words than these captions have" in capsys.readouterr().err


def test_words_are_told_apart_as_the_tokenizer_does():
    assert words_of("Zwei Bälle: it's 3 red-balls!") == ["zwei", "balle", "it", "s", "red", "balls"]
