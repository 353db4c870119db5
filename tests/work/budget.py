"""
The table of what was counted when it was last written down, for each version of Python, and what it allows.

``counted.txt`` has a line for each row and a column for each version; ``python -m tests.work --write`` writes the
column of the Python it runs under.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.work.counts import BYTES_HELD, Counts, Row

__all__ = ["TABLE", "VERSION", "Excess", "excesses", "limit", "read_table", "write_table"]

TABLE = Path(__file__).with_name("counted.txt")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
#: How much more than in the table there may be: libraries and the standard one change too.
MARGIN = 0.10
#: What may be held more for each message or request. Code that keeps an object for each keeps more.
SLACK_HELD = 32.0
#: What is shown of the functions behind a count.
SHOWN = 10

_HEAD = "# for one message or request"
_LINE = re.compile(r"(\S.*?): (\S.*?) {2,}([\d. -]+)")

Column = Mapping[Row, float]


def read_table(text: str) -> dict[str, dict[Row, float]]:
    """The columns of a table, by version; ``-`` is for what that version has not been counted for."""
    head, *lines = text.splitlines()
    versions = head.removeprefix(_HEAD).split()
    columns: dict[str, dict[Row, float]] = {version: {} for version in versions}
    for line in lines:
        match = _LINE.fullmatch(line)
        assert match is not None, line
        for version, value in zip(versions, match[3].split(), strict=True):
            if value != "-":
                columns[version][match[1], match[2]] = float(value)
    return columns


def write_table(columns: Mapping[str, Column]) -> str:
    """The text of a table; its rows are those of the column that has most, in its order."""
    versions = sorted(columns, key=lambda version: [int(number) for number in version.split(".")])
    lines = [f"{_HEAD:<34}" + "".join(f"{version:>10}" for version in versions)]
    for scene, kind in max(columns.values(), key=len):
        values = (columns[version].get((scene, kind)) for version in versions)
        shown = ("-" if value is None else f"{round(value, 2) + 0.0:.2f}" for value in values)
        lines.append(f"{f'{scene}: {kind}':<34}" + "".join(f"{value:>10}" for value in shown))
    return "\n".join(lines) + "\n"


def limit(row: Row, allowed: float) -> float:
    """How much there may be of what the table says."""
    return allowed * (1 + MARGIN) + (SLACK_HELD if row[1] == BYTES_HELD else 0.005)  # the table is rounded


@dataclass(frozen=True)
class Excess:
    """A row that is over its limit."""

    row: Row
    counted: float
    allowed: float
    functions: Sequence[tuple[str, float]]

    def __str__(self) -> str:
        scene, kind = self.row
        text = f"{scene}: {kind} rose from {self.allowed:.2f} to {self.counted:.2f}; "
        text += f"up to {limit(self.row, self.allowed):.2f} is allowed."
        if self.functions:
            text += " Where most of them are:"
        return "\n".join([text, *(f"{count:>10.1f}  {name}" for name, count in self.functions)])


def excesses(counts: Counts, column: Column) -> Iterator[Excess]:
    """Every row that was counted and is over its limit, with the functions that have most of it."""
    for row, counted in counts.rows.items():
        if counted > limit(row, column[row]):
            functions = counts.functions.get(row, {})
            most = sorted(functions.items(), key=lambda item: -item[1])[:SHOWN]
            yield Excess(row, counted, column[row], most)
