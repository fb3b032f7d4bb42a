"""Shared by the example scripts: the server's address, and saving what a run yields."""

import json
import os
import shutil
from pathlib import Path

from gradio_client import Client
from gradio_client.client import Job

SERVER = os.environ.get("CAUSVID_SERVER", "http://127.0.0.1:7860")  # or "owner/space"


def connect() -> Client:
    return Client(SERVER, verbose=False)


def save(job: Job, out: Path) -> dict:
    """Follow a run, printing its chunks as they come; save video and manifest. The manifest."""
    for _, info, final in job:
        if final is None:
            print(
                f"chunk {info['index']:3d}  {info['start']:6.2f}-{info['end']:.2f} s  "
                f"{info['times_playback']:.1f} times playback speed  {info['prompt']}"
            )
        else:
            shutil.copyfile(final, out)
            out.with_suffix(".json").write_text(json.dumps(info, indent=2) + "\n")
            print(f"{out}: {info['video']['frames']} frames")
            return info
    raise SystemExit(f"the run ended without a video: {job.status()}")
