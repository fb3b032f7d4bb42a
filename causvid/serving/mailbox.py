"""Words to a run that may live in another process: one small file, replaced whole.

Where the generator runs in a forked process (ZeroGPU) no variable of the server reaches it, but a
file does; the same code serves when it runs in a thread.
"""

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Letter:
    """A new prompt for a run, to hold from its next chunk on."""

    number: int
    prompt: str
    handover: str


class Mailbox:
    """The letters of one run. `post` and `collect` may be called from different processes.

    Only the newest letter counts: a prompt that was replaced before any chunk followed it has
    never been in force.
    """

    def __init__(self, path: Path):
        self._path = path
        self._posted = 0
        self._collected = 0

    def post(self, prompt: str, handover: str) -> None:
        self._posted += 1
        part = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex}")
        letter = {"number": self._posted, "prompt": prompt, "handover": handover}
        part.write_text(json.dumps(letter), encoding="utf-8")
        os.replace(part, self._path)

    def collect(self) -> Letter | None:
        """The newest letter, if it has not been collected yet."""
        try:
            letter = Letter(**json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        if letter.number == self._collected:
            return None
        self._collected = letter.number
        return letter
