"""Whatever is moved or made faster, the shipped model makes the frames that it made before."""

import json

import numpy as np
import pytest

from tests import frames as golden

RECORDED = json.loads(golden.GOLDEN.read_text())


@pytest.fixture(scope="module")
def made():
    return golden.streams(golden.load())


@pytest.mark.parametrize("name", RECORDED["streams"])
def test_the_frames_are_those_that_were_recorded(made, name):
    entry = RECORDED["streams"][name]
    assert list(made[name].shape) == entry["shape"]
    difference = golden.thumbnails(made[name]).astype(int) - golden.recorded(entry)
    # Other processors round products otherwise, and a stream amplifies that a little.
    assert np.abs(difference).mean() < 4
    if golden.machine() == RECORDED["machine"]:
        assert golden.digest(made[name]) == entry["sha256"]


def test_every_stream_was_recorded(made):
    assert set(made) == set(RECORDED["streams"])
