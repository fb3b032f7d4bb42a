"""What commands and the app say beside their results: our own lines, no library's."""

import logging
from typing import TextIO


def set_up_logging(stream: TextIO | None = None) -> None:
    """Our lines as they are, to `stream` (stderr by default); of libraries, warnings alone."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=stream)
    for noisy in ("httpx", "diffusers", "transformers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def silence_loading_bars() -> None:
    """No progress bars where weights are read from the disk; downloads keep theirs."""
    import diffusers
    import huggingface_hub
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()  # the Hub's, too
    huggingface_hub.utils.enable_progress_bars()
