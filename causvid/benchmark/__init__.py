"""Speed, memory and operator launches; `causvid.commands.benchmark` is the command."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text cells in aligned columns; the first column names the row."""
    from tabulate import tabulate

    align = ("left", *("right" for _ in header[1:]))
    return tabulate(rows, header, "plain", disable_numparse=True, colalign=align)
