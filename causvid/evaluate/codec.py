"""What the codec keeps of rendered clips of held-out scenes: error, sharpness, seams."""

from dataclasses import asdict

import numpy as np

from causvid.evaluate.measurement import Figures, Measurement, Part, Table, number
from causvid.evaluate.session import Session, progress
from causvid.training import fidelity
from causvid.world.pixels import diorama_clip

_SALT = 31_088  # separates these clips from those of other draws with the same seed


def _run(session: Session) -> Part:
    count, subjects = session.sizes.codec_clips, session.subjects
    grid = subjects.pipe.generator().grid
    size = {"frames": subjects.frames, "height": grid.height, "width": grid.width}
    rng = np.random.default_rng((_SALT, session.seed))
    clips = (diorama_clip(rng, split="held_out", **size) for _ in range(count))
    kept = fidelity.measure(subjects.pipe.vae, progress(clips, "codec", count))
    return Part({"clips": count, **asdict(kept)}, {})


def _table(figures: Figures) -> Table:
    row = (f"{figures['psnr']:.2f}", number(figures["seam"]), number(figures["sharpness"]))
    title = f"The codec, on {figures['clips']} rendered clips of held-out scenes"
    header = ("reconstructions", "PSNR, dB", "seam", "sharpness")
    note = "Seam and sharpness over those of the clips."
    return Table(title, header, [("as viewers see them", *row)], note)


CODEC = Measurement("codec", _run, _table)
