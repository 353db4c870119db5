"""
The HTTP side put together: routes, their audiences, and the Klein application and Twisted site that carry them.

A route is a rule, a method, an audience and a plain function from :class:`~rapidrtmp.interfaces.Request` to
:class:`~rapidrtmp.interfaces.Response`. What is the same for all of them is here, once: the methods that come for
free (``HEAD``, ``OPTIONS``), the gate before the management API, the bound on bodies, the table of errors, and the
count of every request by route and status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES, datetimeToString
from twisted.web.resource import IResource
from twisted.web.server import Site
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import BaseConverter

from rapidrtmp.auth.revocation import Revocations
from rapidrtmp.errors import NotFoundError
from rapidrtmp.http.addresses import TrustedProxies
from rapidrtmp.http.errors import BodyTooLargeError, MethodNotAllowedError, TooManyRequestsError
from rapidrtmp.http.headers import CORS, preflight, safety_fields
from rapidrtmp.interfaces import (
    Audience,
    Contribution,
    IApplication,
    IStreamDirectory,
    RecordEvent,
    Request,
    Response,
    Route,
    StreamDemand,
    StreamedResponse,
    UnavailableError,
    no_demand,
    no_event,
)
from rapidrtmp.interfaces.contributions import MediaFinder
from rapidrtmp.live.history import Histories
from rapidrtmp.live.registry import Registry
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import RENDITION_PATTERN, RESERVED_APPS
from rapidrtmp.play.players import Players
from rapidrtmp.playback.admission import Admission
from rapidrtmp.playback.media import MediaResponder
from rapidrtmp.playback.responder import HlsResponder
from rapidrtmp.support.bug_log import BugLog
from rapidrtmp.web.abuse import Abuse
from rapidrtmp.web.api import Api
from rapidrtmp.web.api_access import ApiAccess
from rapidrtmp.web.console.pages import ConsolePages
from rapidrtmp.web.error_pages import ErrorPages
from rapidrtmp.web.errors import STATUS_BY_ERROR, error_response
from rapidrtmp.web.fast_path.channel import FastPath, FastPathChannel
from rapidrtmp.web.fast_path.sending import SMALL_BYTES, BodyProducer
from rapidrtmp.web.flv import FlvResponder, SwitchedResponse
from rapidrtmp.web.open_connections import OpenConnections
from rapidrtmp.web.pages import Pages, StreamsElsewhere
from rapidrtmp.web.policy import HttpPolicy
from rapidrtmp.web.readiness import Readiness
from rapidrtmp.web.request_metrics import CLIENT_LEFT, RequestMetrics
from rapidrtmp.web.routes import FLV_RULES, MEDIA_RULE, managed_stream, management_routes, public_routes, routes
from rapidrtmp.web.site import BoundedChannel, BoundedSite, CheckedResource, client_of, read_request, transport_of
from rapidrtmp.web.streamed import send_streamed
from rapidrtmp.web.token_urls import token_redirect

__all__ = ["Sites", "WebApp", "make_sites"]

UNROUTED = "other"
#: So much of a path is shown of a call of the management API.
MAX_AUDITED_PATH = 300
#: What is below a stream that is watched is asked for with a token as well: ``/APP/KEY/~TOKEN/…``.
_STREAM, _TOKEN = "<app:app>/<key>/", "~<token>/"
#: Picks the routes of one door.
_Chosen = Callable[[Iterable[Route]], tuple[Route, ...]]
#: Whose answers pages of other origins may read.
_MEDIA = (Audience.MEDIA, Audience.VIEWERS)
#: What may be for those alone who have a token, if it is of a stream.
_WATCHED = (*_MEDIA, Audience.PUBLIC)


class _AppConverter(BaseConverter):
    """The first segment of a stream's path: any but those that are ours."""

    regex = rf"(?!(?:{'|'.join(map(re.escape, sorted(RESERVED_APPS)))})$)[^/]+"
    part_isolating = True


class _RenditionConverter(BaseConverter):
    """The folder of a rendition: no other path has a part like it in that place."""

    regex = RENDITION_PATTERN
    part_isolating = True


