"""
One management API of several nodes: whichever is asked answers for all.

Lists and events are gathered, what concerns one stream is answered by the node that owns it, what concerns them all is
done by each, and the metrics of all are at one door. A node that does not answer in a second is named in
``incomplete``. ``?node=self`` asks one node about itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule

from rapidrtmp.cluster.node import ClusterNode
from rapidrtmp.cluster.peers import ROOT, PeerAnswer, PeerError
from rapidrtmp.errors import DirectoryError, NotFoundError, RapidRTMPError
from rapidrtmp.interfaces import NO_STORE, Node, Request, Response, Route, StreamedResponse, json_response
from rapidrtmp.names import DEFAULT_APP, POSTER, StreamName
from rapidrtmp.server.shared_events import EVENTS, gather_events
from rapidrtmp.support.bug_log import BugLog
from rapidrtmp.web.errors import error_response
from rapidrtmp.web.streamed import send_streamed

__all__ = ["SharedApi", "merge_metrics"]

#: How long a node may take.
ASK_S = 1.0
#: What is done to a stream may take longer: sinks write what they hold.
ACT_S = 8.0
_STREAM = "/api/v1/streams/<"
_LIST, _METRICS, _RELOAD = "/api/v1/streams", "/metrics", "/api/v1/reload"
_SELF = "node=self"
_bugs = BugLog(Logger("rapidrtmp.server"))
_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?( .*)")


class SharedApi:
    """
    The routes of one node, for all.

    :param has_stream: whether this node has a stream that has not ended.
    """

    def __init__(self, node: ClusterNode, clock: IReactorTime, has_stream: Callable[[StreamName], bool]) -> None:
        self._node = node
        self._clock = clock
        self._has_stream = has_stream
        self._map = Map(merge_slashes=False)
        self._routes: dict[str, Route] = {}

    def share(self, table: Iterable[Route]) -> tuple[Route, ...]:
        """The same routes, each for all nodes where that makes a difference."""
        routes = tuple(table)
        self._routes = {f"{route.method} {route.rule}": route for route in reversed(routes) if _is_shared(route)}
        rules = [Rule(route.rule, methods=[route.method], endpoint=name) for name, route in self._routes.items()]
        self._map = Map(rules, merge_slashes=False)
        return tuple(map(self._shared, routes))

    def _shared(self, route: Route) -> Route:
        if not _is_shared(route):
            return route
        if route.rule == _LIST:
            return replace(route, respond=partial(self._list, route))
        if route.rule == EVENTS:
            return replace(route, respond=partial(self._events, route))
        if route.rule == _RELOAD:
            return replace(route, respond=partial(self._everywhere, route))
        if route.rule == _METRICS:
            return replace(route, respond=partial(self._metrics, route))
        return replace(route, respond=partial(self._of_stream, route))

    # ── what other nodes ask ─────────────────────────────────────────────────────────────────────────────────────────

    def answer(self, method: str, path: str, query: str, body: bytes) -> Deferred[PeerAnswer]:
        """What this node says, of itself alone."""
        return maybeDeferred(self._answer, method, path, query, body).addCallbacks(_as_answer, _as_error)

    def _answer(self, method: str, path: str, query: str, body: bytes) -> Response | Deferred[Response]:
        try:
            name, arguments = self._map.bind("node").match(path, method)
        except HTTPException:
            return json_response({"error": "there is nothing here"}, 404)
        headers = {"content-type": "application/json", "host": "localhost"}
        request = Request(method, query, headers, "unix", "unix", body)
        return self._routes[name].respond(request, **arguments)

    # ── what clients ask ─────────────────────────────────────────────────────────────────────────────────────────────

    def _of_stream(self, route: Route, request: Request, **names: str) -> Response | Deferred[Response]:
        stream = StreamName(names.get("app", DEFAULT_APP), names["key"])
        if self._has_stream(stream):
            return route.respond(request, **names)
        return Deferred.fromCoroutine(self._forward(route, request, stream, names))

    async def _forward(self, route: Route, request: Request, stream: StreamName, names: Mapping[str, str]) -> Response:
        try:
            owner = await self._node.names.find(stream)
        except DirectoryError:
            owner = None
        if owner is None or owner.node == self._node.names.node:
            response = route.respond(request, **names)
            return response if isinstance(response, Response) else await response
        path = re.sub(r"<(\w+)>", lambda name: quote(names[name[1]], safe=""), route.rule)
        method = "GET" if request.method == "HEAD" else request.method
        try:
            answer = await self._ask(owner.address, method, path, request.query, request.body, ACT_S)
        except PeerError as error:
            return json_response({"error": f"the process that has {stream} does not answer: {error}"}, 503)
        return Response(answer.status, {"Content-Type": answer.content_type, **NO_STORE}, answer.body)

    def _list(self, route: Route, request: Request) -> Response | Deferred[Response]:
        if _SELF in request.query.split("&"):
            return route.respond(replace(request, query=_without_self(request.query)))
        return Deferred.fromCoroutine(self._gather(route, request))

    async def _gather(self, route: Route, request: Request) -> Response:
        page = route.respond(request)  # says what is wrong with the query, if anything is
        assert isinstance(page, Response)
        query = dict(parse_qsl(request.query))
        first, size = int(query.pop("page", "0")), int(query.pop("itemsPerPage", "0"))
        asked = urlencode(query)
        own = json.loads(route.respond(replace(request, query=asked)).body)  # type: ignore[union-attr]
        answers, missing = await self._ask_all(_LIST, asked)
        found = [stream for each in [own, *(json.loads(answer) for answer in answers)] for stream in each["streams"]]
        streams = _each_once(found)
        total = len(streams)
        if "page" in request.query or size:
            size = size or 100
            streams = streams[first * size : (first + 1) * size]
        return json_response({"streams": streams, "total": total, **({"incomplete": missing} if missing else {})})

    def _events(self, route: Route, request: Request) -> Response | Deferred[Response]:
        if _SELF in request.query.split("&"):
            return route.respond(replace(request, query=_without_self(request.query)))
        return gather_events(self._node, self._clock, route.respond, request)

    def _everywhere(self, route: Route, request: Request) -> Response | Deferred[Response]:
        if _SELF in request.query.split("&"):
            return route.respond(request)
        return Deferred.fromCoroutine(self._do_everywhere(route, request))

    async def _do_everywhere(self, route: Route, request: Request) -> Response:
        """Do something at this node, and if that can be done at all others; the answer is that of this one."""
        response = route.respond(request)
        own = response if isinstance(response, Response) else await response
        others = await self._others()
        asking = [self._done(each, route, request) for each in others]
        missing = [each.name for each, done in zip(others, await gatherResults(asking), strict=True) if not done]
        return json_response({**json.loads(own.body), "incomplete": missing}) if missing else own

    def _done(self, node: Node, route: Route, request: Request) -> Deferred[bool]:
        asking = Deferred.fromCoroutine(
            self._ask(node.address, route.method, route.rule, request.query, request.body, ACT_S)
        )
        return asking.addCallbacks(lambda answer: answer.status == 200, lambda failure: failure.trap(PeerError) is None)

    # ── what pages show ──────────────────────────────────────────────────────────────────────────────────────────────

    def streams_elsewhere(self) -> Deferred[list[Mapping[str, Any]]]:
        """The streams of other nodes, as the API describes them."""
        return Deferred.fromCoroutine(self._streams_elsewhere())

    async def _streams_elsewhere(self) -> list[Mapping[str, Any]]:
        answers, _ = await self._ask_all(_LIST, "")
        return [stream for answer in answers for stream in json.loads(answer)["streams"]]

    def poster_elsewhere(self, name: StreamName) -> Deferred[bytes]:
        """The picture of a stream of another node; fails with ``NotFoundError``."""
        return Deferred.fromCoroutine(self._poster_elsewhere(name))

    async def _poster_elsewhere(self, name: StreamName) -> bytes:
        try:
            owner = await self._node.names.find(name)
            if owner is not None and owner.node != self._node.names.node:
                path = f"{_LIST}/{quote(name.app, safe='')}/{quote(name.key, safe='')}/{POSTER}"
                answer = await self._ask(owner.address, "GET", path, "", b"", ASK_S)
                if answer.status == 200:
                    return answer.body
        except (DirectoryError, PeerError):
            pass
        raise NotFoundError(f"there is no picture of {name}")

    def _metrics(self, route: Route, request: Request) -> Response | Deferred[Response]:
        if _SELF in request.query.split("&"):
            return route.respond(request)
        return Deferred.fromCoroutine(self._gather_metrics(route, request))

    async def _gather_metrics(self, route: Route, request: Request) -> Response:
        own = route.respond(request)
        assert isinstance(own, Response)
        others = await self._others()
        answers = await gatherResults([self._asked(each, _METRICS, "") for each in others])
        texts = {self._node.names.node: own.body.decode()}
        texts.update({each.name: answer for each, answer in zip(others, answers, strict=True) if answer is not None})
        return replace(own, body=merge_metrics(texts).encode())

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _others(self) -> list[Node]:
        directory = self._node.names.directory
        if directory is None:
            return []
        try:
            nodes = await directory.nodes()
        except DirectoryError:
            return []
        return [node for node in nodes if node.name != self._node.names.node]

    async def _ask_all(self, path: str, query: str) -> tuple[list[str], list[str]]:
        """What the other nodes say, and the names of those that say nothing."""
        others = await self._others()
        answers = await gatherResults([self._asked(each, path, query) for each in others])
        missing = [each.name for each, answer in zip(others, answers, strict=True) if answer is None]
        return [answer for answer in answers if answer is not None], missing

    def _asked(self, node: Node, path: str, query: str) -> Deferred[str | None]:
        def answered(answer: PeerAnswer) -> str | None:
            return answer.body.decode() if answer.status == 200 else None

        asking = Deferred.fromCoroutine(self._ask(node.address, "GET", path, query, b"", ASK_S))
        return asking.addCallback(answered).addErrback(lambda failure: failure.trap(PeerError) and None)

    async def _ask(self, address: str, method: str, path: str, query: str, body: bytes, timeout_s: float) -> PeerAnswer:
        asked = f"{ROOT}{path}?{query}" if query else f"{ROOT}{path}"
        return await self._node.peers.ask(address, method, asked, body=body, timeout_s=timeout_s)


def _is_shared(route: Route) -> bool:
    return route.rule in (_LIST, _METRICS, EVENTS, _RELOAD) or (
        route.rule.startswith(_STREAM) and "<key>" in route.rule
    )


def _without_self(query: str) -> str:
    return "&".join(each for each in query.split("&") if each != _SELF)


def _each_once(streams: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Streams by name, one that is live before one of the same name that has ended elsewhere."""
    chosen: dict[tuple[str, str], Mapping[str, Any]] = {}
    for stream in streams:
        name = str(stream.get("app", "")), str(stream["streamKey"])
        if name not in chosen or chosen[name]["state"] == "ended":
            chosen[name] = stream
    return [chosen[name] for name in sorted(chosen)]


