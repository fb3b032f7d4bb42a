"""The Space's entry: `python app.py`. Everything is set by environment variables, see README.md."""

import os
import sys

import causvid  # noqa: F401  (before torch: it says how torch's threads wait)

# Read when Gradio is loaded, which ends in a traceback if it is no number.
port = os.environ.get("GRADIO_SERVER_PORT", "7860")
if not (port.isdecimal() and 0 < int(port) < 2**16):
    sys.exit(f"app.py: GRADIO_SERVER_PORT is {port!r}; expected a whole number from 1 to 65535")

import spaces  # noqa: F401, E402  (on ZeroGPU it has to come before anything that uses CUDA)

from causvid.ui.server import main  # noqa: E402

if __name__ == "__main__":
    main()