class WebApp:
    """
    The Klein application around a table of routes, which may become another.

    :param is_open: whether all clients may watch the streams of an application.
    :ivar klein: the application; ``klein.url_map`` holds every route there ever was.
    """

    _log = Logger()

    def __init__(
        self,
        table: Iterable[Route],
        access: ApiAccess,
        tally: RequestMetrics,
        abuse: Abuse,
        policy: HttpPolicy,
        is_open: Callable[[str], bool] = lambda _app: True,
    ) -> None:
        self._is_open = is_open
        self._audit_log = Logger("rapidrtmp.audit")
        self.klein = Klein()
        self.klein.url_map.merge_slashes = False  # which would answer // with a redirect
        self.klein.url_map.converters["app"] = _AppConverter
        self.klein.url_map.converters["rendition"] = _RenditionConverter
        self._bugs = BugLog(self._log)
        self._error_pages = ErrorPages()
        self._tally = tally
        self._abuse = abuse
        self._policy = policy
        self._proxies = TrustedProxies(policy.trusted_proxies)
        self._access = access
        self._routes: dict[str, Route] = {}
        self._known: set[str] = set()
        self.serve(table)
        self._handle_errors(self._refuse, *STATUS_BY_ERROR)
        self._handle_errors(self._refuse_unrouted, HTTPException)
        self._handle_errors(self._give_up, Exception)

    def resource(self) -> IResource:
        """The root resource of a site."""
        return CheckedResource(self.klein.resource(), self._refuse_unreadable)

    def _handle_errors(self, handler: Any, *errors: type[Exception]) -> None:
        self.klein.handle_errors(*errors)(handler)

    def serve(self, table: Iterable[Route]) -> None:
        """Answer these routes, and no others; of two for the same requests the first."""
        self._routes = {f"{route.method} {route.rule}": route for route in reversed(tuple(table))}
        for name, route in reversed(self._routes.items()):
            if name not in self._known:
                self._known.add(name)
                self._add(name, route)

    # ── the way in ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _add(self, name: str, route: Route) -> None:
        def endpoint(request: Any, token: str = "", **names: str) -> bytes | Deferred[bytes]:
            route = self._routes.get(name)
            if route is None:  # it was a plugin's that is gone
                raise NotFoundError("there is nothing here")
            request.rapidrtmp_route = route
            return self._serve(route, request, names, token)

        methods = [route.method, "OPTIONS"]
        rule = route.rule.replace("<app>", "<app:app>").replace("<rendition>", "<rendition:rendition>")
        self.klein.route(rule, methods=methods, endpoint=name)(endpoint)
        if route.audience in _MEDIA and _STREAM in rule:
            rule = rule.replace(_STREAM, f"{_STREAM}{_TOKEN}")
            self.klein.route(rule, methods=methods, endpoint=f"{name} with a token")(endpoint)

    def _serve(self, route: Route, twisted: Any, names: Mapping[str, str], token: str) -> bytes | Deferred[bytes]:
        is_watching = route.audience in _WATCHED and "key" in names
        request = read_request(twisted, self._proxies, token, is_watching=is_watching)
        if request.method == "OPTIONS":
            return self._send(self._preflight(route, request), twisted)
        if route.audience is Audience.MANAGEMENT:
            who = self._access.check(request, transport_of(twisted), managed_stream(route, names))
            if isinstance(who, Deferred):
                judged = who.addCallback(self._managed, route, request, names, twisted)
                return self._held_answer(request.client, judged, twisted)
            return self._answer(self._managed(who, route, request, names, twisted), request, twisted)
        self._check_length(request)
        answer = self._watched(route, request, names) if is_watching else route.respond(request, **names)
        return self._answer(answer, request, twisted)

    def _managed(
        self, who: str, route: Route, request: Request, names: Mapping[str, str], twisted: Any
    ) -> Response | Deferred[Response]:
        """Answer a client that may manage."""
        twisted.rapidrtmp_who = f"{request.client} {who}"
        self._check_length(request)
        return route.respond(request, **names)

    def _check_length(self, request: Request) -> None:
        if len(request.body) > self._policy.max_body_bytes:
            raise BodyTooLargeError(self._policy.max_body_bytes)

    def _answer(self, answer: Response | Deferred[Response], request: Request, twisted: Any) -> bytes | Deferred[bytes]:
        if isinstance(answer, Response):
            return self._send(answer, twisted)
        return self._held_answer(request.client, answer, twisted)

    def _watched(self, route: Route, request: Request, names: Mapping[str, str]) -> Response | Deferred[Response]:
        """Answer a viewer, who may need a token."""
        if self._is_open(names["app"]):
            return route.respond(request, **names)
        redirect = None if route.rule in FLV_RULES else token_redirect(request, route.rule, names)
        if redirect is not None:
            return redirect
        answer = route.respond(request, **names)
        if request.is_token_in_path or not request.token:
            return answer
        return _private(answer) if isinstance(answer, Response) else answer.addCallback(_private)

    def _preflight(self, route: Route, request: Request) -> Response:
        if route.audience in _MEDIA:
            return preflight(request)
        allow = "GET, HEAD, OPTIONS" if route.method == "GET" else f"{route.method}, OPTIONS"
        return Response(204, {"Allow": allow})

    # ── requests that are held ───────────────────────────────────────────────────────────────────────────────────────

    def _held_answer(self, client: str, answer: Deferred[Response], twisted: Any) -> Deferred[bytes]:
        if answer.called and not answer.paused:
            return answer.addCallback(self._send, twisted)
        try:
            self._tally.hold(client)
        except (TooManyRequestsError, UnavailableError):
            answer.addErrback(lambda failure: failure.trap(CancelledError))
            answer.cancel()
            raise
        answer.addBoth(self._released, client, twisted)
        return answer.addCallback(self._send, twisted)

    def _released(self, result: Response | Failure, client: str, twisted: Any) -> Response | Failure:
        self._tally.release(client)
        if isinstance(result, Failure) and result.check(CancelledError):
            self._tally.requests[twisted.rapidrtmp_route.rule, CLIENT_LEFT] += 1
        return result

    # ── the way out ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _send(self, response: Response, twisted: Any) -> bytes | Deferred[bytes]:
        """Set status and headers, count, and return the body for Klein to write; a large one is written piecewise."""
        route: Route | None = getattr(twisted, "rapidrtmp_route", None)
        label = route.rule if route is not None else UNROUTED
        twisted.setResponseCode(response.status)
        twisted.setHeader(b"server", b"RapidRTMP")
        shared = CORS if route is not None and route.audience in _MEDIA else {}
        safety = safety_fields(self._policy.hsts_s, is_encrypted=twisted.isSecure())
        for name, value in (*safety.items(), *shared.items(), *response.headers.items()):
            twisted.setHeader(name, value)
        length = response.length
        if length is not None and response.status not in (204, 304):
            twisted.setHeader(b"content-length", b"%d" % length)
        self._tally.requests[label, response.status] += 1
        who = getattr(twisted, "rapidrtmp_who", "")
        if who:
            self._audit(who, twisted, response.status)
        if response.status in (200, 206) and route is not None and route.audience in _MEDIA:
            twisted.channel.has_watched = True
        if response.status >= 400:
            self._abuse.note_status(response.status, client_of(twisted, self._proxies))
        if twisted.method == b"HEAD":
            return response.body
        if isinstance(response, SwitchedResponse) and response.switch is not None:
            channel = getattr(twisted.channel, "negotiated", None)
            if channel is not None:
                return self._switch(channel, response.status, response.switch, twisted)
        if isinstance(response, StreamedResponse):
            return send_streamed(response, twisted, partial(self._count_sent, label), self._bugs)
        self._tally.sent_bytes[label] += len(response.body)
        if len(response.body) <= SMALL_BYTES:
            return response.body
        written: Deferred[bytes] = Deferred()
        BodyProducer(twisted, response.body, partial(written.callback, b"")).start()
        return written

    def _switch(self, channel: Any, status: int, switch: Callable[[bool], Any], twisted: Any) -> Deferred[bytes]:
        """Have something else speak on the connection behind the header of an answer; the request is never finished."""
        twisted.setHeader(b"date", datetimeToString())
        is_chunked = twisted.clientproto == b"HTTP/1.1"
        if status == 200:
            if is_chunked:
                twisted.setHeader(b"transfer-encoding", b"chunked")
            twisted.setHeader(b"connection", b"close")
        fields = b"".join(
            b"%b: %b\r\n" % (name, value)
            for name, values in twisted.responseHeaders.getAllRawHeaders()
            for value in values
        )
        channel.take_over(switch(is_chunked), b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, RESPONSES[status], fields))
        return Deferred()

    def _audit(self, who: str, twisted: Any, status: int) -> None:
        """Log a call of the management API: who it was, from where, and what was asked; never bodies and queries."""
        method = twisted.method.decode("latin-1")
        self._audit_log.emit(
            LogLevel.debug if method in ("GET", "HEAD") else LogLevel.info,
            "{who}: {method} {path} answered {status}",
            who=who,
            method=method,
            path=twisted.path.decode("latin-1")[:MAX_AUDITED_PATH],
            status=status,
        )

    def _count_sent(self, label: str, size: int) -> None:
        self._tally.sent_bytes[label] += size

    # ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _refuse(self, twisted: Any, failure: Failure) -> bytes | Deferred[bytes]:
        """Answer what a route raised."""
        return self._send_error(_error(failure), twisted)

    def _refuse_unrouted(self, twisted: Any, failure: Failure) -> bytes | Deferred[bytes]:
        """Answer what no route would take: another path, or another method."""
        if isinstance(failure.value, MethodNotAllowed):
            allowed = ", ".join(sorted(failure.value.valid_methods or ()))
            return self._send_error(MethodNotAllowedError(twisted.method.decode("latin-1"), allowed), twisted)
        return self._send_error(NotFoundError("there is nothing here"), twisted)

    def _refuse_unreadable(self, twisted: Any, error: Exception) -> bytes | Deferred[bytes]:
        """Answer a request that cannot even be looked up."""
        return self._send_error(error, twisted)

    def _send_error(self, error: BaseException, twisted: Any) -> bytes | Deferred[bytes]:
        """Answer with what went wrong: as JSON, or as a page to a browser that wants something to show."""
        response = error_response(error)
        path, accept = (text.decode("latin-1") for text in (twisted.path, _accept_field(twisted)))
        if self._error_pages.is_wanted(twisted.method.decode("latin-1"), path, accept):
            response = self._error_pages.render(response, json.loads(response.body)["error"], path)
        return self._send(response, twisted)

    def _give_up(self, twisted: Any, failure: Failure) -> bytes | Failure | Deferred[bytes]:
        """Log a bug, and tell the client no more than that there is one."""
        if failure.check(CancelledError):
            return failure
        self._bugs.failure("internal error in {route}", failure, route=getattr(twisted, "rapidrtmp_route", UNROUTED))
        return self._send_error(_error(failure), twisted)


