"""
The door that every viewer comes through: may this client watch, is there a seat left, and is there time for it?

Where watching is open, the first question costs nothing; elsewhere the application's authenticator is asked, and its
verdict on a token holds until it ends (see :mod:`rapidrtmp.playback.verdicts`). The seats are limited by the operator:
a client that asks for media takes one, be it live, rewound or recorded. They are counted by
:class:`~rapidrtmp.live.viewers.Viewers`, those of a live stream by its own. Recordings of a stream that is not live
have none; their viewers are counted here, in the same way. A client that begins to watch is let in only while the
server can serve it in time (see :mod:`rapidrtmp.playback.overload`); those who watch are not asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from rapidrtmp.auth.revocation import Revocations
from rapidrtmp.http.addresses import TrustedProxies
from rapidrtmp.http.errors import TooManyRequestsError
from rapidrtmp.interfaces import (
    AppLimits,
    IApplication,
    IStreamDirectory,
    IViewers,
    RecordEvent,
    Request,
    Response,
    StreamedResponse,
    UnavailableError,
    no_event,
)
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.names import POSTER, StreamName
from rapidrtmp.playback.egress import Egress
from rapidrtmp.playback.overload import Overload
from rapidrtmp.playback.verdicts import Verdicts
from rapidrtmp.support.clock import now_ms

__all__ = ["Admission"]

FULL_RETRY_S = 10
#: So many viewers may come from one address at least, if the operator does not say how many: a household.
LEAST_SHARE = 4
#: Who plays a recording asks for the next segment within this time: two of the longest that are usual.
RECORDED_WINDOW_MS = 30_000
#: A client that stands for more viewers is an address that they share: another one behind it is not known by it.
KNOWN_VIEWERS = 4


class Admission:
    """
    Admits viewers and counts them.

    :param directory: finds streams.
    :param apps: the applications by name; one that is not here has no limit.
    :param of_client: how many of them may come from one address; 0 for no limit, ``None`` for a quarter, at least four.
    :param proxies: have no such limit.
    :param clock: the clock they are counted by.
    :param salt: of the hashes that distinguish clients.
    :param utc_ms: the time of day in milliseconds since 1970.
    :param revocations: which tokens are good no more.
    :param record: records who is refused.
    :param overload: tells whether there is time for one more; without it there always is.
    :ivar egress_elsewhere: tells how many bits a second other processes send of the streams of an application.
    """

    def __init__(
        self,
        directory: IStreamDirectory,
        apps: Mapping[str, IApplication],
        of_client: int | None,
        proxies: TrustedProxies,
        clock: IReactorTime,
        salt: bytes,
        utc_ms: Callable[[], int],
        revocations: Revocations,
        record: RecordEvent = no_event,
        overload: Overload | None = None,
    ) -> None:
        self._record = record
        self._overload = overload
        self._directory = directory
        self._apps = apps
        self._of_client = of_client
        self._proxies = proxies
        self._clock = clock
        self._salt = salt
        self._utc_ms = utc_ms
        self._revocations = revocations
        self._verdicts: dict[str, Verdicts] = {}
        self._egress: dict[str, Egress] = {}
        self._recorded: dict[StreamName, Viewers] = {}
        self.egress_elsewhere: Callable[[str], float] = lambda _app: 0.0

    def admit(self, request: Request, name: StreamName) -> Deferred[None] | None:
        """
        Admit a client that asks for media of a stream, live or not.

        :returns: ``None`` if it is admitted; else a Deferred of the caller's own, which fires with ``None`` when that
            is decided, or fails with what is raised otherwise.
        :raises BadNameError: there can be no such stream, where that needs to be decided.
        :raises UnauthorizedError: a token is needed, and none that is good was shown.
        :raises ForbiddenError: the client may not watch.
        :raises UnavailableError: the stream has all the viewers it may have, or it cannot be decided who may watch.
        :raises TooManyRequestsError: the client's address, or its token, has all that one may have.
        """
        try:
            app = self._apps[name.app]
        except KeyError:
            return None
        limits: AppLimits = app.limits
        if app.play_authenticator is not None:
            waiting = self._verdicts_of(app).ask(request, name, limits.max_players_per_token)
            if waiting is not None:
                return waiting.addCallback(lambda _: self.check_seat(request, name, self._find(name)))
        if limits.max_viewers_per_stream or limits.max_egress_bps:
            self.check_seat(request, name, self._find(name))
        return None

    def is_open(self, app: str) -> bool:
        """Whether all clients may watch the streams of an application."""
        found = self._apps.get(app)
        return found is None or found.play_authenticator is None

    def check(self, request: Request, name: StreamName) -> Deferred[None] | None:
        """Ask whether a client may watch, without a seat: as :meth:`admit`."""
        app = self._apps.get(name.app)
        if app is None or app.play_authenticator is None:
            return None
        return self._verdicts_of(app).ask(request, name)

    def check_again(self, request: Request, name: StreamName) -> None:
        """
        Return if a client that was admitted, and has waited or is still being sent something, may still watch.

        :raises HttpError: it may not.
        """
        waiting = self.check(request, name)
        if waiting is not None:  # it is being asked: what becomes of that holds for the next request
            waiting.addErrback(lambda _: None)

    def _verdicts_of(self, app: IApplication) -> Verdicts:
        verdicts = self._verdicts.get(app.name)
        if verdicts is None or verdicts.judge is not app.play_authenticator:
            judge: Any = app.play_authenticator
            verdicts = Verdicts(judge, self._utc_ms, self._clock, self._revocations, self._record)
            self._verdicts[app.name] = verdicts
        return verdicts

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, request: Request, name: StreamName, viewers: IViewers | None) -> None:
        """
        Let a client that is admitted begin to watch, if the server has time for it; one that watches is let in.

        :param viewers: those of the stream; ``None`` if it has none.
        :raises OverloadedError: it has not.
        """
        if self._overload is None or request.has_watched:
            return
        if viewers is not None:
            agent = request.headers.get("user-agent", "")
            if 0 < viewers.stands_for(request.client, agent, now_ms(self._clock)) <= KNOWN_VIEWERS:
                return
        self._overload.admit(name)

    def refused_lately(self, name: StreamName) -> int:
        """How many clients could not begin to watch a stream within the last minute or so, for lack of time."""
        return 0 if self._overload is None else self._overload.refused_lately(name)

    # ── seats ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def enter(self, request: Request, name: StreamName, viewers: IViewers) -> Callable[[], None]:
        """
        Give a seat to a client that is admitted, and will be sent everything over one connection.

        :returns: to be called when it has left.
        :raises UnavailableError: see :meth:`admit`; so for :class:`TooManyRequestsError`.
        """
        self.check_seat(request, name, viewers, is_new=True)
        return viewers.enter(request.client, request.headers.get("user-agent", ""))

    def sent(self, name: StreamName, size: int) -> None:
        """Count what was sent to such a client."""
        self._count_egress(name, size)

    def check_seat(self, request: Request, name: StreamName, viewers: IViewers | None, *, is_new: bool = False) -> None:
        """
        Return if the request comes from one who watches, or there is a seat left.

        :param viewers: those of the stream; ``None`` if it has none.
        :param is_new: whether it takes a seat of its own, even if it is from one who watches.
        :raises UnavailableError: see :meth:`admit`; so for :class:`TooManyRequestsError`.
        """
        app = self._apps.get(name.app)
        if app is None:
            return
        limits: AppLimits = app.limits
        if limits.max_egress_bps:
            self._check_egress(request, name, viewers, limits.max_egress_bps)
        limit = limits.max_viewers_per_stream
        if not limit or viewers is None:
            return
        share = max(LEAST_SHARE, limit // 4) if self._of_client is None else self._of_client
        viewers.bound_prefixes(share)
        now = now_ms(self._clock)
        if not is_new and viewers.knows(request.client, request.headers.get("user-agent", ""), now):
            return
        if viewers.count(now) >= limit:
            raise UnavailableError(f"{name} has all the {limit} viewers it may have", FULL_RETRY_S)
        if share and viewers.count_of(request.client, now) >= share and request.client not in self._proxies:
            raise TooManyRequestsError(
                f"one address may have {share} of the {limit} viewers of {name}", {"Retry-After": str(FULL_RETRY_S)}
            )

    def _check_egress(self, request: Request, name: StreamName, viewers: IViewers | None, most_bps: int) -> None:
        """Refuse one more viewer where those that there are are sent as much as may be."""
        egress, now = self._egress.get(name.app), now_ms(self._clock)
        if egress is None:
            self._egress[name.app] = Egress()  # from now on it is measured
            return
        if egress.bits_per_second(now) + self.egress_elsewhere(name.app) < most_bps:
            return
        if viewers is None or not viewers.knows(request.client, request.headers.get("user-agent", ""), now):
            raise UnavailableError("as much is sent as this application may send; try again later", FULL_RETRY_S)

    def egress(self, app: str) -> float:
        """How many bits a second are sent of the streams of an application, which from now on is measured."""
        return self._egress.setdefault(app, Egress()).bits_per_second(now_ms(self._clock))

    def _count_egress(self, name: StreamName, size: int) -> None:
        egress = self._egress.get(name.app)
        if egress is not None:
            egress.add(size, now_ms(self._clock))

    def count(self, request: Request, name: StreamName, viewers: IViewers, asked: str, response: Response) -> None:
        """
        Count a client that is answered with media.

        :param asked: what was asked for; see :meth:`Viewers.saw <rapidrtmp.live.viewers.Viewers.saw>`.
        """
        if request.method == "GET" and response.status in (200, 206, 307):
            if self._egress:
                self._count_egress(name, len(response.body))
            viewers.saw(request.client, request.headers.get("user-agent", ""), asked, now_ms(self._clock))

    def seat(self, request: Request, name: StreamName, viewers: IViewers, asked: str, response: Response) -> Response:
        """
        Admit a client that is answered with something stored, as others may have come in meanwhile, and count it as
        long as the answer is being sent. A later range counts as more of the same.

        :returns: the response, which tells when it is sent.
        :raises UnavailableError: see :meth:`admit`.
        """
        self.check_seat(request, name, viewers)
        whole = response.status != 206 or response.headers["Content-Range"].startswith("bytes 0-")
        self.count(request, name, viewers, asked if whole else "", response)
        if not isinstance(response, StreamedResponse):
            return response
        begin = response.open

        def watch(size: int) -> None:
            self.check_again(request, name)
            self._count_egress(name, size)
            self.count(request, name, viewers, "", response)

        return replace(response, open=lambda: _watched(begin(), watch))

    # ── recordings ───────────────────────────────────────────────────────────────────────────────────────────────────

    def recorded(
        self, media: Callable[..., Response | Deferred[Response]], request: Request, app: str, key: str, **names: str
    ) -> Deferred[Response]:
        """
        Answer a request for a recording, if its stream has a seat for the client. To look at its picture is not to
        watch, and needs none.

        :param media: answers it.
        :param names: what else its path says; ``name`` is the last of it.
        :raises BadNameError: there can be no such stream.
        :raises UnavailableError: see :meth:`admit`.
        """
        stream = StreamName.checked(app, key)
        is_picture = names.get("name") == POSTER
        waiting = self.check(request, stream) if is_picture else self.admit(request, stream)
        is_playlist = names.get("name", "").endswith(".m3u8")
        admitted: Deferred[Any] = succeed(None) if waiting is None else waiting

        def answered(response: Response) -> Response:
            if is_picture:
                return response
            asked = "" if is_playlist else f"{'/'.join(names.values())}?{request.query}"
            return self.seat(request, stream, self._viewers(stream), asked, response)

        def answer(_: None) -> Any:
            if is_playlist:
                self.begin(request, stream, self._find(stream))
            return media(request, app, key, **names)

        return admitted.addCallback(answer).addCallback(answered)

    def _find(self, name: StreamName) -> IViewers | None:
        stream = self._directory.find(name)
        return stream.viewers if stream is not None else self._recorded.get(name)

    def _viewers(self, name: StreamName) -> IViewers:
        found = self._find(name)
        if found is None:
            now = now_ms(self._clock)
            self._recorded = {name: viewers for name, viewers in self._recorded.items() if viewers.count(now)}
            found = self._recorded[name] = Viewers(self._salt, RECORDED_WINDOW_MS)
        return found

    def metrics(self) -> Iterator[Metric]:
        """For a scrape."""
        now = now_ms(self._clock)
        count = sum(viewers.count(now) for viewers in self._recorded.values())
        yield GaugeMetricFamily(
            "rapidrtmp_recording_viewers", "Viewers of recordings whose streams are not live", count
        )
        if self._overload is not None:
            yield from self._overload.metrics()


async def _watched(chunks: AsyncIterator[bytes], watch: Callable[[int], None]) -> AsyncIterator[bytes]:
    """The same chunks, with ``watch`` called before each, with its size."""
    async with aclosing(chunks) as closing:  # type: ignore[type-var]
        async for chunk in closing:
            watch(len(chunk))
            yield chunk
