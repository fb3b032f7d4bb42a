"""`python -m causvid serve`: the app, as `python app.py` starts it.

Everything is set by environment variables, which docs/settings.md lists: CAUSVID_MODEL,
CAUSVID_DEVICE, …; GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say where it listens.
"""

import argparse
import importlib.util
import os

import causvid  # noqa: F401  (before torch: it says how torch's threads wait)
from causvid.serving.process import ServerProcess


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None: a server is set by its environment."""


def main(args: argparse.Namespace | None = None) -> int:
    """Serve until stopped.

    Raises:
        ValueError, OSError: what is wrong with the settings, the model or the port.
    """
    # Gradio reads the port when it is imported, and its own message is a traceback.
    port = os.environ.get("GRADIO_SERVER_PORT", "7860")
    if not (port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(f"GRADIO_SERVER_PORT is {port!r}; expected a whole number from 1 to 65535")
    with ServerProcess() as process:
        if importlib.util.find_spec("spaces"):
            import spaces  # noqa: F401  (on ZeroGPU it has to come before all that uses CUDA)

        from causvid.ui.server import main as serve

        serve(process)
    return 0
