"""Render the examples that the page plays at once: python examples/render_gallery.py.

Each line of `prompts.txt` becomes `gallery/NAME.mp4` with its manifest, on this machine and with
the model that is offered by default.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

lines = (HERE / "prompts.txt").read_text(encoding="utf-8").splitlines()
for prompt in (line for line in lines if line and not line.startswith("#")):
    name = "-".join(re.findall("[a-z]+", prompt)[1:3])
    out = HERE / "gallery" / f"{name}.mp4"
    options = ["--seconds", "4", "--seed", "1", "--out", str(out)]
    command = [sys.executable, "-m", "causvid", "generate", prompt, *options]
    subprocess.run(command, cwd=HERE.parent, check=True)
