"""When a stream breaks off too often to be watched."""

from __future__ import annotations

from collections import deque

__all__ = ["StormWatch"]


class StormWatch:
    """
    Counts where the timeline begins anew. Now and then that serves the viewer; in a storm it serves no one.

    :param breaks: so many of them,
    :param within_ms: within so long by the server's clock, are a storm.
    """

    def __init__(self, breaks: int, within_ms: int) -> None:
        self._within_ms = within_ms
        self._latest: deque[int] = deque(maxlen=breaks)
        self._is_reported = False

    def broken(self, reason: str, now_ms: int) -> str | None:
        """
        Count a break.

        :param reason: why the timeline begins anew.
        :returns: what to tell the publisher when the storm is there, one sentence, once; else ``None``.
        """
        self._latest.append(now_ms)
        spent_ms = now_ms - self._latest[0]
        if self._is_reported or len(self._latest) < (self._latest.maxlen or 0) or spent_ms > self._within_ms:
            return None
        self._is_reported = True
        return f"the stream broke off {len(self._latest)} times in {spent_ms} ms ({reason})"
