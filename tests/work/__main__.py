"""
``python -m tests.work``: what is counted now, beside the table and what it allows.

    --write         enter what is counted now into the table, for this version of Python
    --save FILE     keep every count of every function, as JSON
    --since FILE    show which functions made the difference to what was kept, in another checkout, say
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from tests.work.budget import SHOWN, TABLE, VERSION, limit, read_table, write_table
from tests.work.counts import Counts, count_all
from tests.work.meter import unavailable


def show(counts: Counts) -> None:
    """Every row: counted now, in the table, allowed."""
    column = read_table(TABLE.read_text()).get(VERSION, {}) if TABLE.exists() else {}
    print(f"{'':<34}{'counted':>12}{'table':>12}{'limit':>12}")
    for row, counted in counts.rows.items():
        line = f"{': '.join(row):<34}{counted:>12.2f}"
        if row in column:
            allowed = limit(row, column[row])
            line += f"{column[row]:>12.2f}{allowed:>12.2f}{'  over' if counted > allowed else ''}"
        print(line)


def write(counts: Counts) -> None:
    """Enter what was counted into the table."""
    columns = read_table(TABLE.read_text()) if TABLE.exists() else {}
    columns[VERSION] = counts.rows
    TABLE.write_text(write_table(columns))


def save(counts: Counts, path: Path) -> None:
    """Keep the counts of every function."""
    path.write_text(json.dumps({": ".join(row): functions for row, functions in counts.functions.items()}))


def show_difference(counts: Counts, path: Path) -> None:
    """The functions whose counts have changed most since."""
    before = json.loads(path.read_text())
    for row, functions in counts.functions.items():
        changes = Counter(functions)
        changes.subtract(before.get(": ".join(row), {}))
        most = sorted(changes.items(), key=lambda item: -abs(item[1]))[:SHOWN]
        print(f"{': '.join(row)}  {changes.total():+.2f}")
        for name, change in most:
            if abs(change) >= 0.005:
                print(f"{change:>+10.2f}  {name}")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.work", description="what is counted now, beside the table")
    parser.add_argument("--write", action="store_true", help="enter it into the table, for this version of Python")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the counts of every function")
    parser.add_argument("--since", type=Path, metavar="FILE", help="show what has changed since they were kept")
    arguments = parser.parse_args()
    reason = unavailable()
    if reason:
        sys.exit(reason)
    counts = count_all()
    show(counts)
    if arguments.since:
        show_difference(counts, arguments.since)
    if arguments.save:
        save(counts, arguments.save)
    if arguments.write:
        write(counts)


if __name__ == "__main__":
    main()
