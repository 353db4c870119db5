"""
Who may watch: what a judge decided of a client and its token, kept until it ends.

A player asks several times a second, and a judge may be another server. So each client is judged once with each token;
requests that come meanwhile wait for the same verdict, each with a Deferred of its own. A refusal is kept for some
seconds only, apart from consents, which no number of wrong tokens can displace. Every two seconds it is looked whether
a token was revoked meanwhile.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.auth.revocation import Revocations, fingerprint_of
from rapidrtmp.http.errors import ForbiddenError, TooManyRequestsError, UnauthorizedError
from rapidrtmp.interfaces import (
    EventType,
    IPlayAuthenticator,
    PlayRequest,
    RecordEvent,
    Request,
    UnavailableError,
    Verdict,
    no_event,
)
from rapidrtmp.names import StreamName
from rapidrtmp.support.bug_log import BugLog
from rapidrtmp.support.clock import now_ms

__all__ = ["Verdicts"]

#: How long a refusal holds.
REFUSED_MS = 5_000
#: How often it is looked whether a token was revoked.
CHECK_MS = 2_000
#: How soon to ask again, where it could not be decided.
RETRY_S = 2
#: So many consents and so many refusals are kept, those that were asked for last.
MAX_KEPT, MAX_REFUSED = 100_000, 10_000
#: A query with a token that is not empty.
HAS_TOKEN = re.compile(r"(?:^|&)token=[^&]")
#: How long a judge may take.
JUDGE_S = 10
#: A player that has not asked for anything for this long plays no more.
PLAYER_MS = 20_000
#: Tokens whose players are counted at one time; those that were used last.
MAX_COUNTED = 10_000
#: A session that is only seen by its requests pauses for so long between them.
LEAST_RECONNECT_S = 10


K = TypeVar("K")
V = TypeVar("V")
#: The verdict of a judge that failed.
UNDECIDED = Verdict(allowed=False, is_undecided=True)
#: The stream, the token and the client.
Key = tuple[StreamName, str, str]


class _Kept:
    """
    A verdict, or the requests that wait for it.

    :ivar good_until_ms: until then it is consent, and nothing needs to be looked at.
    :ivar ends_ms: when the judge is asked again; ``None`` for never.
    :ivar max_players: as its verdict says.
    :ivar counted: the software of the player that was counted last since it was looked at; ``None`` if none was.
    """

    __slots__ = ("counted", "ends_ms", "fingerprint", "good_until_ms", "max_players", "players", "verdict", "waiting")

    def __init__(self, fingerprint: str) -> None:
        self.good_until_ms = 0
        self.verdict: Verdict | None = None
        self.ends_ms: int | None = None
        self.max_players = 0
        self.counted: str | None = None
        self.players: _Players | None = None
        self.fingerprint = fingerprint
        self.waiting: list[Deferred[None]] = []


class _Players:
    """The players that use one token, by address and software."""

    def __init__(self) -> None:
        self._seen_ms: dict[tuple[str, str], int] = {}

    def admit(self, client: str, agent: str, most: int, time_ms: int) -> bool:
        """Whether one may play, as it does already or as one more."""
        player = client, agent
        seen_ms = self._seen_ms
        if seen_ms.get(player, -PLAYER_MS) <= time_ms - PLAYER_MS:
            self._seen_ms = seen_ms = {each: at for each, at in seen_ms.items() if at > time_ms - PLAYER_MS}
            if len(seen_ms) >= most:
                return False
        seen_ms[player] = time_ms
        return True


class Verdicts:
    """
    The verdicts of one judge.

    :param judge: decides, in bounded time; a Deferred that fails means that it cannot.
    :param utc_ms: the time of day in milliseconds since 1970, which consents end by.
    :param clock: timers, and what players are counted by.
    :param revocations: which tokens are good no more.
    :param record: records whom the judge refuses.
    """

    def __init__(
        self,
        judge: IPlayAuthenticator,
        utc_ms: Callable[[], int],
        clock: IReactorTime,
        revocations: Revocations,
        record: RecordEvent = no_event,
    ) -> None:
        self.judge = judge
        self._record = record
        self._bugs = BugLog(Logger(), clock.seconds)
        self._utc_ms = utc_ms
        self._clock = clock
        self._revocations = revocations
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._refused: OrderedDict[Key, _Kept] = OrderedDict()
        self._players: OrderedDict[str, _Players] = OrderedDict()

    def ask(self, request: Request, stream: StreamName, most_players: int = 0) -> Deferred[None] | None:
        """
        Ask whether a client may watch.

        :param most_players: how many may use one token at a time, where its verdict does not say; 0 for no limit, and
            where nothing plays.
        :returns: ``None`` if it may; else a Deferred of the caller's own, which fires when that is decided.
        :raises UnauthorizedError: it may not, and another token may help.
        :raises ForbiddenError: it may not.
        :raises TooManyRequestsError: as many players use the token as may.
        :raises UnavailableError: it cannot be decided now.
        :raises BadNameError: there can be no such stream, where that needs to be decided.
        """
        key = stream, request.token, request.client
        kept = self._kept.get(key)
        if kept is None or self._utc_ms() >= kept.good_until_ms:
            waiting = self._look(request, StreamName.checked(*stream), kept)
            if waiting is not None:
                return waiting.addCallback(lambda _: self.ask(request, stream, most_players))
            kept = self._kept[key]
        most = kept.max_players or most_players
        if most and kept.counted != request.headers.get("user-agent", "") and kept.fingerprint:
            self._count(request, kept, most)
        return None

    def _look(self, request: Request, stream: StreamName, kept: _Kept | None) -> Deferred[None] | None:
        """Look again at what is kept of a client, or begin to keep something; as :meth:`ask`."""
        if not request.token and HAS_TOKEN.search(request.query):  # by the fast path: the other leads elsewhere
            raise UnauthorizedError("the token belongs in the path")
        key, time_ms = (stream, request.token, request.client), self._utc_ms()
        kept = kept or self._refused.get(key)
        if kept is not None and kept.ends_ms is not None and time_ms >= kept.ends_ms:
            kept = None
        if kept is None:
            kept = _Kept(fingerprint_of(request.token))
            _keep(self._kept, key, kept, MAX_KEPT)
            self._refused.pop(key, None)
            self._begin(PlayRequest(*key, request.header("user-agent"), request.query), key, kept)
        verdict = kept.verdict
        if verdict is None:
            waiting: Deferred[None] = Deferred(lambda waiting: kept.waiting.remove(waiting))
            kept.waiting.append(waiting)
            return waiting
        self._obey(verdict, kept, request, stream)
        kept.good_until_ms = min(time_ms + CHECK_MS, kept.ends_ms or time_ms + CHECK_MS)
        kept.counted = None
        self._kept.move_to_end(key)
        return None

    def _begin(self, request: PlayRequest, key: Key, kept: _Kept) -> None:
        """Ask the judge; a refusal ends soon, and what could not be decided at once."""
        judging: Deferred[Verdict] = maybeDeferred(self.judge.authorize_play, request)  # type: ignore[call-overload]
        judging.addTimeout(JUDGE_S, self._clock)
        judging.addErrback(self._undecided)
        judging.addCallback(self._decided, key, kept)

    def _undecided(self, failure: Failure) -> Verdict:
        if failure.check(TimeoutError):
            self._bugs.error("the authenticator of viewers gives no answer; they are refused until it does")
        else:
            self._bugs.failure("internal error in an authenticator, refusing viewers", failure)
        return UNDECIDED

    def _decided(self, verdict: Verdict, key: Key, kept: _Kept) -> None:
        time_ms = self._utc_ms()
        kept.verdict = verdict
        kept.max_players = verdict.max_players
        if verdict.allowed:
            ends = [each for each in (verdict.expires_ms, _after(time_ms, verdict.keep_ms)) if each is not None]
            kept.ends_ms = min(ends, default=None)
        else:
            kept.ends_ms = time_ms + REFUSED_MS
            if not verdict.is_undecided:
                stream, _, client = key
                said = {"action": "play", "reason": verdict.reason}
                self._record(EventType.AUTH_REFUSED, StreamName(*stream), client, said)
            if self._kept.get(key) is kept:
                del self._kept[key]
                _keep(self._refused, key, kept, MAX_REFUSED)
        waiting, kept.waiting = kept.waiting, []
        for each in waiting:
            each.callback(None)

    def _obey(self, verdict: Verdict, kept: _Kept, request: Request, stream: StreamName) -> None:
        if verdict.is_undecided:
            raise UnavailableError(f"it cannot be decided now who may watch {stream}", RETRY_S)
        if not verdict.allowed:
            reason = verdict.reason or f"{stream} may not be watched with this"
            if verdict.is_unauthenticated or not request.token:
                raise UnauthorizedError(reason, {"WWW-Authenticate": verdict.challenge})
            raise ForbiddenError(reason)
        reason = self._revocations.refusal(stream, kept.fingerprint, verdict.issued_ms)
        if not reason and verdict.reconnect_s is not None and kept.fingerprint:
            reconnect_s = max(verdict.reconnect_s, LEAST_RECONNECT_S)
            reason = self._revocations.continue_session(
                kept.fingerprint, request.client, reconnect_s, verdict.expires_ms
            )
        if reason:
            raise UnauthorizedError(reason, {"WWW-Authenticate": verdict.challenge})

    def _count(self, request: Request, kept: _Kept, most: int) -> None:
        players = kept.players
        if players is None:
            players = self._players.get(kept.fingerprint) or _Players()
            _keep(self._players, kept.fingerprint, players, MAX_COUNTED)
            kept.players = players
        agent = request.headers.get("user-agent", "")
        kept.counted = None
        if not players.admit(request.client, agent, most, now_ms(self._clock)):
            raise TooManyRequestsError(
                f"the token is for {most} player{'' if most == 1 else 's'} at a time", {"Retry-After": "20"}
            )
        kept.counted = agent


def _keep(entries: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """Keep one more, the latest, and no more than so many."""
    entries[key] = value
    entries.move_to_end(key)
    if len(entries) > most:
        entries.popitem(last=False)


def _after(time_ms: int, delay_ms: int | None) -> int | None:
    return None if delay_ms is None else time_ms + delay_ms
