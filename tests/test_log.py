"""Tracebacks say what went wrong where, and nothing that a viewer wrote."""

import builtins
import io
import logging
import sys

import pytest

from causvid.log import Withholding

SECRET = "a secret garden at midnight"


Group = getattr(builtins, "ExceptionGroup", KeyError)  # from Python 3.11 on


def deep(error: BaseException) -> None:
    raise error


def chained() -> None:
    try:
        deep(KeyError(SECRET))
    except KeyError as error:
        raise RuntimeError(f"cannot read {SECRET!r}") from error


def in_passing() -> None:
    try:
        deep(KeyError(SECRET))
    except KeyError:
        deep(TypeError(SECRET))


def noted() -> None:
    error = ValueError("no")
    error.__notes__ = [SECRET]
    raise error


def in_a_circle() -> None:
    one, other = ValueError(SECRET), ValueError(SECRET)
    one.__cause__, other.__cause__ = other, one
    raise one


class Worded(Exception):
    def __str__(self) -> str:
        return SECRET


def written(act, formatter=None) -> str:
    """What the log has of an error that `act` raises."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter or Withholding("%(message)s"))
    log = logging.Logger("alone")
    log.addHandler(handler)
    try:
        act()
    except BaseException:
        log.exception("run %s failed", "x1")
    return stream.getvalue()


@pytest.mark.parametrize(
    "act",
    [
        *(chained, in_passing, noted, in_a_circle),
        lambda: deep(Worded()),
        lambda: deep(UnicodeEncodeError("utf-8", SECRET, 0, 1, SECRET)),
        lambda: deep(SyntaxError(SECRET, (SECRET, 1, 1, SECRET))),
        lambda: deep(OSError(SECRET)),
        lambda: int(SECRET),
        lambda: {}[SECRET],
        lambda: deep(Group(SECRET, [KeyError(SECRET)])),
    ],
)
def test_no_text_of_an_error_is_written_but_its_type_and_place(act):
    assert "secret" in written(act, logging.Formatter("%(message)s")) or act is noted
    said = written(act)
    assert "secret" not in said and "midnight" not in said
    assert said.startswith("run x1 failed\nTraceback") and "test_log.py" in said
    assert "Error" in said or "Worded" in said or "Group" in said


def test_what_the_system_says_is_kept():
    said = written(lambda: open("/nowhere/at/all").close())
    assert "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/at/all'" in said


def test_what_another_formatter_left_is_not_taken_over():
    record = logging.LogRecord("a", 40, "a", 1, "failed", (), None)
    try:
        raise ValueError(SECRET)
    except ValueError:
        record.exc_info = sys.exc_info()
    assert "secret" in logging.Formatter().format(record)
    assert "secret" not in Withholding().format(record)
    assert "secret" in logging.Formatter().format(record), "nor is ours by another"
