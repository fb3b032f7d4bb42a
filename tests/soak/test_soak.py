"""The soak measurements meet their goals; SOAK_CYCLES, SOAK_SECONDS and SOAK_KEPT lengthen them."""

import os

import pytest

from tests.soak.measure import measurements

PARTS = measurements(
    int(os.environ.get("SOAK_CYCLES", "42")),
    float(os.environ.get("SOAK_SECONDS", "60")),
    int(os.environ.get("SOAK_KEPT", "8")),
)


@pytest.mark.soak
@pytest.mark.parametrize("part", PARTS)
def test_goals_are_met(part, tmp_path):
    rows = list(PARTS[part](tmp_path))
    for row in rows:
        print(f"{row.test}: {row.reached}; goal: {row.goal}")
    assert rows and all(row.met for row in rows)
