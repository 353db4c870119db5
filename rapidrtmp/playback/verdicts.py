"""
Who may watch: what a judge decided of a token, kept until it ends.

A player asks several times a second, and a judge may be another server. So each token is judged once; requests that
come meanwhile wait for the same verdict, each with a Deferred of its own. A refusal is kept for some seconds only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.http.errors import ForbiddenError, UnauthorizedError
from rapidrtmp.interfaces import UnavailableError, Verdict
from rapidrtmp.names import StreamName

__all__ = ["PlayRequest", "Verdicts"]

#: How long a refusal holds.
REFUSED_MS = 5_000
#: How soon to ask again, where it could not be decided.
RETRY_S = 2
#: So many verdicts are kept, those that were asked for last.
MAX_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class PlayRequest:
    """
    A client that wants to watch.

    :ivar stream: what it asked for.
    :ivar token: the secret that it shows, or ``""``.
    :ivar peer: its address, behind the proxies that are trusted.
    """

    stream: StreamName
    token: str = field(repr=False)
    peer: str


#: Stands for the verdict of a judge that failed.
UNDECIDED = Verdict(allowed=False)


class _Kept:
    """A verdict, or the requests that wait for it."""

    __slots__ = ("ends_ms", "verdict", "waiting")

    def __init__(self) -> None:
        self.verdict: Verdict | None = None
        self.ends_ms: int | None = None
        self.waiting: list[Deferred[None]] = []


class Verdicts:
    """
    The verdicts of one judge.

    :param judge: decides, in bounded time; a Deferred that fails means that it cannot. A verdict holds for the stream
        and the token.
    :param utc_ms: the time of day in milliseconds since 1970, which consents end by.
    """

    _log = Logger()

    def __init__(self, judge: Callable[[PlayRequest], Verdict | Deferred[Verdict]], utc_ms: Callable[[], int]) -> None:
        self._judge = judge
        self._utc_ms = utc_ms
        self._kept: OrderedDict[tuple[StreamName, str], _Kept] = OrderedDict()

    def ask(self, request: PlayRequest) -> Deferred[None] | None:
        """
        Ask whether a client may watch.

        :returns: ``None`` if it may; else a Deferred of the caller's own, which fires when that is decided.
        :raises UnauthorizedError: it may not, and showed no token.
        :raises ForbiddenError: it may not.
        :raises UnavailableError: it cannot be decided now.
        """
        key = request.stream, request.token
        kept = self._kept.get(key)
        if kept is not None and kept.ends_ms is not None and self._utc_ms() >= kept.ends_ms:
            kept = None
        if kept is None:
            kept = self._kept[key] = _Kept()
            self._begin(request, kept)
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        if kept.verdict is not None:
            _obey(kept.verdict, request)
            return None
        waiting: Deferred[None] = Deferred(lambda waiting: kept.waiting.remove(waiting))
        kept.waiting.append(waiting)
        return waiting.addCallback(lambda _: _obey(kept.verdict, request))

    def _begin(self, request: PlayRequest, kept: _Kept) -> None:
        """Ask the judge; a refusal ends soon, and what could not be decided at once."""
        judging: Deferred[Verdict] = maybeDeferred(self._judge, request)  # type: ignore[call-overload]
        judging.addErrback(self._undecided)
        judging.addCallback(self._decided, kept)

    def _undecided(self, failure: Failure) -> Verdict:
        self._log.failure("it cannot be decided who may watch", failure)
        return UNDECIDED

    def _decided(self, verdict: Verdict, kept: _Kept) -> None:
        kept.verdict = verdict
        kept.ends_ms = verdict.expires_ms if verdict.allowed else self._utc_ms() + REFUSED_MS
        waiting, kept.waiting = kept.waiting, []
        for each in waiting:
            each.callback(None)


def _obey(verdict: Verdict | None, request: PlayRequest) -> None:
    if verdict is UNDECIDED or verdict is None:
        raise UnavailableError(f"it cannot be decided now who may watch {request.stream}", RETRY_S)
    if not verdict.allowed:
        reason = verdict.reason or f"{request.stream} may not be watched with this"
        if not request.token:
            raise UnauthorizedError(reason, {"WWW-Authenticate": "Bearer"})
        raise ForbiddenError(reason)
