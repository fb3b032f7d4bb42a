"""Unknown words are pointed out, each with the known word that is spelt most like it."""

import pytest

from causvid.presets.registry import get_preset
from causvid.serving.words import nearest_words, remark, replaced


@pytest.mark.parametrize(
    "prompt, expected",
    [
        ("a red baloon rises", "“baloon” (like “balloon”?) is not a word"),
        ("a rokcet, two birds", "“rokcet” (like “rocket”?), “two”, “birds” (like “bird”?) are"),
        ("a zeppelin", "“zeppelin” is not a word"),
        ("Ein BALLOON", "“ein” is not a word"),
    ],
)
def test_an_unknown_word_is_named_with_the_nearest_known_one(prompt, expected):
    assert remark(get_preset("pocket"), prompt).startswith(expected)


def test_nothing_is_said_of_a_prompt_of_known_words():
    assert remark(get_preset("pocket"), "a red balloon rises at night") == ""


def test_a_known_word_takes_the_place_of_an_unknown_one():
    near = nearest_words(get_preset("pocket"), "A red Baloon and a zeppelin")
    assert near["baloon"] == "balloon" and near["zeppelin"] is None
    assert replaced("a Baloon, baloons, baloon", "baloon", "balloon") == (
        "a balloon, baloons, balloon"
    )
    assert replaced("a (b) c", "(b)", r"\1") == r"a \1 c", "neither is a pattern"
