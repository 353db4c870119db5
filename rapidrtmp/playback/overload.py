"""
Whether one more viewer can be served in time, as it shows in how late the reactor is and how busy it was.

Those who watch come first. A viewer costs little when it comes and more from then on, so those who came within the last
seconds are reckoned with before their cost can be measured: as many are let in as will fit if each costs twice what one
is known to cost. Where that is too many, and where timers have been late for half a second, the next one is asked to
come later, and when: not all at the same time.

A server that has just started cannot know those who have watched all the time while it was replaced: at first all may
come as long as it is not late.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from rapidrtmp.interfaces import UnavailableError
from rapidrtmp.names import StreamName

__all__ = ["Overload", "OverloadedError"]

#: How often the reactor is looked at.
SAMPLE_S = 0.05
#: How long it must have been late.
LATE_S = 0.5
#: How busy it is, is measured over this time.
BUSY_WITHIN_S = 1.0
#: How long after it was let in a viewer's cost shows in that.
SETTLES_S = 1.5
#: What publishers and viewers together may use of a processor before a crowd of viewers is held back.
FULL = 0.9
#: What a viewer is reckoned with, in processors: twice that of one who plays part by part (see docs/performance.md).
VIEWER_COST = 0.0006
#: So many viewers may come within SETTLES_S as long as the reactor is in time.
FEW = 20
#: A server that has started no longer ago expects the viewers of the one before.
RETURNING_S = 10.0
#: Who is refused is asked to come again after so many seconds, and up to as many more.
SOON_S, LATER_S = 2, 10
#: For how long it is known whose viewers were refused.
KNOWN_S = 60.0


class OverloadedError(UnavailableError):
    """The server has no time for one more viewer now: 503. It costs no more to answer than a small playlist."""


class Overload:
    """
    Decides.

    :param clock: gives the time, and timers, which are late when the server is.
    :param find_busy_s: tells for how long, in seconds, the reactor has been busy so far.
    :param max_lag_ms: how late it may be while viewers are let in; 0 lets all in.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, find_busy_s: Callable[[], float], max_lag_ms: int) -> None:
        self._clock = clock
        self._find_busy_s = find_busy_s
        self._max_lag_ms = max_lag_ms
        self._timer: IDelayedCall | None = None
        self._busy: deque[tuple[float, float]] = deque()
        self._share = self._started_s = 0.0
        self._lag_ms = 0
        self._late_since_s: float | None = None
        self._came: deque[tuple[float, int]] = deque()
        self._settling = self._coming = 0
        self._refused: Counter[StreamName] = Counter()
        self._refused_total = 0
        self._known_since_s = 0.0

    def start(self) -> None:
        """Begin to look at the reactor."""
        if self._max_lag_ms and self._timer is None:
            self._started_s = self._clock.seconds()
            self._busy.append((self._started_s, self._find_busy_s()))
            self._await_timer()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def admit(self, name: StreamName) -> None:
        """
        Let one more viewer of a stream in.

        :raises OverloadedError: it cannot be served in time, or those who watch could not.
        """
        if self._is_late:
            self._refuse(name, LATER_S, f"this server is {self._lag_ms} ms late")
        if self._settling >= self._room and self._expects_no_crowd:
            self._refuse(name, SOON_S if self._share < FULL else LATER_S, "many viewers come to this server")
        self._coming += 1
        self._settling += 1

    def refused_lately(self, name: StreamName) -> int:
        """How many viewers of a stream were refused within the last minute or so."""
        self._forget()
        return self._refused[name]

    @property
    def _is_late(self) -> bool:
        since_s = self._late_since_s
        return since_s is not None and self._clock.seconds() - since_s >= LATE_S

    @property
    def _expects_no_crowd(self) -> bool:
        return self._timer is not None and self._clock.seconds() - self._started_s >= RETURNING_S

    @property
    def _room(self) -> int:
        return max(FEW, round((FULL - self._share) / VIEWER_COST))

    def _refuse(self, name: StreamName, after_s: int, reason: str) -> None:
        self._forget()
        if not self._refused:
            self._log.warn("new viewers are refused: {reason}; http.max_viewer_lag is the limit", reason=reason)
        self._refused[name] += 1
        self._refused_total += 1
        raise OverloadedError(
            f"{reason}, and it has no time for another viewer now; try again later",
            after_s + self._refused_total % (after_s + 1),
        )

    def _forget(self) -> None:
        now_s = self._clock.seconds()
        if now_s - self._known_since_s > KNOWN_S:
            self._refused.clear()
            self._known_since_s = now_s

    # ── what is measured ─────────────────────────────────────────────────────────────────────────────────────────────

    def _await_timer(self) -> None:
        self._timer = self._clock.callLater(SAMPLE_S, self._look, self._clock.seconds() + SAMPLE_S)

    def _look(self, due_s: float) -> None:
        now_s = self._clock.seconds()
        self._lag_ms = max(0, round((now_s - due_s) * 1000))
        if self._lag_ms <= self._max_lag_ms:
            self._late_since_s = None
        elif self._late_since_s is None:
            self._late_since_s = due_s
        self._measure_share(now_s)
        self._settle(now_s)
        self._await_timer()

    def _measure_share(self, now_s: float) -> None:
        busy_s = self._find_busy_s()
        self._busy.append((now_s, busy_s))
        while len(self._busy) > 2 and self._busy[1][0] <= now_s - BUSY_WITHIN_S:
            self._busy.popleft()
        since_s, was_s = self._busy[0]
        self._share = (busy_s - was_s) / (now_s - since_s) if now_s > since_s else 0.0

    def _settle(self, now_s: float) -> None:
        """Reckon no more with those who came so long ago that their cost shows."""
        if self._coming:
            self._came.append((now_s, self._coming))
            self._coming = 0
        while self._came and self._came[0][0] <= now_s - SETTLES_S:
            self._settling -= self._came.popleft()[1]

    def metrics(self) -> Iterator[Metric]:
        """For a scrape."""
        yield GaugeMetricFamily(
            "rapidrtmp_reactor_busy_ratio", "Share of the last second in which the reactor was busy", self._share
        )
        yield CounterMetricFamily(
            "rapidrtmp_viewers_refused_total", "Requests of new viewers refused for lack of time", self._refused_total
        )