def _private(response: Response) -> Response:
    """What no shared cache may keep: whom it is for, the URL does not say (RFC 9111, 3.5)."""
    caching = response.headers.get("Cache-Control", "").replace("public", "private")
    return replace(response, headers={**response.headers, "Cache-Control": caching or "private"})


def _accept_field(twisted: Any) -> bytes:
    return b",".join(twisted.requestHeaders.getRawHeaders(b"accept", ()))


def _error(failure: Failure) -> BaseException:
    assert failure.value is not None
    return failure.value


@dataclass(frozen=True)
class Sites:
    """
    What is served at each door.

    :ivar management: ``None`` where that is part of the public one.
    :ivar follow: called with all that plugins bring when that has changed.
    """

    public: Site
    management: Site | None
    follow: Callable[[Sequence[Contribution]], None]


class _Content:
    """All routes that there are: ours, and what plugins bring; each door answers some of them."""

    def __init__(
        self,
        api: Api,
        hls: HlsResponder,
        registry: Registry,
        streams: IStreamDirectory,
        apps: Mapping[str, IApplication],
        clock: IReactorTime,
        admission: Admission,
        policy: HttpPolicy,
        flv: FlvResponder,
        access: ApiAccess,
        share: Callable[[Iterable[Route]], Iterable[Route]],
        elsewhere: StreamsElsewhere | None,
    ) -> None:
        self._share = share
        self._flv = flv
        self._api = api
        self._console = ConsolePages(access, api.http_root)
        self._admission = admission
        self._policy = policy
        self._finders: list[MediaFinder] = []
        self._player_data: dict[str, str] = {}
        self._media = MediaResponder(hls, streams, admission, self._finders)
        self._pages = Pages(registry, apps, clock, admission, self._player_data, streams, elsewhere)
        self._doors: list[tuple[WebApp, _Chosen]] = []

    def show(self, app: WebApp, choose: _Chosen) -> None:
        """Have a door answer the chosen routes, from the next :meth:`follow` on."""
        self._doors.append((app, choose))

    def follow(self, contributions: Sequence[Contribution]) -> None:
        """Take what plugins bring now."""
        self._api.follow(contributions)
        self._finders[:] = [each.find_media for each in contributions if each.find_media]
        self._player_data.clear()
        for each in reversed(contributions):
            self._player_data.update(each.player_data)
        contributed = [route for each in contributions for route in each.routes]
        table = routes(
            self._api,
            self._media,
            self._pages,
            self._console,
            contributed,
            self._admission,
            self._policy,
            self._flv,
        )
        for app, choose in self._doors:
            app.serve(choose(self._share(table)))


