"""One case of a reference folder: what went in, what must come out, and how far ours is from it.

Every tensor of a case has to be taken as an input or compared as an output. One that is neither
makes the case fail, so that nothing agrees by being overlooked.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

TOLERANCE = 1e-4  # in float32; measured: 1e-6 to 1e-5 for rollouts and gradients
BFLOAT16_TOLERANCE = 5e-2  # two correct bfloat16 runs differ by some 1e-2 after a few layers


class Mismatch(Exception):
    """Why a case cannot agree whatever the numbers are, in one line."""


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """The larger of ‖a - e‖₂ / ‖e‖₂ and max|a - e| / max|e|, computed in float64.

    The first sees an error spread over the whole tensor, the second one that sits in few entries.
    Where all of `expected` is zero, the numerators alone count. Integers agree exactly or not at
    all. What was stored in half precision is a rounded number: half a unit in its last place is
    not an error.
    """
    if not expected.is_floating_point():
        return 0.0 if torch.equal(actual.double(), expected.double()) else math.inf
    if not expected.numel():
        return 0.0
    e = expected.double()
    distance = (actual.double() - e).abs()
    if expected.dtype in (torch.float16, torch.bfloat16):
        distance = (distance - e.abs() * torch.finfo(expected.dtype).eps / 2).clamp(min=0)
    errors = [distance.norm() / (e.norm() or 1), distance.max() / (e.abs().max() or 1)]
    return torch.stack(errors).max().item()  # unlike Python's, torch's maximum keeps NaN


class Case:
    """The settings and tensors of one reference run.

    Attributes:
        name: path inside the folder, without suffix.
        settings: the JSON.
        tolerance: largest relative error that counts as agreement.
        error: worst relative error so far, and `worst`, the tensor that has it.
    """

    def __init__(self, name: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]):
        self.name = name
        self.settings = settings
        self.tolerance = TOLERANCE
        self.error = 0.0
        self.worst = ""
        self._tensors = tensors
        self._untouched = set(tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> Tensor:
        """An input."""
        if name not in self._tensors:
            raise Mismatch(f"there is no tensor {name!r}")
        self._untouched.discard(name)
        return self._tensors[name]

    def setting(self, name: str, default: Any = None) -> Any:
        """A setting that the procedure needs, unless there is a default."""
        value = self.settings.get(name, default)
        if value is None:
            raise Mismatch(f"its JSON does not say {name!r}")
        return value

    def get(self, name: str) -> Tensor | None:
        """An input that not every case has."""
        if name not in self:
            return None
        return self[name]

    def matching(self, pattern: str) -> list[re.Match]:
        """Names of tensors that fit all of a regular expression, in the order of their numbers."""
        matches = [m for name in self._tensors if (m := re.fullmatch(pattern, name))]
        return sorted(matches, key=lambda m: _natural(m.string))

    def draws(self, prefix: str = "") -> list[Tensor]:
        """The random draws `{prefix}draw…` in call order, as inputs."""
        return [self[m.string] for m in self.matching(re.escape(prefix) + r"draw\d+")]

    def check(self, name: str, actual: Tensor) -> None:
        """Compare an output.

        Raises:
            Mismatch: if the case has no such tensor, or one of another shape.
        """
        self.check_against(name, actual, self[name])

    def check_against(self, name: str, actual: Tensor, expected: Tensor) -> None:
        """Compare with a part, or another form, of the tensor of that name."""
        if actual.shape != expected.shape:
            raise Mismatch(f"{name} is {tuple(actual.shape)}, not {tuple(expected.shape)}")
        self.note(name, relative_error(actual.detach(), expected))

    def note(self, name: str, error: float) -> None:
        """Count the error of a quantity that is derived from tensors."""
        # Written so that NaN becomes the worst error and stays it.
        if not error <= self.error and not math.isnan(self.error):
            self.error, self.worst = error, name

    def finish(self) -> None:
        """
        Raises:
            Mismatch: if tensors were neither read nor compared.
        """
        if self._untouched:
            names = sorted(self._untouched, key=_natural)
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise Mismatch(f"not compared: {', '.join(names[:3])}{more}")


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which `draw10` comes after `draw9`."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
