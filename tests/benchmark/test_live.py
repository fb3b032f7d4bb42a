"""The time code of `benchmark --live`: what is drawn is read, and latency is that of its codes."""

import os

import av
import numpy as np
import pytest

from causvid.benchmark import live
from causvid.benchmark.player import CHROMIUM


def brightness(code: int, *, contrast: float = 1.0) -> np.ndarray:
    return 128 + 100 * contrast * (2 * np.array(live.cells_of(code), float) - 1)


def test_every_code_is_read_also_when_it_is_pale_and_noisy():
    rng = np.random.default_rng(0)
    for code in range(live.CODES):
        noise = rng.normal(0, 8, 12)
        assert live.code_of(list(brightness(code, contrast=0.6) + noise)) == code


def test_two_codes_blended_are_no_third():
    for code in range(live.CODES - 1):
        for share in (0.1, 0.3, 0.5, 0.7, 0.9):
            mix = share * brightness(code) + (1 - share) * brightness(code + 1)
            assert live.code_of(list(mix)) in (None, code, code + 1)


@pytest.mark.parametrize("cells", [[128] * 12, [255] * 12, [0] * 11 + [255]])
def test_what_is_no_code_is_none(cells):
    assert live.code_of(cells) is None


@pytest.mark.parametrize(("late", "every"), [(0.7, 1), (2.3, 1), (0.7, 3)])
def test_latency_is_from_a_code_to_itself(late, every):
    """Also when codes begin again, and where the video shows every third of them only."""

    def code(time: float) -> int | None:
        return int(time * 5) % live.CODES if time >= 0 else None

    def shown(time: float) -> int | None:
        number = code(time - late)
        return number if number is None or number % every == 0 else None

    samples = [(time, code(time), shown(time)) for time in np.arange(0, 60, 0.02)]
    found, left_out = live.latencies(samples)
    assert np.allclose(found, late, atol=0.03)
    assert len(found) == pytest.approx((60 - late) * 5 / every, rel=0.03)
    assert left_out == pytest.approx(len(found) * (every - 1), abs=10)


def test_the_camera_shows_all_codes_in_turn(tmp_path):
    live.write_camera(tmp_path / "camera.mjpeg")
    codes = []
    with av.open(str(tmp_path / "camera.mjpeg")) as file:
        for number, frame in enumerate(file.decode(video=0)):
            if number % 180 == 1:
                rows = frame.to_ndarray(format="gray")[72:408]
                cells = rows.reshape(3, 112, 4, 160)[:, 30:80, :, 50:110].mean((1, 3)).ravel()
                codes.append(live.code_of(list(cells)))
    assert codes == list(range(0, live.CODES, 30))


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="needs Chromium")
def test_latency_is_read_from_the_screen():
    pytest.importorskip("playwright.sync_api", reason="needs playwright")
    figures = live.main(8.0)["live"]
    code, page = figures["by_code"], figures["by_page"]
    assert code["readings"] > 10 and 0 < code["median"] < 10
    assert abs(code["median"] - page["median"]) < 1.0, "the page is right about itself"
