"""What the hostile tests have tried and found, as a table at the end."""

import pytest
from tabulate import tabulate

_ROWS = pytest.StashKey[list[tuple[str, str]]]()


@pytest.fixture
def tell(request):
    """A function that puts a line into the table: what was tried, and what came of it."""
    rows = request.config.stash.setdefault(_ROWS, [])
    return lambda tried, found: rows.append((tried, found))


def pytest_terminal_summary(terminalreporter, config):
    if rows := config.stash.get(_ROWS, []):
        terminalreporter.write_line(tabulate(rows, ["tried", "found"], tablefmt="github"))
