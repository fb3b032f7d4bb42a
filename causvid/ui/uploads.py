"""The folder that Gradio keeps uploads in: made for this server, swept while it runs, then deleted.

Gradio deletes the files of finished uploads by their age. What it forgets goes here: uploads that
broke off, and the empty folders of deleted ones.
"""

import contextlib
import os
import tempfile
import threading
import time
from pathlib import Path

VARIABLE = "GRADIO_TEMP_DIR"


class Uploads:
    """A context in which Gradio uses a folder of ours, unless the operator has named one.

    Args:
        keep: seconds after which a file is nobody's any more.
    """

    def __init__(self, keep: float):
        self._keep = keep
        self._over = threading.Event()

    def __enter__(self) -> "Uploads":
        self._made = tempfile.TemporaryDirectory(prefix="causvid-uploads-")
        os.environ.setdefault(VARIABLE, self._made.name)
        threading.Thread(target=self._work, name="uploads", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if os.environ.get(VARIABLE) == self._made.name:
            del os.environ[VARIABLE]
        self._made.cleanup()

    def sweep(self) -> None:
        """Delete what has not been touched for long."""
        old = time.time() - self._keep
        for folder, _, files in os.walk(self._made.name, topdown=False):
            for name in files:
                with contextlib.suppress(OSError):
                    file = Path(folder, name)
                    if file.lstat().st_mtime < old:
                        file.unlink()
            if folder != self._made.name and Path(folder).stat().st_mtime < old:
                with contextlib.suppress(OSError):  # there is something in it
                    Path(folder).rmdir()

    def _work(self) -> None:
        while not self._over.wait(min(60.0, self._keep)):
            self.sweep()
