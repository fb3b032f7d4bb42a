"""Structure survives cameras, light and small things, and no more than a little of it is luck."""

import numpy as np
import pytest
from PIL import Image

from causvid.evaluate.doodles import doodle
from causvid.evaluate.given import KEPT, Given, Kept, camera_of, given_pictures, photograph, summary
from causvid.evaluate.prompts import Speaker
from causvid.evaluate.structure import Reference, kept
from causvid.world.wide import Scene, light, render

HEIGHT, WIDTH = 96, 160


def rendered(camera: str = "still", frames: int = 33, **values) -> np.ndarray:
    scene = Scene(**{"background": "meadow", "camera": camera, "seed": 5, **values})
    return render(scene, frames=frames, height=HEIGHT, width=WIDTH)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    photo = Image.fromarray(photograph(1)).resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    return np.asarray(photo)


def at(picture: np.ndarray, time: str) -> np.ndarray:
    return np.asarray(light.at(Image.fromarray(picture), time))


def test_a_picture_is_wholly_kept_by_itself(picture):
    found = Reference(picture).find(picture)
    assert found.kept == pytest.approx(1, abs=1e-3)
    assert (found.right, found.down, found.zoom) == pytest.approx((0, 0, 1))


@pytest.mark.parametrize("camera", ["left", "right", "in"])
def test_what_a_camera_does_is_undone_and_read(camera):
    frames = rendered(camera)
    found = Reference(frames[0]).find(frames[-1])
    assert found.kept > 0.8
    assert camera_of(found) == camera


def test_a_picture_that_rests_is_kept_and_read_as_still():
    frames = rendered()
    assert camera_of(Reference(frames[0]).find(frames[-1])) == "still"
    assert kept(frames[0], frames[-1]) > 0.95


@pytest.mark.slow
def test_pictures_of_different_things_keep_little(picture):
    others = [rendered(frames=1, background=b)[0] for b in ("desert", "city", "underwater")]
    scores = [kept(picture, other) for other in others]
    assert max(scores) < 0.55 and np.mean(scores) < 0.45
    assert camera_of(Reference(picture).find(others[0])) is None


def test_night_keeps_a_picture_and_a_coarse_mosaic_does_not(picture):
    assert kept(picture, at(picture, "night")) > 0.85
    cells = Image.fromarray(picture).resize((WIDTH // 12, HEIGHT // 12), Image.Resampling.BOX)
    coarse = np.asarray(cells.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    assert kept(picture, coarse) < KEPT


def test_a_double_exposure_keeps_less_the_weaker_the_picture_is_in_it(picture):
    other = rendered(frames=1, background="city")[0].astype(np.float32)
    scores = [
        kept(picture, np.uint8(share * picture + (1 - share) * other)) for share in (0.9, 0.5, 0.2)
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < KEPT


def test_two_skies_that_darken_upwards_are_not_one_picture():
    rows = np.linspace(0, 1, HEIGHT)[:, None, None]
    skies = [rows * end + (1 - rows) * (40, 60, 140) for end in ((250, 190, 150), (220, 120, 90))]
    dotted = [np.repeat(sky, WIDTH, axis=1).astype(np.uint8) for sky in skies]
    dotted[0][20:30, 40:60], dotted[1][60:72, 100:112] = 255, 0
    assert kept(*dotted) < KEPT


def test_a_small_thing_that_appears_takes_little_away(picture):
    added = picture.copy()
    added[40:58, 60:84] = (250, 40, 40)
    assert kept(picture, added) > 0.85


# Given pictures


def test_drawings_differ_by_seed_and_are_the_same_for_the_same():
    drawings = [doodle(np.random.default_rng(seed), HEIGHT, WIDTH) for seed in (1, 1, 2)]
    assert drawings[0].shape == (HEIGHT, WIDTH, 3) and drawings[0].dtype == np.uint8
    assert np.array_equal(*drawings[:2])
    assert kept(drawings[0], drawings[2]) < KEPT


def test_a_model_is_asked_in_words_that_it_knows():
    speaker = Speaker(frozenset({"it", "is", "still", "pan", "left"}))
    assert speaker.best(["nothing moves", "it is still", "still"]) == "it is still"
    assert speaker.knows("the camera pans left") == 0.25
    assert Speaker(frozenset()).knows("anything at all") == 1


def test_each_picture_is_given_twice_and_depends_on_its_number_alone():
    def of(kind: str, count: int) -> list[Given]:
        return list(given_pictures(kind, count, 3, HEIGHT, WIDTH, Speaker(frozenset())))

    for kind in ("world", "doodles", "photographs"):
        few, more = of(kind, 2), of(kind, 3)
        assert [it.camera == "still" for it in few] == [True, False] * 2
        assert all(np.array_equal(a.picture, b.picture) for a, b in zip(few, more, strict=False))
        assert [it.prompt for it in few] == [it.prompt for it in more[:4]]


@pytest.mark.slow
def test_a_model_that_forgets_keeps_nothing_and_one_that_freezes_does_not_pan(picture):
    asked = [Given("photographs", picture, camera, "", 0) for camera in ("still", "left")]
    other = rendered(frames=1, background="city")[0]
    forgets = np.stack([picture, *[other] * 160])
    freezes = np.stack([picture] * 161)
    lost = summary([Kept.of(it, forgets, 16.0) for it in asked])
    assert lost["kept"] == {1.0: 0, 3.0: 0, 10.0: 0} and lost["as_asked"] == 0
    frozen = summary([Kept.of(it, freezes, 16.0) for it in asked])
    assert frozen["kept"] == {1.0: 1, 3.0: 1, 10.0: 1}
    assert frozen["as_asked"] == 0.5 and frozen["moved_as_asked"] == 0
