"""Tracebacks, each once per burst: a client that has found a way to cause one can do so 400 times a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.support.log_throttle import OTHERS, Episode, Episodes

__all__ = ["BugLog"]


class BugLog:
    """
    Logs failures, and of those that come from one line of code no other until a minute has passed without one.

    How many there were is logged when the next failure shows that a burst is over.

    :param seconds: monotonic time.
    """

    def __init__(self, log: Logger, seconds: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._seconds = seconds
        self._episodes = Episodes(ended=self._ended)

    def failure(self, message: str, failure: Failure | None = None, **fields: Any) -> None:
        """Log ``failure`` or the exception that is being handled, unless that is more of the same."""
        failure = Failure() if failure is None else failure
        if self._is_first(message, _origin(failure)):
            self._log.failure(message, failure, **fields)

    def error(self, message: str, **fields: Any) -> None:
        """Log what failed for a known reason, unless that is more of the same."""
        if self._is_first(message, message):
            self._log.error(message, **fields)

    def _is_first(self, message: str, origin: str) -> bool:
        return self._episodes.is_news(message, origin, int(self._seconds() * 1000))

    def _ended(self, message: str, origin: str, episode: Episode) -> None:
        if episode.count > 1 or origin == OTHERS:
            self._log.warn("{count} times: {what} ({origin})", count=episode.count, what=message, origin=origin)


def _origin(failure: Failure) -> str:
    """The kind of error, and the line of code that raised it."""
    traceback = failure.getTracebackObject()
    while getattr(traceback, "tb_next", None) is not None:
        traceback = traceback.tb_next
    name = getattr(failure.type, "__name__", "")
    if traceback is None or not hasattr(traceback, "tb_frame"):
        return name
    return f"{name} at {traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"
