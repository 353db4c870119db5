"""How a relay does: its state, who hears of it, and what is counted of all of them."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rapidrtmp.http.params import rfc3339
from rapidrtmp.interfaces import EventType, RecordEvent
from rapidrtmp.names import StreamName
from rapidrtmp.relay.failure import FailureKind, RelayFailure
from rapidrtmp.support.clock import now_ms

__all__ = ["RelayMetrics", "RelayState", "RelayStatus"]

#: Over so long a bit rate is measured, in milliseconds.
RATE_OVER_MS = 5_000
#: So many messages are counted at a time: a counter takes longer than a message.
ADD_UP = 32


class RelayState(enum.StrEnum):
    """Where a relay is in its life."""

    WAITING = "waiting"  # there is nothing to relay, or no one who wants it
    CONNECTING = "connecting"
    RUNNING = "running"
    RETRYING = "retrying"  # the connection failed, and is tried again
    REFUSED = "refused"  # the other server does not want it, and is asked again now and then
    FAILED = "failed"  # as it is configured it cannot work


_REFUSALS = frozenset({FailureKind.REFUSED, FailureKind.BUSY, FailureKind.CERTIFICATE, FailureKind.LOOP})


class RelayMetrics:
    """What is counted of all relays; the label ``direction`` is ``push`` or ``pull``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.failures_total = Counter(
            "rapidrtmp_relay_failures_total",
            "Attempts of relays that failed, and connections that broke, by kind of trouble",
            ["direction", "kind"],
            registry=registry,
        )
        self.bytes_total = Counter(
            "rapidrtmp_relay_bytes_total", "Media sent to other servers, or received", ["direction"], registry=registry
        )
        self.dropped_frames_total = Counter(
            "rapidrtmp_relay_dropped_frames_total",
            "Frames that were not pushed because the way was too slow",
            registry=registry,
        )


class _Rate:
    """Bits a second over the last seconds."""

    def __init__(self) -> None:
        self._marks: deque[tuple[int, int]] = deque()
        self._total = 0

    def add(self, size: int, time_ms: int) -> None:
        self._total += size
        if not self._marks or time_ms - self._marks[-1][0] >= 500:
            self._marks.append((time_ms, self._total - size))
            while len(self._marks) > 2 and time_ms - self._marks[1][0] >= RATE_OVER_MS:
                self._marks.popleft()

    def bits_per_second(self, time_ms: int) -> int:
        while self._marks and time_ms - self._marks[0][0] > 2 * RATE_OVER_MS:
            self._marks.popleft()
        if not self._marks:
            return 0
        since_ms, before = self._marks[0]
        return (self._total - before) * 8000 // max(time_ms - since_ms, 1000)


class RelayStatus:
    """
    How one relay does.

    A change is logged and recorded as an event; more of the same trouble is not.

    :param id: what it is called.
    :param direction: ``push`` or ``pull``.
    :param target: where it leads, or comes from, as it may be shown.
    :ivar state: see :class:`RelayState`; ``reason`` is why.
    :ivar reconnects: how often a connection was made behind the first one.
    :ivar since_ms: since when it has been in this state, in milliseconds since 1970.
    """

    _log = Logger()

    def __init__(
        self,
        id: str,
        direction: str,
        stream: StreamName,
        target: str,
        *,
        clock: IReactorTime,
        utc_ms: Callable[[], int],
        record: RecordEvent,
        metrics: RelayMetrics,
    ) -> None:
        self.id = id
        self.direction = direction
        self.stream = stream
        self.target = target
        self.state = RelayState.WAITING
        self.reason = ""
        self.reconnects = 0
        self.since_ms = utc_ms()
        self._connections = 0
        self._clock = clock
        self._utc_ms = utc_ms
        self._record = record
        self._metrics = metrics
        self._rate = _Rate()
        self._carried = self._messages = 0  # that are not counted yet
        self._reported: tuple[RelayState, str] = (RelayState.WAITING, "")

    def become(self, state: RelayState, reason: str = "") -> None:
        """Be in another state, or in the same for another reason."""
        if (state, reason) == (self.state, self.reason):
            return
        self._count_carried()
        if state is not self.state:
            self.since_ms = self._utc_ms()
        self.state, self.reason = state, reason
        if state is RelayState.RUNNING:
            self._connections += 1
            self.reconnects = self._connections - 1
        if state is not RelayState.CONNECTING and (state, reason) != self._reported:
            self._reported = (state, reason)
            self._report()

    def connecting(self) -> None:
        """Note another attempt; after a failure the reason of that stays until it has succeeded."""
        if self.state is RelayState.WAITING:
            self.become(RelayState.CONNECTING)

    def failed(self, failure: RelayFailure) -> None:
        """Note the end of an attempt, or of what it had begun."""
        self._metrics.failures_total.labels(self.direction, failure.kind.value).inc()
        is_refusal = failure.kind in _REFUSALS
        self.become(RelayState.REFUSED if is_refusal else RelayState.RETRYING, failure.reason)

    def carried(self, size: int) -> None:
        """Count the bytes of one message of media; several messages are added up before that is done."""
        self._carried += size
        self._messages += 1
        if self._messages >= ADD_UP:
            self._count_carried()

    def _count_carried(self) -> None:
        size, self._carried, self._messages = self._carried, 0, 0
        self._rate.add(size, now_ms(self._clock))
        self._metrics.bytes_total.labels(self.direction).inc(size)

    def dropped(self, frames: int) -> None:
        """Count frames that were not sent."""
        self._metrics.dropped_frames_total.inc(frames)

    def _report(self) -> None:
        data: dict[str, object] = {"relay": self.id, "direction": self.direction, "url": self.target}
        self._record(EventType.RELAY, self.stream, "", {**data, "state": self.state.value, "reason": self.reason})
        is_trouble = self.state not in (RelayState.RUNNING, RelayState.WAITING)
        (self._log.warn if is_trouble else self._log.info)(
            "{stream}: relay {relay} ({arrow} {url}) is {state}{why}",
            stream=self.stream,
            arrow="to" if self.direction == "push" else "from",
            relay=self.id,
            url=self.target,
            state=self.state.value,
            why=f": {self.reason}" if self.reason else "",
        )

    def describe(self) -> dict[str, Any]:
        """As the API shows it."""
        self._count_carried()
        return {
            "id": self.id,
            "direction": self.direction,
            "state": self.state.value,
            "reason": self.reason,
            "reconnects": self.reconnects,
            "bitrate": self._rate.bits_per_second(now_ms(self._clock)),
            "since": rfc3339(self.since_ms),
        }
