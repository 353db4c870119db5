"""
The REST routes: tokens to publish with, what is live, stopping it, and how the server is.

JSON in, JSON out, names in camelCase. Each method takes a :class:`~rapidrtmp.interfaces.Request` and what its route
found in the path, and raises what :mod:`rapidrtmp.web.errors` has a status for. What it answers is described in
:mod:`rapidrtmp.web.openapi`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from rapidrtmp.errors import ConfigurationError, NotFoundError
from rapidrtmp.http.addresses import host_name
from rapidrtmp.http.errors import MethodNotAllowedError
from rapidrtmp.http.params import MAX_ITEMS_PER_PAGE, read_json_object, read_query, read_text, read_whole, rfc3339
from rapidrtmp.interfaces import (
    NO_STORE,
    BadRequestError,
    ConflictError,
    Contribution,
    IApplication,
    ITokenIssuer,
    Request,
    Response,
    json_response,
)
from rapidrtmp.live.registry import Registry
from rapidrtmp.live.stream import LiveStream, StreamState
from rapidrtmp.metrics import CONTENT_TYPE as METRICS_TYPE
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import DEFAULT_APP, StreamName
from rapidrtmp.support.clock import now_ms
from rapidrtmp.support.units import parse_duration_s
from rapidrtmp.web.description import describe_stream
from rapidrtmp.web.openapi import description
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
    ) -> None:
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
        rules = [route.rule for each in contributions for route in each.routes]
        self._actions = {"stop", *(found[1] for rule in rules if (found := _ACTION.fullmatch(rule)))}
        self._description = json_response(
            description(self._policy.max_expiration_s, contributions),
            headers={"Cache-Control": "public, max-age=300"},
        )

    # ── publishing ───────────────────────────────────────────────────────────────────────────────────────────────────

    def publish(self, request: Request) -> Response:
        """
        Issue a token: ``POST /api/v1/publish``.

        :raises BadRequestError: the body is not as described; the message names the field.
        :raises BadNameError: the stream key or application cannot be one.
        :raises NotFoundError: there is no such application.
        :raises ConflictError: the application's authenticator issues no tokens.
        """
        fields = read_json_object(request)
        key = read_text(fields, "streamKey")
        name = StreamName.checked(read_text(fields, "app") if "app" in fields else DEFAULT_APP, key)
        lifetime_s = self._lifetime_s(fields)
        if name.app not in self._apps or self._apps[name.app].is_leaving:
            raise NotFoundError(f"there is no application {name.app!r} here")
        issuer = ITokenIssuer(self._apps[name.app].authenticator, None)
        if issuer is None:
            raise ConflictError(f"the application {name.app!r} does not use tokens from this API")
        token = issuer.issue_token(name, lifetime_s)
        server, key = f"{self._rtmp_root(request)}/{name.app}", f"{name.key}?token={token}"
        return json_response(
            {
                "publishUrl": f"{server}/{key}",
                "server": server,
                "key": key,
                "watchUrl": f"{self._http_root(request)}/{name.app}/{name.key}",
                "streamKey": name.key,
                "token": token,
                "expiresAt": rfc3339(self._utc_ms() + lifetime_s * 1000),
            }
        )

    def _lifetime_s(self, fields: Mapping[str, Any]) -> int:
        value = fields.get("expiresIn")
        maximum = self._policy.max_expiration_s
        if value is None:
            return min(self._policy.default_expiration_s, maximum)
        if isinstance(value, float) and value.is_integer():  # in JSON 60.0 is the integer 60
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise BadRequestError("expiresIn is neither a whole number of seconds nor a duration such as 1h")
        try:
            seconds = parse_duration_s(value) if isinstance(value, str) else value
        except ConfigurationError as error:
            raise BadRequestError(f"expiresIn: {error}") from error
        if seconds < 1:
            raise BadRequestError("expiresIn is less than a second")
        if seconds > maximum:
            raise BadRequestError(f"expiresIn is too long: the longest allowed is {maximum} seconds")
        return seconds

    def _rtmp_root(self, request: Request) -> str:
        scheme = "rtmps" if self._policy.rtmp_is_encrypted else "rtmp"
        if self._policy.public_rtmp:
            return f"{scheme}://{self._policy.public_rtmp}"
        return _url(scheme, request, self._policy.rtmp_port)

    def _http_root(self, request: Request) -> str:
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

    def stop(self, _request: Request, key: str, app: str = DEFAULT_APP) -> Response:
        """
        End a stream and close its publisher: ``POST /api/v1/streams/KEY/stop``.

        :raises NotFoundError: there is none of that name.
        :raises ConflictError: it has ended already.
        """
        stream = self._named(app, key)
        if stream.state is StreamState.ENDED:
            raise ConflictError(f"{stream.name} is not live: it has ended")
        self._registry.end(stream, "stopped by the operator")
        return json_response({"message": "the stream has been stopped", "streamKey": key})

    def _named(self, app: str, key: str) -> LiveStream:
        stream = self._registry.find(StreamName.checked(app, key))
        if stream is None:
            raise NotFoundError(f"there is no stream {app}/{key}")
        return stream

    def _describe(self, stream: LiveStream) -> dict[str, object]:
        return describe_stream(stream, now_ms(self._clock))

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


def _state(value: str) -> StreamState:
    try:
        return StreamState(value)
    except ValueError as error:
        raise BadRequestError(f"state is not one of {', '.join(state.value for state in StreamState)}") from error
