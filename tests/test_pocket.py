"""The model that users get without a GPU, with its shipped weights."""

import numpy as np
import pytest

from causvid.presets.catalogue import POCKET
from causvid.presets.loading import load_preset
from causvid.presets.registry import default_preset
from causvid.world import ATTRIBUTES, Scene, render
from causvid.world.judge import Judge

pytestmark = pytest.mark.slow

MEGABYTE = 2**20


@pytest.fixture(scope="module")
def pocket():
    pipe = load_preset("pocket", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(pocket, prompt, seconds=2, **options):
    return pocket(prompt, seconds=seconds, output_type="uint8", **options).frames[0].astype(float)


def middle(frames):
    """The part of the picture where the object is."""
    height, width = frames.shape[1:3]
    return frames[:, height // 4 : 9 * height // 10, 3 * width // 8 : 5 * width // 8]


def channel(frames, index):
    """How much one colour channel stands out from the mean of all."""
    return (frames[..., index] - frames.mean(-1)).mean()


def test_it_is_the_default_without_a_gpu_and_small():
    assert default_preset("cpu") is POCKET
    files = [path for path in POCKET.folder.rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) <= 10 * MEGABYTE
    student = sum(p.stat().st_size for p in files if "teacher" not in p.parts)
    assert student <= 20 * MEGABYTE


def test_day_is_brighter_than_night_and_sunset_is_redder(pocket):
    day, night, sunset = (
        make(pocket, f"a green car in a meadow {time}")
        for time in ("by day", "at night", "at sunset")
    )
    assert day.mean() > night.mean() + 40
    upper = slice(0, day.shape[1] // 2)
    assert channel(sunset[:, upper], 0) > channel(day[:, upper], 0) + 20


def test_the_object_has_the_colour_that_was_asked_for(pocket):
    red = middle(make(pocket, "a red car in a meadow by day"))
    blue = middle(make(pocket, "a blue car in a meadow by day"))
    assert channel(red, 0) > channel(blue, 0) + 5
    assert channel(blue, 2) > channel(red, 2) + 5


def test_the_ground_is_what_was_asked_for(pocket):
    def ground(words):
        frames = make(pocket, f"a red bird {words} by day")
        return frames[:, 4 * frames.shape[1] // 5 :].mean((0, 1, 2))

    sea, meadow, snow = ground("over the sea"), ground("over a meadow"), ground("over the snow")
    assert sea[2] > sea[0] + 20
    assert meadow[1] > meadow[0] + 20 and meadow[1] > meadow[2] + 20
    assert snow.min() > 180


def test_things_that_travel_move_and_things_that_rest_do_not(pocket):
    def motion(verb):
        frames = make(pocket, f"a red car {verb} in a meadow by day", seconds=3)
        return np.abs(np.diff(frames[13:], axis=0)).mean()

    assert motion("drives right") > 1.5 * motion("stands still")


def test_what_moves_goes_on_where_a_chunk_begins(pocket):
    """From the third chunk on, when the window rolls, and across the borders of chunks."""
    timeline, shares = pocket.generator().timeline, []
    for motion, prompt in (
        ("left", "a blue car drives left in the desert by day"),
        ("right", "a red car drives right in a meadow by day"),
        ("right", "a green bird flies right over a meadow at sunset"),
        ("left", "a green balloon floats left over the snow at sunset"),
    ):
        with pocket.stream(prompt, seconds=6) as stream:
            frames = np.concatenate([chunk.frames for chunk in stream])
        judge = Judge.load()
        judgement = judge.assess(frames, stride=1)
        starts = np.array(judgement.starts)
        crossed = np.zeros(len(starts), bool)
        for chunk in range(3, timeline.chunk_count(6)):
            border = timeline.first_pixel_frame(chunk)
            crossed |= (starts < border) & (border < starts + judge.config.frames)
        right = judgement.log_probabilities["motion"].argmax(1).numpy()
        shares.append((right == ATTRIBUTES["motion"].index(motion))[crossed].mean())
    assert np.mean(shares) > 0.8, shares


def test_an_image_is_continued_from_its_own_pixels(pocket):
    scene = Scene(object="boat", colour="yellow", ground="sea", time="sunset", weather="clear")
    picture = render(scene, frames=1, height=128, width=224, seed=3)[0]
    frames = make(pocket, "a yellow boat on the sea at sunset", image=picture)
    error = np.mean((frames[0] - picture) ** 2)
    assert 10 * np.log10(255**2 / error) > 25
    later = np.mean((frames[-1] - picture) ** 2)
    assert 10 * np.log10(255**2 / later) > 15


@pytest.mark.parametrize("handover", ["swap", "recache", "flush", "blend:2"])
def test_night_falls_soon_after_the_prompt_says_so(pocket, handover):
    with pocket.stream("a red car drives right in a meadow by day", seconds=6) as stream:
        before = [stream.step().frames for _ in range(3)][-1].mean()
        stream.steer("a red car drives right in a meadow at night", handover)
        after = [chunk.frames.mean() for chunk in stream]
    assert after[-1] < before - 30


def test_video_to_video_takes_the_prompt_and_keeps_the_source(pocket):
    scene = Scene(object="car", colour="red", ground="meadow", time="day", motion="still")
    source = render(scene, frames=25, height=128, width=224, seed=1)

    def distance(strength):
        frames = make(pocket, "a red car in a meadow by day", None, video=source, strength=strength)
        return np.abs(frames - source).mean()

    assert distance(0.3) < distance(0.95)
    night = make(pocket, "a red car in a meadow at night", None, video=source, strength=0.95)
    assert night.mean() < source.mean() - 30


def test_half_a_minute_neither_explodes_nor_fades(pocket):
    with pocket.stream("a blue boat on the sea by day", seconds=30) as stream:
        looks = [chunk.looks for chunk in stream]
    first, last = looks[1], looks[-1]
    assert 0.5 < last.saturation / first.saturation < 2
    assert 0.5 < last.contrast / first.contrast < 2