def _as_answer(response: Response) -> PeerAnswer:
    content_type = response.headers.get("Content-Type", "")
    if isinstance(response, StreamedResponse):
        return PeerAnswer(response.status, content_type, b"", partial(_send, response))
    return PeerAnswer(response.status, content_type, response.body)


def _send(response: StreamedResponse, request: Any) -> Deferred[Any]:
    return send_streamed(response, request, lambda _size: None, _bugs)


def _as_error(failure: Failure) -> PeerAnswer:
    failure.trap(RapidRTMPError)
    assert failure.value is not None
    return _as_answer(error_response(failure.value))


def merge_metrics(texts: Mapping[str, str]) -> str:
    """
    One page of metrics, in Prometheus' text format, of those of several processes.

    :param texts: by the process, which becomes the label ``worker`` of each sample.
    """
    headers: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for worker, text in texts.items():
        family = ""
        for line in text.splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                name = line.split(" ", 3)[2]
                family = name if line.startswith("# HELP ") else family
                known = headers.setdefault(family, [])
                if line not in known:
                    known.append(line)
            elif found := _SAMPLE.fullmatch(line):
                labels = ",".join(filter(None, (found[2], f'worker="{worker}"')))
                samples.setdefault(family, []).append(f"{found[1]}{{{labels}}}{found[3]}")
    return "".join(f"{line}\n" for family, lines in headers.items() for line in (*lines, *samples.get(family, ())))
