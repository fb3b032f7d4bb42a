"""The Space's entry: `python app.py`. Everything is set by environment variables, see README.md."""

import os

# Read when torch is loaded: waiting threads must not spin where other processes share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import spaces  # noqa: F401  (on ZeroGPU it has to come before anything that uses CUDA)

from causvid.ui.server import main

if __name__ == "__main__":
    main()
