"""The process of a server: one folder for all its temporary files, and an end that leaves nothing.

It is entered before Gradio and torch are loaded, as both make folders of their own. What a killed
server left is deleted by the next one: a folder is held by a lock, which the kernel releases when
its process ends in whatever way.
"""

import fcntl
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from typing_extensions import Self

PREFIX = "causvid-server-"
_LOCK = "lock"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_FOLDERS = ("TMPDIR", "TORCHINDUCTOR_CACHE_DIR")  # where libraries put their temporary files


class ServerProcess:
    """A context: inside, temporary files are in a folder of ours, and signals end the process.

        with ServerProcess() as process:
            …
            process.serve(stop)

    SIGTERM, SIGINT (Ctrl-C) and SIGHUP are alike, and repeating them changes nothing.

    Attributes:
        folder: deleted in the end, with all that is in it.

    Raises:
        OSError: if there is no place for temporary files.
    """

    folder: Path

    def __enter__(self) -> Self:
        self._stop: Callable[[], None] = lambda: None
        self._ending = False
        self._before = {name: os.environ.get(name) for name in _FOLDERS}
        try:
            place = Path(tempfile.gettempdir())
        except FileNotFoundError:
            raise OSError(
                "there is no folder that temporary files can be written to; name one in TMPDIR"
            ) from None
        sweep(place)
        self.folder, self._lock = _held_folder(place)
        tempfile.tempdir = str(self.folder)
        os.environ["TMPDIR"] = str(self.folder)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(self.folder / "torchinductor"))
        for number in _SIGNALS:
            ignored = signal.getsignal(number) == signal.SIG_IGN
            if not (number == signal.SIGHUP and ignored):  # `nohup` wants it to go on
                signal.signal(number, self._end)
        return self

    def serve(self, stop: Callable[[], None]) -> NoReturn:
        """Wait for a signal; then call `stop`, which ends whatever writes files."""
        self._stop = stop
        while True:
            time.sleep(0.2)  # a signal that comes just before is seen after it

    def __exit__(self, *_: object) -> None:
        for number in _SIGNALS:
            if signal.getsignal(number) == self._end:
                signal.signal(number, signal.SIG_DFL)
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        tempfile.tempdir = None
        self._remove()

    def _end(self, *_: object) -> None:
        """Leave at once: threads that make videos or serve files are not waited for."""
        if self._ending:
            return
        self._ending = True
        # What is cut off from now on, or finds its files gone, is no fault that anybody should see.
        logging.disable()
        threading.excepthook = lambda _: None
        try:
            self._stop()
            self._remove()
            sys.stdout.flush()  # to a terminal that is closed, perhaps
        finally:
            os._exit(0)

    def _remove(self) -> None:
        # Renamed, so that nobody can add to it by its name while it is emptied.
        gone = self.folder.with_name(f"{self.folder.name}.gone")
        self.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        os.close(self._lock)


def sweep(place: Path) -> None:
    """Delete the folders in `place` of servers whose processes have ended."""
    for folder in place.glob(f"{PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            # A folder without a lock is one that its process died emptying.
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:  # it is gone meanwhile, or no folder
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:  # its process lives
            pass
        finally:
            os.close(lock)


def _held_folder(place: Path) -> tuple[Path, int]:
    """A new folder and its lock, which is held as soon as the folder has its name."""
    made = Path(tempfile.mkdtemp(dir=place))
    lock = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return made.rename(place / f"{PREFIX}{made.name}"), lock
