"""
A number in a file that no presentation has reached, for a server that starts again with an earlier clock.

What is stored of streams keeps their numbers rising; of streams that are in memory alone nothing is left. All begin by
the clock, and rise more slowly than it where media comes in real time: so the number that the clock stands for some
minutes from now is above all that are used by then. It is written when a presentation begins, and again before it is
reached.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.interfaces.storage import InThread
from rapidrtmp.live.numbering import Numbering

__all__ = ["NumberMark"]

#: So far ahead of the clock a mark is set, and so often it is looked after.
AHEAD_MS, EVERY_S = 900_000, 300
#: A file with more digits is none of ours.
_MOST_DIGITS = 15


class NumberMark:
    """
    Keeps the mark of one server.

    :param path: the file.
    :param in_thread: where it is written.
    :param used: tells the highest number that is used now, as far as streams are there.
    """

    _log = Logger()

    def __init__(
        self, path: Path, numbering: Numbering, clock: IReactorTime, in_thread: InThread, used: Callable[[], int]
    ) -> None:
        self._path = path
        self._numbering = numbering
        self._in_thread = in_thread
        self._used = used
        self._mark = 0
        self._is_warned = False
        self._writing: Deferred[None] | None = None
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def start(self) -> None:
        """Begin above the mark of an earlier server."""
        self._numbering.reached(self._read())
        self._numbering.began = self._look
        self._looking.start(EVERY_S, now=False)

    def stop(self) -> Deferred[None]:
        """Look after it no more. Nothing more is used: the mark comes down to the clock, unless that is behind."""
        if self._looking.running:
            self._looking.stop()
        self._numbering.began = lambda: None
        done = self._writing or succeed(None)
        return done.addCallback(lambda _: self._come_down())

    def _come_down(self) -> None:
        self._numbering.reached(self._used())
        if 0 < self._mark <= self._numbering.after(AHEAD_MS):
            try:
                _write(self._path, f"{self._numbering.after(0)}\n")
            except OSError as error:
                self._warn(error)

    def _read(self) -> int:
        try:
            text = self._path.read_text("ascii").strip()
        except (OSError, ValueError):
            return 0
        return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else 0

    def _look(self) -> None:
        """Set the mark anew when less than half of the way to it is left, if there was any presentation."""
        self._numbering.reached(self._used())
        if self._numbering.has_begun and self._writing is None and self._numbering.after(AHEAD_MS // 2) > self._mark:
            mark = self._numbering.after(AHEAD_MS)
            self._writing = self._in_thread(_write, self._path, f"{mark}\n").addCallbacks(
                self._written, self._failed, callbackArgs=(mark,)
            )
            if self._writing.called:
                self._writing = None

    def _written(self, _: None, mark: int) -> None:
        self._mark, self._writing = mark, None

    def _failed(self, failure: Failure) -> None:
        failure.trap(OSError)
        self._writing = None
        self._warn(failure.getErrorMessage())

    def _warn(self, error: object) -> None:
        if not self._is_warned:
            self._is_warned = True
            self._log.warn(
                "{path} cannot be written ({error}): should the server start again with an earlier clock, streams that "
                "are not stored begin with smaller numbers than players know",
                path=str(self._path),
                error=error,
            )


def _write(path: Path, text: str) -> None:
    """Put a text in the place of a file, whole. :raises OSError: that cannot be done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text, "ascii")
    draft.replace(path)
