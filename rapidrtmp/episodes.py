"""
What is worth a line in the log when the same thing happens a thousand times: its beginning.

A flood must not be able to fill a disk, nor to bury the one line that matters. So what strangers do is counted each
time, and said once per episode and source.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["Episodes"]


class Episodes:
    """
    Tells news from more of the same.

    An episode is one kind of event from one source, with never more than ``quiet_ms`` between two of them. Of one kind,
    only so many sources are news at a time: a flood from a thousand addresses is one piece of news as well.

    :param max_sources: how many episodes of one kind are remembered; one more than that is not news.
    """

    def __init__(self, quiet_ms: int = 60_000, max_sources: int = 16) -> None:
        self._quiet_ms = quiet_ms
        self._max_sources = max_sources
        self._kinds: dict[str, OrderedDict[str, int]] = {}

    def is_news(self, kind: str, source: str, time_ms: int) -> bool:
        """
        Note an event, and tell whether it begins an episode.

        :param kind: what happened: one of few.
        :param source: whoever did it: one of many.
        :param time_ms: now; never less than at the last call.
        """
        sources = self._kinds.setdefault(kind, OrderedDict())
        while sources and time_ms - next(iter(sources.values())) > self._quiet_ms:
            sources.popitem(last=False)
        if source not in sources and len(sources) >= self._max_sources:
            return False
        is_first = source not in sources
        sources[source] = time_ms
        sources.move_to_end(source)
        return is_first
