"""The Space's entry: `python app.py`. Everything is set by environment variables, see README.md."""

import spaces  # noqa: F401  (on ZeroGPU it has to come before anything that uses CUDA)

from causvid.ui.server import main

if __name__ == "__main__":
    main()
