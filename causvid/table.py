"""Tables to be printed or put into a README."""

from dataclasses import dataclass

Row = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Text cells under a header; the first column names the row. `note` stands below."""

    title: str
    header: Row
    rows: tuple[Row, ...]
    note: str = ""

    def to_text(self) -> str:
        """Aligned columns."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        text = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([*text, self.note] if self.note else text)

    def to_markdown(self) -> str:
        """A table with a heading."""
        rule = ("---", *("--:" for _ in self.header[1:]))
        lines = (self.header, rule, *self.rows)
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join(part for part in (f"## {self.title}", table, self.note) if part)
