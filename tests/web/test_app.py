from collections.abc import Iterator
from functools import partial

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import NotFoundError, StorageError
from rapidrtmp.http.errors import (
    BodyTooLargeError,
    ForbiddenError,
    MethodNotAllowedError,
    NotYetError,
    RangeNotSatisfiableError,
    TooManyRequestsError,
    UnauthorizedError,
)
from rapidrtmp.interfaces import Audience, BadRequestError, ConflictError, Request, Response, Route, UnavailableError
from rapidrtmp.live.registry import LimitReachedError, NameTakenError
from rapidrtmp.live.shelf import TooManyWaitersError
from rapidrtmp.names import BadNameError
from rapidrtmp.web.abuse import Abuse
from rapidrtmp.web.api_access import ApiAccess, ApiSecret
from rapidrtmp.web.app import WebApp
from rapidrtmp.web.errors import error_response
from rapidrtmp.web.policy import HttpPolicy
from rapidrtmp.web.request_metrics import RequestMetrics
from rapidrtmp.web.site import BoundedChannel, BoundedSite
from tests.slow import slow
from tests.web.kit import Reply, Server, Wire, playlist


class ErrorTableTests(SynchronousTestCase):
    def test_each_exception_has_its_status(self) -> None:
        """Each exception has its status, its words, and what else the client must know."""
        cases = (
            (BadRequestError("x"), 400, {}),
            (BadNameError("x"), 400, {}),
            (UnauthorizedError("x", {"WWW-Authenticate": "Bearer"}), 401, {"WWW-Authenticate": "Bearer"}),
            (ForbiddenError("x"), 403, {}),
            (NotFoundError("x"), 404, {}),
            (NotYetError("x", 2), 404, {"Retry-After": "2"}),
            (MethodNotAllowedError("PUT", "GET"), 405, {"Allow": "GET"}),
            (ConflictError("x"), 409, {}),
            (NameTakenError("x"), 409, {}),
            (BodyTooLargeError(5), 413, {}),
            (RangeNotSatisfiableError(5), 416, {"Content-Range": "bytes */5"}),
            (TooManyRequestsError("x"), 429, {}),
            (LimitReachedError("x"), 429, {}),
            (UnavailableError("x", 3), 503, {"Retry-After": "3"}),
            (TooManyWaitersError("x"), 503, {"Retry-After": "1"}),
        )
        for error, status, headers in cases:
            response = error_response(error)
            self.assertEqual(status, response.status, error)
            self.assertEqual("no-store", response.headers["Cache-Control"])
            self.assertEqual(headers, {name: response.headers.get(name) for name in headers}, error)
            self.assertIn(str(error).encode(), response.body)

    def test_what_stays_inside(self) -> None:
        """What a backend or a bug says of itself is not for clients."""
        for error, status in ((StorageError("/srv/secret is full"), 503), (RuntimeError("/srv/secret"), 500)):
            response = error_response(error)
            self.assertEqual(status, response.status)
            self.assertNotIn(b"secret", response.body)


class MethodTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()

    def test_wrong_method_names_the_right_ones(self) -> None:
        """A method that a path does not know is refused with those it does."""
        for method, path, allowed in (
            ("GET", "/api/v1/publish", "OPTIONS, POST"),
            ("PUT", "/api/v1/publish", "OPTIONS, POST"),
            ("POST", "/api/v1/streams", "GET, HEAD, OPTIONS"),
            ("DELETE", "/api/v1/streams/k", "GET, HEAD, OPTIONS"),
            ("POST", "/live/k/index.m3u8", "GET, HEAD, OPTIONS"),
            ("POST", "/live/k", "GET, HEAD, OPTIONS"),
            ("BREW", "/", "GET, HEAD, OPTIONS"),
            ("POST", "/health", "GET, HEAD, OPTIONS"),
            ("GET", "/api/v1/streams/k/stop", "POST, OPTIONS"),
            ("GET", "/api/v1/streams/k/record", "POST, OPTIONS"),
            ("GET", "/api/v1/streams/live/k/stop", "OPTIONS, POST"),
        ):
            reply = self.server.request(method, path)
            self.assertEqual((405, allowed), (reply.status, reply.headers.get("allow")), (method, path))
            self.assertEqual(["error"], list(reply.json()))

    def test_options_name_the_methods(self) -> None:
        """Every path tells which methods it knows, to every client."""
        for path, allowed in (
            ("/", "GET, HEAD, OPTIONS"),
            ("/health", "GET, HEAD, OPTIONS"),
            ("/api/v1/streams", "GET, HEAD, OPTIONS"),
            ("/live/k", "GET, HEAD, OPTIONS"),
            ("/live/k/x.m4s", "GET, HEAD, OPTIONS"),
            ("/api/v1/streams/k/stop", "POST, OPTIONS"),
        ):
            reply = self.server.request("OPTIONS", path, peer="192.0.2.1")
            self.assertEqual((204, allowed), (reply.status, reply.headers["allow"]), path)

    def test_head_is_get_without_body(self) -> None:
        """HEAD is GET without a body, on every path."""
        for path in ("/", "/live/k", "/health", "/ready", "/api/v1/streams", "/nothing", "/static/player.js"):
            got, head = self.server.get(path), self.server.request("HEAD", path)
            self.assertEqual((got.status, b""), (head.status, head.body), path)
            self.assertEqual(got.headers["content-length"], head.headers["content-length"])

    def test_unknown_paths_are_not_found(self) -> None:
        """What no route takes is not found, in JSON as everything else, and nothing is redirected."""
        for path in ("/nothing", "/live/", "/api", "/api/v1", "/api/v2/streams", "/a/b/c/d", "/health/", "/metrics/x"):
            reply = self.server.get(path)
            self.assertEqual((404, ["error"]), (reply.status, list(reply.json())), path)

    def test_unreadable_urls_are_refused(self) -> None:
        """A URL or a host that is no text, or no host, is refused before anything is looked up."""
        for path, host in (
            ("/%ff", "localhost"),
            ("/live/%c3/x", "localhost"),
            ("/", "a b"),
            ("/", "x" * 300),
            ("/", "a/b"),
        ):
            reply = self.server.get(path, Host=host)
            self.assertEqual((400, ["error"]), (reply.status, list(reply.json())), (path, host))
        for host in ("a" * 64 + ".example", "a..b", ".", "-"):
            self.assertIn(self.server.get("/health", Host=host).status, (200, 400), host)


class CountingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.stream = self.server.live()
        self.stream.shelf.put_playlist("index.m3u8", playlist())

    def requests(self, route: str, status: int) -> float:
        return self.server.metric("http_requests_total", route=route, status=str(status))

    def test_by_route_and_status(self) -> None:
        """Requests are counted by the template of their route, so that there are few of them."""
        media = "/<app>/<key>/<name>"
        for number in range(20):
            self.server.get(f"/live/k{number}/index.m3u8")
            self.server.get(f"/nothing-{number}")
        self.server.get("/live/k/index.m3u8")
        self.server.request("PUT", "/live/k/index.m3u8")
        self.assertEqual((20, 1), (self.requests(media, 404), self.requests(media, 200)))
        self.assertEqual((20, 1), (self.requests("other", 404), self.requests("other", 405)))
        self.server.get("/health")
        self.assertEqual(1, self.requests("/health", 200))

    def test_sent_bytes_are_counted(self) -> None:
        """The bytes of bodies that were sent are counted, and HEAD sends none."""
        size = len(self.server.get("/live/k/index.m3u8").body)
        self.server.request("HEAD", "/live/k/index.m3u8")
        self.assertEqual(size, self.server.metric("http_sent_bytes_total", route="/<app>/<key>/<name>"))

    def test_waiting_requests_are_counted(self) -> None:
        """A held request shows while it is held, however it ends."""
        wires = [self.server.connect() for _ in range(3)]
        for wire in wires:
            wire.request("GET", "/live/k/index.m3u8?_HLS_msn=10")
        self.assertEqual(3, self.server.metric("http_waiting_requests"))
        wires[0].leave()
        self.assertEqual(2, self.server.metric("http_waiting_requests"))
        self.assertEqual(1, self.requests("/<app>/<key>/<name>", 499))
        self.stream.shelf.put_playlist("index.m3u8", playlist(10))
        self.assertEqual(0, self.server.metric("http_waiting_requests"))
        self.assertEqual(2, self.requests("/<app>/<key>/<name>", 200))


class HeldBoundTests(SynchronousTestCase):
    def hold(self, server: Server, peer: str = "192.0.2.1") -> Wire:
        wire = server.connect(peer)
        wire.request("GET", "/live/k/index.m3u8?_HLS_msn=10")
        return wire

    def test_of_the_server(self) -> None:
        """Beyond the server's bound on held requests the next is refused, and is not left waiting."""
        server = Server(max_waiters=2)
        stream = server.live()
        stream.shelf.put_playlist("index.m3u8", playlist())
        held = [self.hold(server) for _ in range(3)]
        self.assertEqual((503, "1"), ((reply := held[2].reply()).status, reply.headers["retry-after"]))
        self.assertEqual(2, stream.shelf.waiting)
        held[0].leave()
        self.assertFalse(self.hold(server).is_answered)

    def test_of_one_client(self) -> None:
        """Beyond the bound on one address its next request is refused, and others are not."""
        server = Server(max_waiters_per_client=1)
        server.live().shelf.put_playlist("index.m3u8", playlist())
        self.assertFalse(self.hold(server).is_answered)
        reply = self.hold(server).reply()
        self.assertEqual((429, "*"), (reply.status, reply.headers["access-control-allow-origin"]))
        self.assertFalse(self.hold(server, "192.0.2.2").is_answered)


