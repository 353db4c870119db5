"""A check as a process of its own: it runs the reactor, and so can run once."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, react
from twisted.python.failure import Failure

from rapidrtmp.check.fetch import FetchError, HttpFetcher
from rapidrtmp.check.report import Report
from rapidrtmp.check.stream import check_stream
from rapidrtmp.support.clock import keep_monotonic, utc_ms
from rapidrtmp.support.progress import Progress

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
    progress = Progress()
    begun_s = reactor.seconds()

    def show() -> None:
        watched_s = min(reactor.seconds() - begun_s, seconds)
        progress(f"{url}: {watched_s:.0f} of {seconds:.0f} s", int(1000 * watched_s), int(1000 * seconds))

    showing = LoopingCall(show)
    showing.clock = reactor
    showing.start(1)
    fetcher = HttpFetcher(reactor)
    watching = Deferred.fromCoroutine(check_stream(url, seconds, fetcher, reactor, lambda: 1000 * utc_ms()))

    def ended(result: Report | Failure) -> None:
        showing.stop()
        progress.clear()
        outcome.append(result)

    watching.addBoth(ended)
    return watching.addCallback(lambda _: Deferred.fromCoroutine(fetcher.close()))
