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
from pathlib import Path

from tests.work.budget import SHOWN, TABLE, VERSION, limit, read_table, write_table
from tests.work.counts import Counts, Row, count_all
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
    before = columns.get(VERSION, {})
    columns[VERSION] = {row: _written(row, counted, before.get(row)) for row, counted in counts.rows.items()}
    TABLE.write_text(write_table(columns))


def _written(row: Row, counted: float, before: float | None) -> float:
    """What to write of a row: memory differs by a fraction of a byte from run to run, and stays as it is for that."""
    is_same = before is not None and row[1].startswith("bytes") and abs(counted - before) < 1
    return before if before is not None and is_same else counted


def save(counts: Counts, path: Path) -> None:
    """Keep the counts of every function."""
    path.write_text(json.dumps({": ".join(row): functions for row, functions in counts.functions.items()}))


def show_difference(counts: Counts, path: Path) -> None:
    """The functions whose counts have changed most since."""
    before = json.loads(path.read_text())
    for row, functions in counts.functions.items():
        old = before.get(": ".join(row), {})
        changes = {name: functions.get(name, 0.0) - old.get(name, 0.0) for name in {*functions, *old}}
        most = sorted(changes.items(), key=lambda item: (-abs(item[1]), item[0]))[:SHOWN]
        print(f"{': '.join(row)}  {sum(changes.values()):+.2f}")
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
