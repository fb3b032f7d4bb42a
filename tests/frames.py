"""Streams of the shipped model whose frames must not change, recorded once.

`python -m tests.frames FILE` makes them in a process of their own: what a process did before, such
as compiling, changes how it rounds. `python -m tests.frames` records `tests/golden/frames.json`
anew. On the machine that recorded it, frames are compared by hash; on another processor, whose
products round otherwise, by small pictures of them.
"""

import causvid  # noqa: F401  (before torch: it says how torch's threads wait)

# isort: split
import base64
import hashlib
import io
import json
import platform
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

GOLDEN = Path(__file__).parent / "golden" / "frames.json"
THUMBNAIL = (28, 16)  # width, height
CAR = "a red car drives right in the desert by day"
BOAT = "a blue boat on the sea at night"


def machine() -> str:
    """What decides how products are rounded: processor, its instructions, torch, threads."""
    capabilities = {k: v for k, v in torch.cpu.get_capabilities().items() if v}
    names = [line for line in _cpuinfo() if line.startswith("model name")]
    return json.dumps(
        [
            platform.machine(),
            names[0].partition(":")[2].strip() if names else platform.processor(),
            sorted(map(str, capabilities)),
            torch.__version__,
            torch.get_num_threads(),
        ]
    )


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def picture() -> np.ndarray:
    """A drawn landscape with a disc, uint8 `[128, 224, 3]`."""
    rows, columns = np.mgrid[:128, :224]
    ground = rows > 80
    picture = np.stack([90 + rows // 2, 140 + 0 * rows, 220 - rows // 2], -1)
    picture[ground] = (60, 130, 50)
    picture[(rows - 60) ** 2 + (columns - 90) ** 2 < 900] = (220, 40, 40)
    return picture.astype(np.uint8)


def clip(frames: int = 30) -> np.ndarray:
    """The picture, panned: uint8 `[t, 128, 224, 3]`."""
    return np.stack([np.roll(picture(), 3 * i, axis=1) for i in range(frames)])


def streams(pipe) -> dict[str, np.ndarray]:
    """Name → uint8 frames `[t, h, w, 3]`: every mode, hand-over and way to go on."""

    def made(*arguments, **options) -> np.ndarray:
        return pipe(*arguments, output_type="uint8", **options).frames[0]

    def rest(stream) -> np.ndarray:
        with stream:
            return np.concatenate([chunk.frames for chunk in stream])

    handovers = {
        name: made(parse(f"0s: {CAR}\n1s [{name}]: {BOAT}"), seconds=2.5, seed=4)
        for name in ("swap", "recache", "flush", "blend:2")
    }
    with pipe.stream(CAR, seconds=1.5, seed=5) as origin:
        first = np.concatenate([chunk.frames for chunk in origin])
        snapshot = origin.snapshot()
        origin.extend(1.0)
        extended = np.concatenate([first, *(chunk.frames for chunk in origin)])
    resumed = pipe.resume(snapshot)
    resumed.extend(1.0)
    branch = pipe.resume(snapshot)
    branch.extend(1.0)
    branch.steer("a green boat on the sea at sunset", "recache")
    with pipe.stream(CAR, seconds=2.5, seed=6) as stream:
        steered = [next(stream).frames]
        stream.steer(BOAT, "flush")
        steered += [chunk.frames for chunk in stream]
    return {
        "text": made(CAR, seconds=3, seed=1),
        "beyond the window": made("a green bird flies over the snow", seconds=9, seed=2),
        "image": made("the car drives off", image=picture(), seconds=2, seed=3),
        "video": made("at night", video=iter(clip()), strength=0.6, seed=3),
        "video, adaptive": made(
            "in the snow", video=iter(clip()), strength=0.8, adaptive_strength=True, seed=3
        ),
        **{f"schedule, {name}": frames for name, frames in handovers.items()},
        "portrait": made(CAR, seconds=1.5, seed=7, height=224, width=128),
        "steps, window and sink": made(CAR, seconds=3, seed=8, steps=2, window=6, sink=1),
        "steered": np.concatenate(steered),
        "extended": extended,
        "resumed": rest(resumed),
        "branched": rest(branch),
    }


def parse(text: str):
    from causvid.generation.prompts import PromptSchedule

    return PromptSchedule.parse(text)


def load():
    from causvid.presets.loading import load_preset

    pipe = load_preset("pocket", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def digest(frames: np.ndarray) -> str:
    return hashlib.sha256(f"{frames.shape}".encode() + frames.tobytes()).hexdigest()


def thumbnails(frames: np.ndarray) -> np.ndarray:
    """The first, middle and last frame, small: uint8 `[3, 16, 28, 3]`."""
    chosen = frames[[0, len(frames) // 2, -1]]
    return np.stack(
        [np.asarray(Image.fromarray(f).resize(THUMBNAIL, Image.Resampling.BOX)) for f in chosen]
    )


def recorded(entry: dict) -> np.ndarray:
    """The thumbnails of an entry of the golden file."""
    return np.load(io.BytesIO(base64.b64decode(entry["thumbnails"])))["frames"]


def _entry(frames: np.ndarray) -> dict:
    file = io.BytesIO()
    np.savez_compressed(file, frames=thumbnails(frames))
    return {
        "sha256": digest(frames),
        "shape": list(frames.shape),
        "thumbnails": base64.b64encode(file.getvalue()).decode(),
    }


if __name__ == "__main__":
    made = streams(load())
    if len(sys.argv) > 1:
        np.savez(sys.argv[1], machine=machine(), **made)
        sys.exit()
    entries = {name: _entry(frames) for name, frames in made.items()}
    GOLDEN.write_text(json.dumps({"machine": machine(), "streams": entries}, indent=1) + "\n")
    print(f"{GOLDEN}: {len(entries)} streams")
