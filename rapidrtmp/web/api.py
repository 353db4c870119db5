"""
The REST routes: tokens to publish with, what is live, stopping it, and how the server is.

JSON in, JSON out, names in camelCase. Each method takes a :class:`~rapidrtmp.interfaces.Request` and what its route
found in the path, and raises what :mod:`rapidrtmp.web.errors` has a status for. What it answers is described in
:mod:`rapidrtmp.web.openapi`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rapidrtmp.auth.revocation import Revocations, fingerprint_of
from rapidrtmp.auth.signed import read_token
from rapidrtmp.errors import NotFoundError
from rapidrtmp.http.addresses import host_name
from rapidrtmp.http.errors import MethodNotAllowedError
from rapidrtmp.http.params import MAX_ITEMS_PER_PAGE, read_json_object, read_query, read_text, read_whole, rfc3339
from rapidrtmp.interfaces import (
    NO_STORE,
    Action,
    BadRequestError,
    ConflictError,
    Contribution,
    IApplication,
    ITokenIssuer,
    Request,
    Response,
    json_response,
)
from rapidrtmp.live.history import STEP_MS, Histories
from rapidrtmp.live.registry import Registry
from rapidrtmp.live.stream import LiveStream, StreamState
from rapidrtmp.metrics import CONTENT_TYPE as METRICS_TYPE
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import DEFAULT_APP, StreamName
from rapidrtmp.play.players import Players
from rapidrtmp.support.clock import now_ms
from rapidrtmp.web.description import describe_stream
from rapidrtmp.web.grants import MAX_REVOCABLE_LENGTH, GrantRequest, read_grant_request, read_stream
from rapidrtmp.web.openapi import description
from rapidrtmp.web.pages import poster_response
from rapidrtmp.web.policy import HttpPolicy
from rapidrtmp.web.readiness import Readiness

__all__ = ["Api"]

#: The path of what can be done with a stream.
_ACTION = re.compile(r"/api/v1/streams/<key>/([^/<]+)")


class Api:
    """
    Answers the REST routes.

    :param apps: the applications by name.
    :param clock: the clock that frames and viewers are counted by.
    :param utc_ms: the time of day in milliseconds since 1970.
    :param contributions: what plugins bring, for the description.
    :param revocations: which credentials are good no more.
    :param players: those who play over RTMP and as FLV.
    :param histories: what streams did lately.
    :param find_public_door: tells the scheme and the port (0 for none) that viewers come to.
    """

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        readiness: Readiness,
        apps: Mapping[str, IApplication],
        policy: HttpPolicy,
        clock: IReactorTime,
        utc_ms: Callable[[], int],
        find_public_door: Callable[[], tuple[str, int]] = lambda: ("http", 8080),
        contributions: Sequence[Contribution] = (),
        revocations: Revocations | None = None,
        players: Players | None = None,
        histories: Histories | None = None,
    ) -> None:
        self._players = players or Players(registry, clock)
        self._histories = histories or Histories()
        self._revocations = revocations or Revocations(utc_ms)
        self._registry = registry
        self._metrics = metrics
        self._readiness = readiness
        self._apps = apps
        self._policy = policy
        self._clock = clock
        self._utc_ms = utc_ms
        self._find_public_door = find_public_door
        self.follow(contributions)

    def follow(self, contributions: Sequence[Contribution]) -> None:
        """Describe what plugins bring now."""
        self._stream_facts = [each.stream_facts for each in reversed(contributions) if each.stream_facts is not None]
        rules = [route.rule for each in contributions for route in each.routes]
        self._actions = {"stop", *(found[1] for rule in rules if (found := _ACTION.fullmatch(rule)))}
        self._description = json_response(
            description(self._policy.max_expiration_s, contributions),
            headers={"Cache-Control": "public, max-age=300"},
        )

    # ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def publish(self, request: Request) -> Response:
        """
        Issue a token to publish with: ``POST /api/v1/publish``.

        :raises BadRequestError: the body is not as described; the message names the field.
        :raises BadNameError: the stream key or application cannot be one.
        :raises NotFoundError: there is no such application.
        :raises ConflictError: the application's authenticator issues no tokens.
        """
        asked = read_grant_request(request, Action.PUBLISH, self._policy)
        app, secret_key = self._app(asked.stream), asked.stream.key
        public = app.public_name(secret_key)
        if public is None:
            raise NotFoundError("there is no such stream key")
        name = StreamName(app.name, public)
        name.check_publishable()
        asked = replace(asked, stream=name)
        token = _issue(ITokenIssuer(app.authenticator, None), asked)
        server, key = f"{self._rtmp_root(request)}/{name.app}", f"{secret_key}?token={token}"
        return json_response(
            {
                "publishUrl": f"{server}/{key}",
                "server": server,
                "key": key,
                "watchUrl": f"{self.http_root(request)}/{name.app}/{name.key}",
                "streamKey": name.key,
                "token": token,
                "expiresAt": rfc3339(self._utc_ms() + asked.lifetime_s * 1000),
            }
        )

    def play(self, request: Request) -> Response:
        """Issue a token to watch with: ``POST /api/v1/play``, as :meth:`publish`; ``""`` where that is open."""
        asked = read_grant_request(request, Action.PLAY, self._policy)
        name = asked.stream
        judge = self._app(name).play_authenticator
        token = "" if judge is None else _issue(ITokenIssuer(judge, None), asked)
        page = f"{self.http_root(request)}/{name.app}/{name.key}"
        below = f"{page}/~{token}" if token else page
        query = f"?token={token}" if token else ""
        return json_response(
            {
                "token": token,
                "watchUrl": f"{below}/" if token else page,
                "playlistUrl": f"{below}/index.m3u8",
                "flvUrl": f"{page}.flv{query}",
                "rtmpUrl": f"{self._rtmp_root(request)}/{name.app}/{name.key}{query}",
                "streamKey": name.key,
                "expiresAt": rfc3339(self._utc_ms() + asked.lifetime_s * 1000),
            }
        )

    def revoke(self, request: Request) -> Deferred[Response]:
        """
        Revoke a token, or all of a stream that were issued up to now: ``POST /api/v1/tokens/revoke``.

        Fails with ``StorageError`` if that holds only until the server ends: the list cannot be stored.

        :raises BadRequestError: the body is not as described.
        :raises BadNameError: the stream key or application cannot be one.
        :raises NotFoundError: there is no such application.
        """
        fields = read_json_object(request)
        if ("token" in fields) == ("streamKey" in fields):
            raise BadRequestError("either token or streamKey is needed")
        if "token" in fields:
            token = read_text(fields, "token")
            if not 0 < len(token) <= MAX_REVOCABLE_LENGTH:
                raise BadRequestError(f"token is empty, or longer than {MAX_REVOCABLE_LENGTH} characters")
            known = read_token(token, None)
            until_ms = known.expires_s * 1000 if known is not None else None
            stored = self._revocations.revoke_token(fingerprint_of(token), until_ms)
            return stored.addCallback(lambda _: json_response({"revoked": "token"}))
        name = read_stream(fields)
        self._app(name)
        return self._revocations.revoke_stream(name).addCallback(lambda _: json_response({"revoked": str(name)}))

    def _app(self, name: StreamName) -> IApplication:
        """The application of a stream. :raises NotFoundError: there is none."""
        if name.app not in self._apps or self._apps[name.app].is_leaving:
            raise NotFoundError(f"there is no application {name.app!r} here")
        return self._apps[name.app]

    def _rtmp_root(self, request: Request) -> str:
        scheme = "rtmps" if self._policy.rtmp_is_encrypted else "rtmp"
        if self._policy.public_rtmp:
            return f"{scheme}://{self._policy.public_rtmp}"
        return _url(scheme, request, self._policy.rtmp_port)

    def http_root(self, request: Request) -> str:
        """Where viewers come: the door that the request came by, if that is the public one."""
        if self._policy.public_http:
            return self._policy.public_http
        if not self._policy.has_management_door and request.header("host"):
            return f"{request.scheme}://{request.header('host')}"
        scheme, port = self._find_public_door()
        return _url(scheme, request, port)

    # ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def streams(self, request: Request) -> Response:
        """
        List the streams, those that ended lately included: ``GET /api/v1/streams``.

        :raises BadRequestError: the query names no state, or no page.
        """
        query = read_query(request)
        chosen = sorted(self._registry, key=lambda stream: stream.name)
        if "state" in query:
            state = _state(query["state"])
            chosen = [stream for stream in chosen if stream.state is state]
        total = len(chosen)
        if "page" in query or "itemsPerPage" in query:
            page = read_whole(query, "page", 0, minimum=0)
            size = read_whole(query, "itemsPerPage", 100, minimum=1, maximum=MAX_ITEMS_PER_PAGE)
            chosen = chosen[page * size : (page + 1) * size]
        return json_response({"streams": [self._describe(stream) for stream in chosen], "total": total})

    def stream(self, request: Request, key: str, app: str = DEFAULT_APP) -> Response:
        """
        Describe one stream: ``GET /api/v1/streams/KEY``.

        :raises NotFoundError: there is none of that name.
        :raises MethodNotAllowedError: the path is that of an action, and not of a stream of another application.
        """
        if key in self._actions and app not in self._apps:
            raise MethodNotAllowedError(request.method, "POST, OPTIONS")
        return json_response(self._describe(self._named(app, key)))

    def stop(self, request: Request, key: str, app: str = DEFAULT_APP) -> Response | Deferred[Response]:
        """
        End a stream and close its publisher: ``POST /api/v1/streams/KEY/stop``. ``{"revoke": true}`` revokes the token
        of its publisher as well.

        :raises NotFoundError: there is none of that name.
        :raises ConflictError: it has ended already.
        :raises BadRequestError: the body is something else.
        """
        is_revoked = _wants_revocation(request)
        stream = self._named(app, key)
        if stream.state is StreamState.ENDED:
            raise ConflictError(f"{stream.name} is not live: it has ended")
        revoking = self._revocations.revoke_token(stream.fingerprint) if is_revoked and stream.fingerprint else None
        self._registry.end(stream, "stopped by the operator")
        stopped = json_response({"message": "the stream has been stopped", "streamKey": key})
        return stopped if revoking is None else revoking.addCallback(lambda _: stopped)

    def history(self, _request: Request, key: str, app: str = DEFAULT_APP) -> Response:
        """
        What a stream did in the last ten minutes: ``GET /api/v1/streams/KEY/history``.

        :raises NotFoundError: there is none of that name.
        """
        time_ms = now_ms(self._clock)
        points = self._histories.of(self._named(app, key))
        return json_response(
            {
                "stepMs": STEP_MS,
                "ages": [time_ms - point.at_ms for point in points],
                "bitrate": [point.bitrate for point in points],
                "frameRate": [point.frame_rate for point in points],
                "viewers": [point.viewers for point in points],
                "lateMs": [point.late_ms for point in points],
            }
        )

    def poster(self, _request: Request, key: str, app: str = DEFAULT_APP) -> Response:
        """
        The newest keyframe of a stream, as MP4: ``GET /api/v1/streams/KEY/poster.mp4``.

        :raises NotFoundError: there is none of that name, or no keyframe of it is kept.
        """
        stream = self._named(app, key)
        return poster_response(stream, stream.name, NO_STORE)

    def _named(self, app: str, key: str) -> LiveStream:
        stream = self._registry.find(StreamName.checked(app, key))
        if stream is None:
            raise NotFoundError(f"there is no stream {app}/{key}")
        return stream

    def _describe(self, stream: LiveStream) -> dict[str, object]:
        described = describe_stream(stream, now_ms(self._clock), self._players.count(stream))
        for tell in self._stream_facts:
            described.update(tell(stream.name))
        return described

    # ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────

    def ping(self, _request: Request) -> Response:
        """Answer: ``GET /api/ping``."""
        return json_response({"message": "pong"})

    def health(self, _request: Request) -> Response:
        """Tell that the process lives: ``GET /health``. Nothing is checked: only a restart would help."""
        return json_response({"status": "ok"})

    def ready(self, _request: Request) -> Response:
        """Tell whether to send clients here, and why not: ``GET /ready``."""
        ready = self._readiness.is_ready
        checks = [{"name": check.name, "ok": check.ok, "reason": check.reason} for check in self._readiness.checks()]
        return json_response({"ready": ready, "checks": checks}, 200 if ready else 503)

    def startup(self, _request: Request) -> Response:
        """Tell whether the server has come up: ``GET /startup``. Once it has, that does not change."""
        started = self._readiness.has_started
        return json_response({"status": "started" if started else "starting"}, 200 if started else 503)

    def metrics(self, _request: Request) -> Response:
        """Show the metrics in Prometheus' text format: ``GET /metrics``."""
        return Response(200, {"Content-Type": METRICS_TYPE, **NO_STORE}, self._metrics.render())

    def openapi(self, _request: Request) -> Response:
        """Describe all of this: ``GET /api/v1/openapi.json``."""
        return self._description


def _url(scheme: str, request: Request, port: int) -> str:
    """The host that was asked, at another port; 0 for none."""
    host = host_name(request.header("host")) or "localhost"
    return f"{scheme}://{host}:{port}" if port else f"{scheme}://{host}"


def _issue(issuer: Any, asked: GrantRequest) -> str:
    """A token of an application's authenticator. :raises ConflictError: that issues none."""
    if issuer is None:
        raise ConflictError(f"the application {asked.stream.app!r} does not use tokens from this API")
    token: str = issuer.issue_token(asked.stream, asked.lifetime_s, asked.terms)
    return token


def _wants_revocation(request: Request) -> bool:
    """Whether the token of a publisher that is stopped is to be revoked."""
    if request.body.strip() in (b"", b"null"):
        return False
    value = read_json_object(request).get("revoke", False)
    if not isinstance(value, bool):
        raise BadRequestError("revoke is neither true nor false")
    return value


def _state(value: str) -> StreamState:
    try:
        return StreamState(value)
    except ValueError as error:
        raise BadRequestError(f"state is not one of {', '.join(state.value for state in StreamState)}") from error
