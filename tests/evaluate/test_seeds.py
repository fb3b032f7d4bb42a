"""Ten pictures of one seed have no spread, and those of rendered clips are their own measure."""

import numpy as np
import pytest

from causvid.evaluate.prompts import Speaker
from causvid.evaluate.seeds import SEEDS, prompts, relative, spreads
from causvid.world.wide import Scene, Thing, render, spread
from causvid.world.wide.captions import words_of

SCENE = Scene("meadow", (Thing("car", "red"),), seed=4)


def pictures(count: int, scene: Scene = SCENE) -> np.ndarray:
    scenes = spread(scene, count)
    return np.stack([render(each, frames=1, height=64, width=96)[0] for each in scenes])


def test_one_picture_again_and_again_has_no_spread():
    same = np.repeat(pictures(1), 4, axis=0)
    assert spreads(same) == pytest.approx({"place": 0, "background": 0, "look": 0}, abs=1e-3)


def test_rendered_pictures_of_a_caption_differ_in_every_way_and_are_their_own_measure():
    drawn = pictures(5)
    figures = spreads(drawn)
    assert figures["place"] > 0.3 and figures["background"] > 10 and figures["look"] > 5
    assert relative([drawn], [drawn])["mean"] == pytest.approx(1)


def test_noise_is_hardly_a_spread():
    drawn = pictures(4)
    noise = np.random.default_rng(0).normal(0, 6, drawn.shape)
    noisy = (drawn[:1] + noise).clip(0, 255).astype(np.uint8)
    figures = relative([noisy], [drawn])
    assert figures["background"] < 0.1 and figures["look"] < 0.1 and figures["place"] < 0.6


@pytest.mark.slow
def test_prompts_name_what_is_to_be_seen_in_known_words():
    words = "a the red blue green car boat meadow sea in at drives by day"
    known = frozenset(words.split(" "))
    asked = prompts(3, 0, Speaker(known))
    assert len(asked) == 3 and SEEDS == 10
    assert asked[:2] == prompts(2, 0, Speaker(known))
    for scene, said in asked:
        assert {scene.background, scene.things[0].kind} <= set(words_of(said))
