"""The gauge's numbers are those of their definitions."""

import numpy as np
import pytest
import torch

from causvid.generation.chunk import Looks


def of(frames: np.ndarray) -> Looks:
    return Looks.of(torch.from_numpy(frames))


def test_a_grey_picture_has_no_looks_at_all():
    assert of(np.full((2, 8, 6, 3), 90, np.uint8)) == Looks(0.0, 0.0, 0.0)


def test_saturation_is_the_spread_of_channels():
    frames = np.zeros((1, 4, 4, 3), np.uint8)
    frames[..., 0], frames[..., 1] = 204, 51
    assert of(frames).saturation == pytest.approx(0.8)


def test_contrast_is_of_each_picture_not_of_the_clip():
    """A fade from black to white has none."""
    fade = np.arange(0, 250, 50, dtype=np.uint8)[:, None, None, None]
    assert of(np.broadcast_to(fade, (5, 4, 4, 3)).copy()).contrast == pytest.approx(0, abs=1e-6)
    halves = np.zeros((1, 4, 4, 3), np.uint8)
    halves[:, :, 2:] = 255
    assert of(halves).contrast == pytest.approx(0.5, rel=1e-4)


def test_looks_agree_with_the_definition_in_double_precision():
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), dtype=np.uint8)
    pixels = frames / 255
    luma = pixels @ [0.299, 0.587, 0.114]
    steps = (np.abs(np.diff(luma, axis=axis)).mean() for axis in (1, 2))
    looks = of(frames)
    assert looks.saturation == pytest.approx(np.ptp(pixels, axis=-1).mean(), rel=1e-5)
    assert looks.contrast == pytest.approx(luma.std(axis=(1, 2)).mean(), rel=1e-5)
    assert looks.sharpness == pytest.approx(sum(steps) / 2, rel=1e-5)


def test_a_black_beginning_makes_no_drift_of_noise():
    black, noise = Looks(0.0, 0.0, 0.0), Looks(1e-5, 1e-5, 1e-5)
    assert noise.relative_to(black).contrast == pytest.approx(1, abs=0.02)
