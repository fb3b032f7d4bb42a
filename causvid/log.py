"""What commands and the app say beside their results: our own lines, no library's."""

import logging
import traceback
from collections.abc import Iterator
from typing import Any, TextIO


def set_up_logging(stream: TextIO | None = None) -> None:
    """Our lines as they are, to `stream` (stderr by default); of libraries, warnings alone."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=stream)
    for noisy in ("httpx", "diffusers", "transformers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def withhold_texts() -> None:
    """From now on, write tracebacks without the texts of errors, which may hold a prompt."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(Withholding("%(message)s"))


class Withholding(logging.Formatter):
    """Tells of errors where they arose and of which type they are.

    Any library may put what it was given into the text of an error. Texts that the system writes
    are kept.
    """

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # another formatter may have left one
        try:
            return super().format(record)
        finally:
            record.exc_text = None

    def formatException(self, exc_info: Any) -> str:
        return "\n".join(_lines(exc_info[1], set())) if exc_info[1] is not None else ""


def _lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    """The error after what led to it, the outermost last."""
    seen.add(id(error))
    context = None if error.__suppress_context__ else error.__context__
    for inner in (error.__cause__ or context, *getattr(error, "exceptions", ())):
        if inner is not None and id(inner) not in seen:
            yield from _lines(inner, seen)
            yield "which led to:"
    yield "Traceback (most recent call last):"
    yield from (line.rstrip("\n") for line in traceback.format_tb(error.__traceback__))
    kind = type(error)
    # An `OSError` with a number has the system's text, and the allocator of a GPU writes its own.
    of_system = isinstance(error, OSError) and error.errno is not None
    told = of_system or kind.__name__ == "OutOfMemoryError"
    text = str(error) if told else "(CAUSVID_LOG_PROMPTS shows its text, which may hold a prompt)"
    yield f"{kind.__module__}.{kind.__qualname__}: {text}"


def silence_loading_bars() -> None:
    """No progress bars where weights are read from the disk; downloads keep theirs."""
    import diffusers
    import huggingface_hub
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()  # the Hub's, too
    huggingface_hub.utils.enable_progress_bars()
