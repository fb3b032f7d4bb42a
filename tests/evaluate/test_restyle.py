"""A source at another time of day, or in other weather, is read so and keeps its structure."""

import numpy as np
import pytest

from causvid.evaluate.prompts import Speaker
from causvid.evaluate.restyle import KEPT, Restyled, Source, reading, relit, sources, summary
from causvid.world.wide import Scene, render


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return render(Scene("meadow", camera="right", seed=2), frames=17, height=64, width=96)


def source(video: np.ndarray, attribute: str, value: str) -> Source:
    return Source(video, attribute, value, "", 0)


@pytest.mark.parametrize("time", ["day", "sunset", "night"])
def test_the_time_of_day_is_read(video, time):
    made = relit(video, time, "clear", seed=5)
    assert reading(source(video, "time", "night"), made) == time


@pytest.mark.parametrize("weather", ["clear", "rain", "snowfall", "fog"])
def test_the_weather_is_read(video, weather):
    made = relit(video, "day", weather, seed=5)
    assert reading(source(video, "weather", "rain"), made) == weather


@pytest.mark.slow
def test_a_source_is_kept_by_night_and_not_by_another_video(video):
    asked = source(video, "time", "night")
    night = Restyled.of(asked, relit(video, "night", "clear"))
    other = render(Scene("city", time="night", seed=2), frames=17, height=64, width=96)
    untouched, replaced = Restyled.of(asked, video), Restyled.of(asked, other)
    assert night.obeys and night.kept > KEPT
    assert not untouched.obeys and untouched.kept == pytest.approx(1, abs=1e-3)
    assert replaced.kept < KEPT
    figures = summary([night, untouched, replaced])
    assert figures["both"] == pytest.approx(1 / 3) and figures["kept"] == pytest.approx(2 / 3)


@pytest.mark.slow
def test_sources_depend_on_their_number_alone_and_every_other_one_is_a_photograph():
    few = list(sources(2, 0, 48, 80, Speaker(frozenset())))
    more = list(sources(3, 0, 48, 80, Speaker(frozenset())))
    for one, same in zip(few, more, strict=False):
        assert np.array_equal(one.frames, same.frames)
        assert (one.prompt, one.value, one.seed) == (same.prompt, same.value, same.seed)
