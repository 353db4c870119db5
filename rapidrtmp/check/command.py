"""A check as a process of its own: it runs the reactor, and so can run once."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.python.failure import Failure

from rapidrtmp.check.fetch import FetchError, HttpFetcher
from rapidrtmp.check.report import Report
from rapidrtmp.check.stream import check_stream
from rapidrtmp.support.clock import keep_monotonic, utc_ms

__all__ = ["run_check"]


def run_check(url: str, seconds: float) -> Report:
    """
    Watch the stream at ``url`` for ``seconds``.

    :raises RapidRTMPError: it could not be checked; ``FetchError`` if there was no answer.
    """
    outcome: list[Report | Failure] = []
    try:
        react(_watch, (url, seconds, outcome))
    except SystemExit:  # that is how the reactor's run ends, and how an interrupt ends it
        pass
    if not outcome:
        raise FetchError(f"{url}: interrupted")
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    assert isinstance(outcome[0], Report)
    return outcome[0]


def _watch(reactor: Any, url: str, seconds: float, outcome: list[Report | Failure]) -> Deferred[None]:
    keep_monotonic(reactor)
    fetcher = HttpFetcher(reactor)
    watching = Deferred.fromCoroutine(check_stream(url, seconds, fetcher, reactor, lambda: 1000 * utc_ms()))
    watching.addBoth(outcome.append)
    return watching.addCallback(lambda _: Deferred.fromCoroutine(fetcher.close()))