def make_sites(
    *,
    registry: Registry,
    metrics: Metrics,
    readiness: Readiness,
    apps: Mapping[str, IApplication],
    policy: HttpPolicy,
    clock: IReactorTime,
    utc_ms: Callable[[], int],
    contributions: Sequence[Contribution],
    viewer_salt: bytes,
    access: ApiAccess,
    find_public_door: Callable[[], tuple[str, int]],
    revocations: Revocations | None = None,
    record: RecordEvent = no_event,
    admission: Admission | None = None,
    demand: StreamDemand = no_demand,
    players: Players | None = None,
    histories: Histories | None = None,
    directory: IStreamDirectory | None = None,
    share: Callable[[Iterable[Route]], Iterable[Route]] = tuple,
    elsewhere: StreamsElsewhere | None = None,
) -> Sites:
    """
    Make the sites that serve everything over HTTP.

    :param apps: the applications by name.
    :param clock: time and timers: the reactor.
    :param utc_ms: the time of day in milliseconds since 1970.
    :param contributions: what plugins bring.
    :param viewer_salt: a secret that viewers are distinguished by.
    :param access: decides who may use the management API.
    :param find_public_door: tells the scheme and the port (0 for none) that viewers come to.
    :param revocations: which tokens are good no more.
    :param record: records which viewers are refused.
    :param admission: admits viewers; one of its own if it is left out.
    :param players: those who play FLV; likewise.
    :param demand: asked for streams that are not here.
    :param histories: what streams did lately.
    :param directory: finds streams for viewers; without one the registry does.
    :param share: makes of all routes those of one of several processes.
    :param elsewhere: tells pages of the streams of the others; ``None`` where there are none.
    :raises ConfigurationError: a trusted proxy is not an address or network.
    """
    revocations = revocations or Revocations(utc_ms)
    if players is None:
        players = Players(registry, clock)
    api = Api(
        registry,
        metrics,
        readiness,
        apps,
        policy,
        clock,
        utc_ms,
        find_public_door,
        contributions,
        revocations,
        players,
        histories,
    )
    proxies = TrustedProxies(policy.trusted_proxies)
    streams: IStreamDirectory = registry if directory is None else directory
    admission = admission or Admission(
        streams, apps, policy.max_viewers_per_client, proxies, clock, viewer_salt, utc_ms, revocations, record
    )
    tally, abuse, connections = RequestMetrics(policy), Abuse(clock), OpenConnections(policy, clock)
    for counted in (admission, players, tally, abuse, connections):
        metrics.collect_from(counted.metrics)
    hls = HlsResponder(streams, admission, policy.early_hold_ms, clock, demand)
    flv = FlvResponder(players, admission, clock, metrics)
    content = _Content(api, hls, registry, streams, apps, clock, admission, policy, flv, access, share, elsewhere)
    make_http2 = _http2(policy, clock, abuse, metrics)

    def make_site(choose: _Chosen, make_channel: Callable[[], BoundedChannel]) -> Site:
        app = WebApp((), access, tally, abuse, policy, admission.is_open)
        content.show(app, choose)
        return BoundedSite(app.resource(), policy, clock, make_channel, make_http2, connections)

    plain: Callable[[], BoundedChannel] = partial(BoundedChannel, abuse)
    express = plain
    if not policy.access_log:  # a line of it costs more than an answer of the express way: who wants one goes the other
        express = partial(FastPathChannel, FastPath(hls.respond, tally, policy, MEDIA_RULE), abuse)
    public = make_site(public_routes if policy.has_management_door else tuple, express)
    management = make_site(management_routes, plain) if policy.has_management_door else None
    content.follow(contributions)
    return Sites(public, management, content.follow)


def _http2(
    policy: HttpPolicy, clock: IReactorTime, abuse: Abuse, metrics: Metrics
) -> Callable[[Any, Any, Any], Protocol] | None:
    """Makes HTTP/2 connections; ``None`` if the packages for it are not installed."""
    try:
        from rapidrtmp.web.http2.connection import Http2
    except ImportError:
        return None
    http2 = Http2(policy, clock, abuse)
    metrics.collect_from(http2.metrics)
    return http2.connection
