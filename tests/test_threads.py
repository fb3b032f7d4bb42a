"""How torch's threads wait is read once, when torch is loaded: whoever is late is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TORCH = (
    "import sys, types; gpu = types.SimpleNamespace(is_available=lambda: {gpu});"
    "sys.modules['torch'] = types.SimpleNamespace(cuda=gpu);"
)


@pytest.mark.parametrize(
    ("before", "policy", "warned"),
    [
        ("", None, False),
        (TORCH.format(gpu=False), None, True),
        (TORCH.format(gpu=False), "PASSIVE", False),
        (TORCH.format(gpu=True), None, False),
    ],
)
def test_who_imports_torch_first_is_told_that_its_threads_spin(before, policy, warned):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {} if policy is None else {"OMP_WAIT_POLICY": policy}
    done = subprocess.run(
        [sys.executable, "-c", f"{before}import os, causvid; print(os.environ['OMP_WAIT_POLICY'])"],
        cwd=Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "PASSIVE"
    assert ("Import causvid first" in done.stderr) == warned
