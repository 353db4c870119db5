"""The ``rapidrtmp`` command: tools beside the server, which is ``twistd rapidrtmp``."""

from __future__ import annotations

import argparse
import mmap
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rapidrtmp.config import all_settings
from rapidrtmp.errors import RapidRTMPError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the tool that ``arguments`` (``sys.argv`` if left out) name.

    :returns: the exit status; 1 with one line on standard error if the tool failed.
    """
    parser = argparse.ArgumentParser(
        prog="rapidrtmp", description="Tools of RapidRTMP; the server is: twistd rapidrtmp"
    )
    tools = parser.add_subparsers(title="tools", required=True, metavar="TOOL")
    inspect = tools.add_parser("inspect", help="show the boxes of an MP4 file, init segment, segment or part")
    inspect.add_argument("file", type=Path)
    inspect.set_defaults(run=_inspect)
    tools.add_parser("settings", help="show every setting, its names and its default").set_defaults(run=_settings)
    chosen = parser.parse_args(arguments)
    try:
        print(chosen.run(chosen))
    except (RapidRTMPError, OSError) as error:
        print(f"rapidrtmp: {error}", file=sys.stderr)
        return 1
    return 0


def _inspect(chosen: argparse.Namespace) -> str:
    from rapidrtmp.mp4.reader import describe

    with open(chosen.file, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return describe(b"")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return describe(data)


def _settings(chosen: argparse.Namespace) -> str:  # noqa: ARG001 - called as every tool is
    lines: list[str] = []
    section = ""
    for row in all_settings():
        if row.section != section:
            section = row.section
            lines += ["", f"[{section}]"]
        option = [f"--{row.option}"] if row.option else []
        lines.append(f"{row.key} = {row.render(row.default)}")
        lines.append(f"    {row.help}.")
        lines.append(f"    {', '.join([*option, row.environment_name, *row.old_names])}")
    return "\n".join(lines[1:])