class SafetyTests(SynchronousTestCase):
    """What every answer tells browsers."""

    PATHS = (
        "/", "/live/k", "/live/.k", "/live/k/index.m3u8", "/live/k/segment_1.m4s", "/live/k/none.m4s", "/live/%FF",
        "/live/k/index.m3u8?_HLS_msn=x", "/recordings", "/nothing", "/static/player.js", "/favicon.ico", "/health",
        "/metrics", "/api/v1/streams", "/api/v1/streams/none", "/api/v1/openapi.json",
    )  # fmt: skip

    def replies(self, *, is_encrypted: bool = False, **policy: int) -> Iterator[tuple[str, Reply]]:
        server = Server(**policy)
        stream = server.live()
        stream.shelf.put_playlist("index.m3u8", playlist())
        stream.shelf.put("segment_1.m4s", [b"moofmdat"], "video/mp4")
        for path in self.PATHS:
            for method in ("GET", "HEAD", "OPTIONS", "PUT"):
                wire = Wire(server.site, is_encrypted=is_encrypted)
                wire.request(method, path, Accept="text/html")
                yield f"{method} {path}", wire.reply(method)

    def test_no_type_is_guessed(self) -> None:
        """Nothing, of media, API, pages and errors, may be taken for another type than it is sent as."""
        for asked, reply in self.replies():
            self.assertEqual("nosniff", reply.headers.get("x-content-type-options"), asked)

    def test_no_page_is_framed(self) -> None:
        """No page, those of errors included, may be shown within another."""
        pages = [reply for _, reply in self.replies() if reply.headers.get("content-type", "").startswith("text/html")]
        self.assertGreater(len(pages), 3)
        for reply in pages:
            self.assertIn("frame-ancestors 'none'", reply.headers["content-security-policy"])
            self.assertEqual("DENY", reply.headers["x-frame-options"])

    @slow
    def test_https_only_where_it_is_wanted(self) -> None:
        """Browsers are asked to come by HTTPS only where the operator wants that, and only over HTTPS."""
        for hsts_s, is_encrypted, expected in ((0, True, None), (60, False, None), (60, True, "max-age=60")):
            for asked, reply in self.replies(is_encrypted=is_encrypted, hsts_s=hsts_s):
                self.assertEqual(expected, reply.headers.get("strict-transport-security"), asked)


class BugTests(SynchronousTestCase):
    """A route that fails as none should."""

    def make_site(self, respond: object) -> BoundedSite:
        route = Route("GET", "/", Audience.PUBLIC, respond)  # type: ignore[arg-type]
        policy = HttpPolicy()
        abuse = Abuse(Clock())
        access = ApiAccess(ApiSecret(), policy, Clock())
        app = WebApp((route,), access, RequestMetrics(policy), abuse, policy)
        return BoundedSite(app.resource(), policy, Clock(), partial(BoundedChannel, abuse))

    def ask(self, respond: object) -> Wire:
        wire = Wire(self.make_site(respond))
        wire.request("GET", "/")
        return wire

    def test_bug_is_logged_whole(self) -> None:
        """A bug is logged whole, and shown as no more than that there is one; now or later."""

        def at_once(_request: Request) -> Response:
            raise RuntimeError("the secret of the house")

        def later(_request: Request) -> Deferred[Response]:
            return succeed(None).addCallback(lambda _: at_once(_request))

        for respond in (at_once, later):
            reply = self.ask(respond).reply()
            self.assertEqual((500, {"error": "internal error"}), (reply.status, reply.json()))
            self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_burst_is_logged_once(self) -> None:
        """A bug that a client causes again and again is logged once."""

        def respond(_request: Request) -> Response:
            raise RuntimeError("again")

        site = self.make_site(respond)
        for _ in range(50):
            wire = Wire(site)
            wire.request("GET", "/")
            self.assertEqual(500, wire.reply().status)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_answers_may_come_later(self) -> None:
        """An answer or a refusal may come at any later time."""
        answer: Deferred[Response] = Deferred()
        wire = self.ask(lambda _request: answer)
        self.assertFalse(wire.is_answered)
        answer.callback(Response(200, {}, b"late"))
        self.assertEqual(b"late", wire.reply().body)
        refusal: Deferred[Response] = Deferred()
        wire = self.ask(lambda _request: refusal)
        refusal.errback(ConflictError("no"))
        self.assertEqual(409, wire.reply().status)

    def test_bug_after_the_client_left(self) -> None:
        """Leaving cancels what is being done, and nothing is written or logged."""
        cancelled: list[object] = []
        answer: Deferred[Response] = Deferred(cancelled.append)
        with capturedLogs() as events:
            wire = self.ask(lambda _request: answer)
            wire.leave()
        self.assertEqual([answer], cancelled)
        self.assertFalse(wire.is_answered)
        self.assertEqual([], [event for event in events if "log_failure" in event])
