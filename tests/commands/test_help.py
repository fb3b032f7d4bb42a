"""`--help` and a mistyped option are answered at once."""

import subprocess
import sys

import pytest

from causvid.__main__ import COMMANDS

SLOW_TO_IMPORT = ("torch", "diffusers", "transformers", "accelerate", "gradio")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_loads_torch_to_explain_itself(command):
    program = (
        "import sys; from causvid.__main__ import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "except SystemExit: pass\n"
        f"print('loaded', *(set({SLOW_TO_IMPORT}) & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith("usage: ")
    assert said.splitlines()[-1] == "loaded"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        (["serve"], "gradio", "app"),
        (["train", "curves", "--run", "nowhere"], "matplotlib", "train"),
    ],
)
def test_a_package_of_an_extra_that_is_missing_is_named(command, missing, extra):
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"from causvid.__main__ import main; sys.exit(main({command!r}))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].endswith(
        f"{missing} is not installed: pip install 'causvid-live[{extra}]'"
    )


def test_importing_the_package_loads_next_to_nothing():
    program = (
        "import sys; before = set(sys.modules); import causvid\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert set(said.stdout.split()) - sys.stdlib_module_names == {"causvid"}
