"""
Clients that misbehave over HTTP: each time counted, and said once when it begins and once when it is over.

What is abuse here is no error of ours, and one of them is harmless; thousands are an attack, or a player that is
broken, and the operator will want to know since when and from where.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rapidrtmp.support.client_prefix import origin_of
from rapidrtmp.support.clock import now_ms
from rapidrtmp.support.log_throttle import OTHERS, Episode, Episodes

__all__ = ["Abuse", "AbuseKind"]

QUIET_MS = 60_000


class AbuseKind(enum.Enum):
    """What a client does; the value says it in words."""

    MALFORMED = "sends what is not HTTP"
    OVERSIZED = "sends headers or bodies that are too long"
    SLOW = "does not finish its requests"
    STALLED = "does not read what it asked for"
    BAD = "sends requests that make no sense"
    DENIED = "asks for what it has no right to"
    GREEDY = "asks for more at a time than it may"
    FLOODING = "floods HTTP/2 connections with frames that ask for nothing"
    RESETTING = "takes HTTP/2 requests back as fast as it sends them"

    @property
    def label(self) -> str:
        """Its name in metrics."""
        return self.name.lower()


#: What answers with these statuses are given to.
BY_STATUS = {
    400: AbuseKind.BAD,
    401: AbuseKind.DENIED,
    403: AbuseKind.DENIED,
    405: AbuseKind.BAD,
    413: AbuseKind.OVERSIZED,
    429: AbuseKind.GREEDY,
}


class Abuse:
    """
    What clients of one site have done.

    :param clock: time and timers.
    :ivar counts: how often, by kind.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self.counts: Counter[AbuseKind] = Counter()
        self._clock = clock
        self._episodes = Episodes(QUIET_MS, ended=self._ended)
        self._is_looking = False

    def note(self, kind: AbuseKind, client: str) -> None:
        """Count what a client has done, and say so if it is new."""
        self.counts[kind] += 1
        if self._episodes.is_news(kind.label, origin_of(client), now_ms(self._clock)):
            self._log.warn("{client} {conduct}", client=origin_of(client), conduct=kind.value)
        self._look_later()

    def note_status(self, status: int, client: str) -> None:
        """Count an answer, if it is given to those who misbehave."""
        kind = BY_STATUS.get(status)
        if kind is not None:
            self.note(kind, client)

    def _look_later(self) -> None:
        """Look whether it is over when it may be."""
        if not self._is_looking and self._episodes:
            self._is_looking = True
            self._clock.callLater((QUIET_MS + 1) / 1000, self._look)

    def _look(self) -> None:
        self._is_looking = False
        self._episodes.end_quiet(now_ms(self._clock))
        self._look_later()

    def _ended(self, kind: str, source: str, episode: Episode) -> None:
        if episode.count == 1 and source != OTHERS:
            return  # its beginning was all of it
        self._log.warn(
            "{client} {conduct}: {count} times in {seconds} s, and no more for {quiet} s",
            client="other addresses:" if source == OTHERS else source,
            conduct=AbuseKind[kind.upper()].value,
            count=episode.count,
            seconds=(episode.last_ms - episode.first_ms) // 1000,
            quiet=QUIET_MS // 1000,
        )

    def metrics(self) -> Iterator[Metric]:
        """For a scrape."""
        counter = CounterMetricFamily(
            "rapidrtmp_http_misconduct_total", "What HTTP clients should not have done, by kind", labels=["kind"]
        )
        for kind in AbuseKind:
            counter.add_metric([kind.label], self.counts[kind])
        yield counter
