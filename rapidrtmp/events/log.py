"""
The log: bounded, ordered, and read by as many as like.

Events that strangers can cause as often as they like (a client begins to watch, is refused) have a bound of their own,
so that none of these, however many, pushes out when a publisher came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from heapq import merge
from itertools import takewhile

from prometheus_client import Counter
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from rapidrtmp.interfaces import Event, EventType, IEventLog
from rapidrtmp.names import StreamName
from rapidrtmp.support.bug_log import BugLog

__all__ = ["EventLog"]

#: What strangers cause.
CROWD = frozenset({EventType.PLAY, EventType.STOP, EventType.AUTH_REFUSED})
#: Ids begin with the time of the start in milliseconds, times this: so they rise over restarts, and a number of JSON
#: holds them (53 bits) until the year 2255.
IDS_PER_MS = 1_000
#: How many events go to the followers in one turn of the reactor.
TOLD_AT_A_TIME = 200

Follower = Callable[[Sequence[Event]], object]


@implementer(IEventLog)
class EventLog:
    """
    The log of one server.

    :param clock: lets followers be called in a turn of their own.
    :param utc_ms: the time of day in milliseconds since 1970.
    :param kept: how many events are kept, half of them of those that strangers cause.
    :param counter: counts them, by type.
    """

    def __init__(self, clock: IReactorTime, utc_ms: Callable[[], int], kept: int, counter: Counter) -> None:
        self._clock = clock
        self._utc_ms = utc_ms
        self._counter = counter
        self._bugs = BugLog(Logger())
        self._others: deque[Event] = deque(maxlen=max(kept - kept // 2, 1))
        self._crowd: deque[Event] = deque(maxlen=max(kept // 2, 1))
        self._followers: dict[object, Follower] = {}
        self._untold: deque[Event] = deque(maxlen=max(kept, 1))
        self._telling: IDelayedCall | None = None
        self.last_id = utc_ms() * IDS_PER_MS
        self.oldest_gone = self.last_id

    def record(
        self, type: EventType, stream: StreamName | None = None, peer: str = "", data: Mapping[str, object] = {}, /
    ) -> None:
        """See :meth:`IEventLog.record <rapidrtmp.interfaces.IEventLog.record>`."""
        try:
            type = EventType(type)
        except ValueError:
            self._bugs.failure("{type} is no type of event", type=type)
            return
        self.last_id += 1
        event = Event(self.last_id, self._utc_ms(), type, stream, peer, data)
        self._counter.labels(type.value).inc()
        kept = self._crowd if type in CROWD else self._others
        if len(kept) == kept.maxlen:
            self.oldest_gone = max(self.oldest_gone, kept[0].id)
        kept.append(event)
        if self._followers:
            self._untold.append(event)
            self._tell_later()

    def after(self, id: int) -> Sequence[Event]:
        """See :meth:`IEventLog.after <rapidrtmp.interfaces.IEventLog.after>`."""
        newest = (takewhile(lambda event: event.id > id, reversed(kept)) for kept in (self._others, self._crowd))
        return list(merge(*newest, key=lambda event: event.id, reverse=True))[::-1]

    # ── followers ────────────────────────────────────────────────────────────────────────────────────────────────────

    def follow(self, listener: Follower) -> Callable[[], None]:
        """See :meth:`IEventLog.follow <rapidrtmp.interfaces.IEventLog.follow>`."""
        key = object()
        self._followers[key] = listener
        return lambda: self._leave(key)

    def _leave(self, key: object) -> None:
        self._followers.pop(key, None)
        if not self._followers:
            self._untold.clear()

    def _tell_later(self) -> None:
        if self._telling is None:
            self._telling = self._clock.callLater(0, self._tell)

    def _tell(self) -> None:
        self._telling = None
        events = [self._untold.popleft() for _ in range(min(len(self._untold), TOLD_AT_A_TIME))]
        if self._untold:
            self._tell_later()
        for follower in list(self._followers.values()) if events else ():
            try:
                follower(events)
            except Exception:
                self._bugs.failure("internal error in an event listener")

    def stop(self) -> None:
        """Tell of all that is left, and of nothing any more."""
        while self._untold:
            if self._telling is not None:
                self._telling.cancel()
            self._tell()
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        self._followers.clear()
