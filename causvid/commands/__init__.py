"""Commands that belong to no other module; see `causvid.__main__`."""

import argparse


def picture_size(text: str) -> tuple[int, int]:
    """(height, width) of a command-line size such as `832x480`."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 832x480")
    return int(height), int(width)
