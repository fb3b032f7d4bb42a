"""Shared by the example scripts: the server's address, and saving what a run yields."""

import argparse
import json
import os
import shutil
from pathlib import Path

from gradio_client import Client
from gradio_client.client import Job
from gradio_client.exceptions import AppError

for name in ("no_proxy", "NO_PROXY"):  # a server on this machine is not behind a proxy
    os.environ[name] = ",".join(filter(None, (os.environ.get(name), "localhost,127.0.0.1,::1")))
SERVER = os.environ.get("CAUSVID_SERVER", "http://127.0.0.1:7860")  # or "owner/space"


def connect() -> Client:
    try:
        return Client(SERVER, verbose=False)
    except Exception as error:  # each of the libraries below has errors of its own
        raise SystemExit(f"no server at {SERVER}, which CAUSVID_SERVER sets: {error}") from None


def existing(name: str) -> Path:
    """The type of an argument that names a file."""
    if not Path(name).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {name}")
    return Path(name)


def keep(source: Path, out: Path) -> None:
    """End here if `save` would overwrite what the video is made from."""
    if source.resolve() in (out.resolve(), out.with_suffix(".json").resolve()):
        raise SystemExit(f"{source} would be overwritten; pass another name to --out")


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
    raise SystemExit(why(job))


def why(job: Job) -> str:
    """Why a run ended without a video: what the server refused, and what it allows."""
    try:
        job.result()
    except AppError as error:
        return str(error)
    return "the run was stopped before its first chunk"
