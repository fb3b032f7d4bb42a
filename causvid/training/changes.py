"""Changes of frozen settings, from a recipe file or from options: names and types are checked.

A value is what JSON has, or its written form as in an option: `3,4,5` for a tuple, `7x6x4000` for a
phase, `none` for nothing.
"""

import re
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from inspect import getdoc
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Settings = TypeVar("Settings")

hints = cache(get_type_hints)


def optional(hint: Any) -> Any:
    """`X` of `X | None`; any other type as it is."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (arm for arm in get_args(hint) if arm is not type(None))
    return hint


def is_group(hint: Any) -> bool:
    """Whether a field has fields of its own; a dataclass with a written form is a value."""
    kind = optional(hint)
    return is_dataclass(kind) and not hasattr(kind, "parse")


@cache
def descriptions(kind: type) -> dict[str, str]:
    """Field → its text in the docstring's `Args:`."""
    _, _, args = (getdoc(kind) or "").partition("Args:\n")
    found = re.findall(r"^    (\w+): ((?:.|\n(?=     ))+)", args, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """`settings` with some fields replaced, those of nested settings by nested mappings.

    Raises:
        ValueError: on unknown fields, or values of another type.
    """
    kind: Any = type(settings)
    known = hints(kind)
    names = [field.name for field in fields(kind)]
    unknown = sorted(changes.keys() - set(names))
    if unknown:
        raise ValueError(
            f"{kind.__name__} has no setting {', '.join(unknown)}; it has {', '.join(names)}"
        )
    values = {}
    for name, value in changes.items():
        current, hint = getattr(settings, name), known[name]
        if is_group(hint) and isinstance(value, Mapping) and current is not None:
            values[name] = changed(current, value)
        else:
            try:
                values[name] = read(hint, value)
            except ValueError as error:
                raise ValueError(f"{kind.__name__}.{name}: {error}") from None
    return replace(cast(Any, settings), **values)


def read(hint: Any, value: Any) -> Any:
    """`value` as the type `hint`.

    Raises:
        ValueError: if it is none.
    """
    kind = optional(hint)
    if hint != kind:
        return None if value in (None, "none") else read(kind, value)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"expected one of {', '.join(get_args(kind))}, got {value!r}")
        return value
    if get_origin(kind) is tuple:
        return _tuple(get_args(kind), value)
    if is_dataclass(kind):
        kind = cast(Any, kind)
        if isinstance(value, kind):
            return value
        if isinstance(value, str) and hasattr(kind, "parse"):
            return kind.parse(value)
        if isinstance(value, Mapping):
            unknown = sorted(value.keys() - hints(kind).keys())
            if unknown:
                raise ValueError(f"{kind.__name__} has no setting {', '.join(unknown)}")
            return kind(**{name: read(hints(kind)[name], each) for name, each in value.items()})
        raise ValueError(f"expected {kind.__name__}, got {value!r}")
    if kind is bool:
        if value in ("true", "false"):
            return value == "true"
        if isinstance(value, bool):
            return value
    elif isinstance(value, bool):
        pass
    elif kind is float and isinstance(value, str | int | float):
        return float(value)
    elif kind is int and isinstance(value, str | int):
        return int(value)
    elif isinstance(value, kind):
        return value
    raise ValueError(f"expected {kind.__name__}, got {value!r}")


def _tuple(kinds: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    parts = value.split(",") if isinstance(value, str) else list(value)
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(parts)
    if len(parts) != len(kinds):
        raise ValueError(f"expected {len(kinds)} values with commas, got {value!r}")
    return tuple(read(kind, part) for kind, part in zip(kinds, parts, strict=True))


def written(value: Any) -> str:
    """A value as an option takes it, `read`'s inverse."""
    if isinstance(value, tuple):
        return ",".join(map(written, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
