"""The Space's entry: `python app.py`. Everything is set by environment variables, see README.md."""

import os

# Read when torch is loaded: waiting threads spin for some microseconds, then sleep. Sleeping at
# once costs a quarter of the speed, and spinning on takes the cores from everyone else.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import spaces  # noqa: F401  (on ZeroGPU it has to come before anything that uses CUDA)

from causvid.ui.server import main

if __name__ == "__main__":
    main()
