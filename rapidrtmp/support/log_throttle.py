"""
What is worth a line in the log when the same thing happens a thousand times: its beginning, and how often it was.

A flood must not be able to fill a disk, nor to bury the one line that matters. So what strangers do is counted each
time, and logged once per episode and source.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["OTHERS", "Episode", "Episodes"]

#: The source of what came from more sources than are counted separately.
OTHERS = ""


@dataclass(slots=True)
class Episode:
    """
    One kind of event from one source.

    :ivar count: how often it happened, from ``first_ms`` to ``last_ms``.
    """

    first_ms: int
    last_ms: int
    count: int = 1


def _ignore_end(_kind: str, _source: str, _episode: Episode) -> None:
    """Do nothing: for callers that want beginnings alone."""


class Episodes:
    """
    Tells news from more of the same.

    An episode is one kind of event from one source, with never more than ``quiet_ms`` between two of them. Of one kind,
    only so many sources are news at a time: a flood from a thousand addresses is one piece of news as well.

    :param max_sources: how many episodes of one kind are counted separately; what all the others do is one more, of the
        source ``OTHERS``, whose beginning is not news.
    :param ended: called with the kind, the source and the episode when one is noticed to be over.
    """

    def __init__(
        self,
        quiet_ms: int = 60_000,
        max_sources: int = 16,
        ended: Callable[[str, str, Episode], None] = _ignore_end,
    ) -> None:
        self._quiet_ms = quiet_ms
        self._max_sources = max_sources
        self._ended = ended
        self._kinds: dict[str, OrderedDict[str, Episode]] = {}

    def __bool__(self) -> bool:
        return any(self._kinds.values())

    def is_news(self, kind: str, source: str, time_ms: int) -> bool:
        """
        Note an event, and tell whether it begins an episode.

        :param kind: what happened: one of few.
        :param source: the client that did it: one of many.
        :param time_ms: now; never less than at the last call.
        """
        sources = self._kinds.setdefault(kind, OrderedDict())
        self._end_quiet(kind, sources, time_ms)
        if source not in sources and len(sources) - (OTHERS in sources) >= self._max_sources:
            source = OTHERS
        episode = sources.get(source)
        if episode is None:
            sources[source] = Episode(time_ms, time_ms)
            return source != OTHERS
        episode.count += 1
        episode.last_ms = time_ms
        sources.move_to_end(source)
        return False

    def end_quiet(self, time_ms: int) -> None:
        """Notice what is over."""
        for kind, sources in self._kinds.items():
            self._end_quiet(kind, sources, time_ms)

    def _end_quiet(self, kind: str, sources: OrderedDict[str, Episode], time_ms: int) -> None:
        while sources and time_ms - next(iter(sources.values())).last_ms > self._quiet_ms:
            source, episode = sources.popitem(last=False)
            self._ended(kind, source, episode)
