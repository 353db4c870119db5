"""How far a long command is: one line on a terminal, written over and over, and nothing anywhere else."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from time import monotonic
from typing import IO, Protocol

__all__ = ["Progress", "ShowsProgress", "no_progress"]

#: No reader sees more.
INTERVAL_S = 0.1


class ShowsProgress(Protocol):
    """What a tool calls as it works."""

    def __call__(self, text: str, done: int = 0, whole: int = 0) -> None:
        """
        Show what is worked on.

        :param done: how much of ``whole`` has been done; ``whole`` is 0 where that is not known.
        """


def no_progress(text: str, done: int = 0, whole: int = 0) -> None:
    """Show nothing."""


class Progress:
    """
    A line on standard error, which standard output can be redirected beside.

    :param out: where it goes; nothing is written if that is no terminal.
    :param seconds: a clock.
    """

    def __init__(self, out: IO[str] | None = None, seconds: Callable[[], float] = monotonic) -> None:
        self._out = sys.stderr if out is None else out
        self._seconds = seconds
        self._is_terminal = self._out.isatty()
        self._shown_s: float | None = None

    def __call__(self, text: str, done: int = 0, whole: int = 0) -> None:
        """See :class:`ShowsProgress`; ten times a second at most."""
        now_s = self._seconds()
        if not self._is_terminal or (self._shown_s is not None and now_s - self._shown_s < INTERVAL_S):
            return
        self._shown_s = now_s
        share = f"{100 * done // whole:3} %  " if whole else ""
        columns = shutil.get_terminal_size().columns
        self._write(f"{share}{text}"[: columns - 1])

    def clear(self) -> None:
        """Take the line away; what is printed next begins at the margin."""
        if self._shown_s is not None:
            self._shown_s = None
            self._write("")

    def _write(self, line: str) -> None:
        self._out.write(f"\r\x1b[K{line}")
        self._out.flush()
