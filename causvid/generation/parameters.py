"""What may be asked of a video, in the words that every layer above shares. Loads no torch.

`serving/request.py` describes the parameters of a run one by one; here is what modules below it
have to know, too.
"""

import re
from typing import Literal, get_args

from annotated_types import Interval

Mode = Literal["text", "image", "video"]
"""What a video starts from: noise, a picture, or another video."""

Decoder = Literal["full", "tiny"]
"""Which of a model's autoencoders makes pictures."""

DEFAULT_SECONDS = 5

_UNTOUCHED, _IGNORED = 0, 1
STRENGTH = Interval(gt=_UNTOUCHED, le=_IGNORED)
"""How far video-to-video may leave its source: from hardly at all to ignoring it."""


def check_strength(strength: float) -> None:
    """
    Raises:
        ValueError: if it is outside `STRENGTH`.
    """
    if not _UNTOUCHED < strength <= _IGNORED:
        raise ValueError(f"strength must lie in ({_UNTOUCHED}, {_IGNORED}], got {strength}")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Height and width, pixels, from `WIDTHxHEIGHT`; `None` from an empty text.

    Raises:
        ValueError: if it is no size.
    """
    if not text:
        return None
    found = re.fullmatch(r"\s*([0-9]{1,6})\s*[x×X]\s*([0-9]{1,6})\s*", text)
    if found is None:
        raise ValueError(f"the size is {text!r:.40}; expected WIDTHxHEIGHT, such as 832x480")
    return int(found[2]), int(found[1])


def check_decoder(decoder: str, *, has_tiny: bool) -> None:
    """
    Raises:
        ValueError: if that decoder is none, or the tiny one where there is only the full one.
    """
    if decoder not in get_args(Decoder):
        raise ValueError(f"decoder is 'full' or 'tiny', got {decoder!r}")
    if decoder == "tiny" and not has_tiny:
        raise ValueError("this model has no tiny decoder: use decoder='full'")
