"""What may be asked of a video, in the words that every layer above shares. Loads no torch.

`serving/request.py` describes the parameters of a run one by one; here is what modules below it
have to know, too.
"""

import operator
import re
from typing import Any, Literal, get_args

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
    found = re.fullmatch(r"\s*([0-9]{1,6})\s*[x×X*]\s*([0-9]{1,6})\s*", text)
    if found is None:
        raise ValueError(f"the size is {text!r:.40}; expected WIDTHxHEIGHT, such as 832x480")
    return int(found[2]), int(found[1])


def as_whole(value: Any) -> Any:
    """An int for whole numbers of other types, such as NumPy's or 4.0; else `value` as it is."""
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    try:
        return operator.index(value)
    except TypeError:
        return value


def check_seed(seed: Any) -> int:
    """A seed as an int, from a whole number of any type.

    Raises:
        ValueError: if it is none from 0 to 2**63 - 1.
    """
    number = as_whole(seed)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**63:
        large = isinstance(number, int) and abs(number) >= 2**128
        shown = "an integer of very many digits" if large else f"{seed!r:.60}"
        raise ValueError(f"the seed must be a whole number from 0 to 2**63 - 1, got {shown}")
    return number


def check_decoder(decoder: str, *, has_tiny: bool) -> None:
    """
    Raises:
        ValueError: if that decoder is none, or the tiny one where there is only the full one.
    """
    if decoder not in get_args(Decoder):
        raise ValueError(f"decoder is 'full' or 'tiny', got {decoder!r}")
    if decoder == "tiny" and not has_tiny:
        raise ValueError("this model has no tiny decoder: use decoder='full'")
