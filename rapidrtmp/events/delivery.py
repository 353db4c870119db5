"""
What one hook gets: event by event, in the order of each stream, again until it has been taken.

Each stream is a lane of its own: what cannot be delivered holds up what follows of the same stream, and nothing else.
After a number of attempts an event is a dead letter: counted, listed, and left behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.errors import RapidRTMPError
from rapidrtmp.interfaces import Event, EventType
from rapidrtmp.support.clock import now_ms
from rapidrtmp.support.log_throttle import Episodes

__all__ = ["DeadLetter", "Delivery", "DeliveryError"]

#: Of one hook: deliveries that are under way at a time; events that wait; dead letters that are listed.
MOST_AT_A_TIME, MOST_WAITING, MOST_DEAD = 8, 10_000, 100
#: The longest wait before the second attempt; it doubles with each one after. Half of it is left to chance.
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 60.0


class DeliveryError(RapidRTMPError):
    """
    An event was not taken.

    :ivar retry_after_s: how long the other side wants to be left alone; ``None`` if it has not said.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    An event that could not be delivered.

    :ivar attempts: how often that was tried; 0 if there was no room for it to wait.
    :ivar error: why it failed at last.
    :ivar time_ms: when it was given up, in milliseconds since 1970.
    """

    event: Event
    attempts: int
    error: str
    time_ms: int


@dataclass(slots=True, eq=False)
class _Lane:
    """
    The events of one stream that wait, the first of which is being delivered, or was and is again.

    :ivar attempts: how often the first one was tried.
    """

    name: str
    events: deque[Event] = field(default_factory=deque)
    attempts: int = 0
    under_way: Deferred[None] | None = None
    delay: IDelayedCall | None = None


class Delivery:
    """
    Delivers to one hook.

    :param name: what logs, metrics and the API call it.
    :param types: the events that it wants; ``None`` for all.
    :param send: delivers one; its Deferred fires when it is taken, or fails with :class:`DeliveryError`.
    :param attempts: how often an event is tried.
    :param random: 0 up to 1, for the delays.
    :param utc_ms: the time of day in milliseconds since 1970.
    :ivar delivered: how many events were taken; ``retried``: how many attempts were made after a first one; ``dead``:
        how many events were given up.
    :ivar waiting: how many events wait, those under way included.
    :ivar last_error: why the last attempt failed; ``""`` if the last one did not.
    :ivar dead_letters: the last of those, the newest last.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        types: frozenset[EventType] | None,
        send: Callable[[Event], Deferred[None]],
        *,
        attempts: int,
        clock: IReactorTime,
        utc_ms: Callable[[], int],
        random: Callable[[], float],
    ) -> None:
        self.name = name
        self.delivered = self.retried = self.dead = self.waiting = 0
        self.last_error = ""
        self.dead_letters: deque[DeadLetter] = deque(maxlen=MOST_DEAD)
        self._types = types
        self._send = send
        self._attempts = attempts
        self._clock = clock
        self._utc_ms = utc_ms
        self._random = random
        self._lanes: dict[str, _Lane] = {}
        self._ready: deque[_Lane] = deque()
        self._under_way = 0
        self._is_starting = self._is_stopping = False
        self._idle: Deferred[None] | None = None
        self._log_throttle = Episodes()

    def take(self, event: Event) -> None:
        """Deliver an event, if the hook wants it."""
        if (self._types is not None and event.type not in self._types) or self._is_stopping:
            return
        if self.waiting >= MOST_WAITING:
            self._bury(event, 0, f"{MOST_WAITING} events wait already")
            return
        name = str(event.stream or "")
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane(name)
            self._ready.append(lane)
        lane.events.append(event)
        self.waiting += 1
        self._start_ready()

    # ── attempts ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start_ready(self) -> None:
        """Start what can start. What is done at once must not pile up calls: one loop takes them all."""
        if self._is_starting:
            return
        self._is_starting = True
        try:
            while self._ready and self._under_way < MOST_AT_A_TIME:
                self._attempt(self._ready.popleft())
        finally:
            self._is_starting = False

    def _attempt(self, lane: _Lane) -> None:
        self.retried += lane.attempts > 0
        lane.attempts += 1
        self._under_way += 1
        sending: Deferred[None] = maybeDeferred(self._send, lane.events[0])
        lane.under_way = sending
        sending.addBoth(self._answered, lane)

    def _answered(self, result: object, lane: _Lane) -> None:
        lane.under_way = None
        self._under_way -= 1
        if not isinstance(result, Failure):
            self.delivered += 1
            self.last_error = ""
            self._next(lane)
            return
        error = _reason(result)
        self.last_error = error
        if lane.attempts >= self._attempts or self._is_stopping:
            self._bury(lane.events[0], lane.attempts, error)
            self._next(lane)
            return
        self._warn("{hook} fails: {error}; its events are tried again", "fails", error)
        lane.delay = self._clock.callLater(self._delay_s(lane, result), self._delay_over, lane)
        self._start_ready()

    def _delay_s(self, lane: _Lane, failure: Failure) -> float:
        longest_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** (lane.attempts - 1))
        asked_s = getattr(failure.value, "retry_after_s", None) or 0.0
        return max(longest_s * (1 + self._random()) / 2, min(asked_s, LONGEST_DELAY_S))

    def _delay_over(self, lane: _Lane) -> None:
        lane.delay = None
        self._ready.append(lane)
        self._start_ready()

    def _next(self, lane: _Lane) -> None:
        """Continue with the next event of the stream."""
        lane.events.popleft()
        lane.attempts = 0
        self.waiting -= 1
        if lane.events:
            self._ready.append(lane)
        else:
            del self._lanes[lane.name]
        self._start_ready()
        if not self._lanes and self._idle is not None:
            idle, self._idle = self._idle, None
            idle.callback(None)

    def _bury(self, event: Event, attempts: int, error: str) -> None:
        self.dead += 1
        self.dead_letters.append(DeadLetter(event, attempts, error, self._utc_ms()))
        self._warn("{hook} did not take an event: {error}; see GET /api/v1/hooks", "gives up", error)

    def _warn(self, message: str, kind: str, error: str) -> None:
        if self._log_throttle.is_news(kind, self.name, now_ms(self._clock)):
            self._log.warn(message, hook=self.name, error=error)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def drain(self) -> Deferred[None]:
        """Take no more; fires when all that waits was delivered or has failed. Nothing waits to be tried again."""
        self._is_stopping = True
        for lane in list(self._lanes.values()):
            if lane.delay is not None:
                lane.delay.cancel()
                self._delay_over(lane)
        if not self._lanes:
            return succeed(None)
        self._idle = Deferred()
        return self._idle

    def stop(self) -> None:
        """Take no more, and give up what waits."""
        self._is_stopping = True
        self._idle = None
        self._ready.clear()
        left, lanes = self.waiting, list(self._lanes.values())
        self._is_starting = True  # nothing is to be started by what is cancelled
        for lane in lanes:
            if lane.delay is not None:
                lane.delay.cancel()
            if lane.under_way is not None:
                lane.under_way.cancel()
        self._ready.clear()
        self._lanes.clear()
        if left:
            self._log.warn("{hook}: {count} events were not delivered", hook=self.name, count=left)


def _reason(failure: Failure) -> str:
    """What went wrong, in one line."""
    return str(failure.value).partition("\n")[0][:200] or failure.type.__name__ if failure.type else "unknown"
