"""Who may use the management API."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.http.addresses import TrustedProxies
from rapidrtmp.http.errors import ForbiddenError, TooManyRequestsError, UnauthorizedError
from rapidrtmp.interfaces import EventType, HttpError, Request
from rapidrtmp.web.api_access import ApiAccess, ApiSecret
from rapidrtmp.web.peer_user import LocalPeer
from rapidrtmp.web.policy import HttpPolicy
from tests.web.kit import Server

HERE = ip_address("127.0.0.1")


def request(peer: str = "127.0.0.1", *, host: str | None = "localhost:8080", **headers: str) -> Request:
    """A request; ``_`` in a header's name stands for ``-``, and ``host=None`` for no such field."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if host is not None:
        fields["host"] = host
    return Request("POST", "", fields, peer, TrustedProxies(()).client(peer, ""))


class OwnUserTests(SynchronousTestCase):
    """Without the secret only the server's own user is admitted."""

    def passes(self, asked: Request, peer: LocalPeer | None = None, **policy: Any) -> bool:
        peer = peer or LocalPeer(os.geteuid(), HERE)
        try:
            ApiAccess(ApiSecret(b"s3cret"), HttpPolicy(**policy), Clock(), lambda _: peer).check(asked, None)
        except UnauthorizedError:
            return False
        return True

    def test_own_user_may_pass(self) -> None:
        """A program of the server's user may pass, by whichever of this machine's names."""
        own = socket.gethostname()
        for host in ("localhost", "localhost:8080", "LOCALHOST", "127.0.0.1:1", "[::1]:8080", "api.localhost", own):
            self.assertTrue(self.passes(request(host=host)), host)
        address = LocalPeer(os.geteuid(), ip_address("192.0.2.1"))
        self.assertTrue(self.passes(request(host="192.0.2.1:8080"), address))
        self.assertTrue(self.passes(request(), LocalPeer(os.geteuid(), None)))

    def test_other_users_may_not_pass(self) -> None:
        """Neither another user of this machine nor a client that the kernel does not know may pass."""
        self.assertFalse(self.passes(request(), LocalPeer(os.geteuid() + 1, HERE)))
        access = ApiAccess(ApiSecret(b"s3cret"), HttpPolicy(), Clock(), lambda _: None)
        self.assertRaises(UnauthorizedError, access.check, request(), None)

    def test_distrust_asks_every_client(self) -> None:
        """The operator may ask the secret of every client."""
        self.assertFalse(self.passes(request(), trust_own_user=False))

    def test_other_names_are_not_meant(self) -> None:
        """A request that names another host was meant for another: a proxy's client, or a page's own name rebound."""
        for host in (
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "192.0.2.1",
            "not a host",
            "",
            None,
        ):
            self.assertFalse(self.passes(request(host=host)), host)

    def test_signs_of_a_proxy(self) -> None:
        """What came through a proxy is a client's request, whatever its fields hold and whichever user runs it."""
        for name in (
            "forwarded", "via", "x_forwarded_for", "x_forwarded_proto", "x_forwarded_host", "x_forwarded_server",
            "x_real_ip", "cf_connecting_ip", "cf_ray", "cdn_loop", "true_client_ip", "x_client_ip", "x_original_uri",
            "x_envoy_external_address", "x_amzn_trace_id", "x_varnish", "fastly_client_ip", "x_cluster_client_ip",
        ):  # fmt: skip
            for value in ("127.0.0.1", ""):
                self.assertFalse(self.passes(request(**{name: value})), name)

    def test_own_pages_may_ask(self) -> None:
        """A page of this very server may ask, and so may a person by the address bar."""
        own = "http://localhost:8080"
        self.assertTrue(self.passes(request(origin=own, referer=f"{own}/x", sec_fetch_site="same-origin")))
        self.assertTrue(self.passes(request(sec_fetch_site="none")))


class PageTests(SynchronousTestCase):
    """Pages of other origins are never answered."""

    def test_pages_of_others_may_not(self) -> None:
        """Neither on this machine nor with the secret."""
        access = ApiAccess(ApiSecret(b"s3cret"), HttpPolicy(), Clock(), lambda _: LocalPeer(os.geteuid(), HERE))
        origins = ("https://evil.example", "http://localhost:3000", "null", "http://localhost:8080.evil.example", "")
        for headers in (
            *({"origin": origin} for origin in origins),
            *({"sec_fetch_site": site} for site in ("cross-site", "same-site")),
            *({"referer": url} for url in ("https://evil.example/", "http://[", "about:blank", "")),
        ):
            self.assertRaises(ForbiddenError, access.check, request(**headers), None)
            secret = request(authorization="Bearer s3cret", **headers)
            self.assertRaises(ForbiddenError, access.check, secret, None)
            nameless = request(authorization="Bearer s3cret", host=None, **headers)
            self.assertRaises(ForbiddenError, access.check, nameless, None)


class SecretTests(SynchronousTestCase):
    """With the secret every client is admitted."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.access = ApiAccess(ApiSecret(b"s3cret"), HttpPolicy(max_wrong_secrets=0), self.clock, lambda _: None)

    def refusal(self, asked: Request) -> HttpError:
        return self.assertRaises(UnauthorizedError, self.access.check, asked, None)

    def test_right_secret_passes_anywhere(self) -> None:
        """The right secret passes from anywhere, also through a proxy."""
        for scheme in ("Bearer", "bearer", "BEARER"):
            asked = request(
                "192.0.2.1", host="x.example", authorization=f"{scheme} s3cret", x_forwarded_for="192.0.2.9"
            )
            self.access.check(asked, None)

    def test_no_secret_names_what_is_wanted(self) -> None:
        """Without one the client learns what is wanted."""
        for authorization in ("", "Basic czNjcmV0", "s3cret"):
            error = self.refusal(request(authorization=authorization))
            self.assertEqual('Bearer realm="rapidrtmp"', error.headers["WWW-Authenticate"])

    def test_wrong_secret_is_an_event(self) -> None:
        """A wrong secret is an event, which does not say which."""
        events: list[Any] = []
        record: Any = lambda *event: events.append(event)  # noqa: E731
        access = ApiAccess(ApiSecret(b"s3cret"), HttpPolicy(), self.clock, lambda _: None, record)
        self.assertRaises(UnauthorizedError, access.check, request("192.0.2.1", authorization="Bearer guess"), None)
        self.assertEqual((EventType.AUTH_REFUSED, None, "192.0.2.1"), events[0][:3])
        self.assertNotIn("guess", repr(events))

    def test_wrong_secret_is_not_repeated(self) -> None:
        """A wrong one is called wrong, of whichever user, and is not repeated."""
        self.access = ApiAccess(ApiSecret(b"s3cret"), HttpPolicy(), self.clock, lambda _: LocalPeer(os.geteuid(), HERE))
        for secret in ("", "s3cre", "s3crett", "S3CRET", "caf\u00e9", "\udcff"):
            error = self.refusal(request(authorization=f"Bearer {secret}"))
            self.assertIn("invalid_token", error.headers["WWW-Authenticate"])
            self.assertEqual("the bearer token is wrong", str(error))

    def test_not_yet_known_is_wrong(self) -> None:
        """Before the secret is known nothing is right."""
        self.access = ApiAccess(ApiSecret(), HttpPolicy(), self.clock, lambda _: None)
        self.refusal(request(authorization="Bearer "))

    def test_secret_is_not_kept(self) -> None:
        """Only a digest of the secret is held, so nothing can print it."""
        secret = ApiSecret(b"s3cret")
        self.assertNotIn(b"s3cret", repr(vars(secret)).encode())

    def test_guesses_are_slowed_down(self) -> None:
        """Wrong secrets are slowed down by address, of IPv6 by /64; what is missing altogether is not counted."""
        self.access = ApiAccess(ApiSecret(b"s3cret"), HttpPolicy(max_wrong_secrets=3), self.clock, lambda _: None)
        for _ in range(20):
            self.refusal(request("2001:db8::1"))
        for number in range(3):
            self.refusal(request(f"2001:db8::{number + 1}", authorization="Bearer guess"))
        right = request("2001:db8::9", authorization="Bearer s3cret")
        error = self.assertRaises(TooManyRequestsError, self.access.check, right, None)
        self.assertEqual("20", error.headers["Retry-After"])
        self.access.check(request("2001:db8:0:1::9", authorization="Bearer s3cret"), None)
        self.clock.advance(20)
        self.access.check(right, None)


class RateTests(SynchronousTestCase):
    def test_edge_of_the_rate(self) -> None:
        """One address asks the API as often a minute as it may, and not once more; others and viewers do not mind."""
        server = Server(api_requests_per_minute=6)
        statuses = [server.get("/api/v1/streams").status for _ in range(7)]
        self.assertEqual([200] * 6 + [429], statuses)
        reply = server.get("/api/v1/streams")
        self.assertEqual("10", reply.headers["retry-after"])
        self.assertEqual(401, server.get("/api/v1/streams", peer="192.0.2.1").status)
        self.assertEqual(200, server.get("/health").status)
        server.clock.advance(10)
        self.assertEqual([200, 429], [server.get("/api/v1/streams").status for _ in range(2)])


class AuditTests(SynchronousTestCase):
    def lines(self, *requests: tuple[str, str, bytes, dict[str, str]]) -> list[tuple[str, str]]:
        """The level and the words of each line that tells of a call of the API."""
        server = Server(api_token="s3cret")
        server.live()
        with capturedLogs() as events:
            for method, path, body, headers in requests:
                server.request(method, path, body, **headers)
        return [
            (event["log_level"].name, str(formatEvent(event)))
            for event in events
            if event["log_namespace"] == "rapidrtmp.audit"
        ]

    def test_calls_are_logged_whole(self) -> None:
        """A call is logged with who it was, from where, what was asked and the outcome; one that only reads for us."""
        token = {"Authorization": "Bearer s3cret"}
        lines = self.lines(
            ("POST", "/api/v1/streams/k/stop?x=s3cret", b"{}", {}),
            ("POST", "/api/v1/publish", b'{"streamKey": "s3cret"}', {"peer": "192.0.2.9", **token}),
            ("DELETE", "/api/v1/recordings/live/k/20260101T000000Z", b"", {}),
            ("GET", "/api/v1/streams", b"", {}),
        )
        self.assertEqual(
            [
                ("info", "127.0.0.1 as the server's own user: POST /api/v1/streams/k/stop answered 200"),
                ("info", "192.0.2.9 with the secret: POST /api/v1/publish answered 200"),
                (
                    "info",
                    "127.0.0.1 as the server's own user: DELETE /api/v1/recordings/live/k/20260101T000000Z "
                    "answered 404",
                ),
                ("debug", "127.0.0.1 as the server's own user: GET /api/v1/streams answered 200"),
            ],
            lines,
        )

    def test_others_are_no_calls(self) -> None:
        """What is refused or open is no call of the API."""
        wrong = {"Authorization": "Bearer wrong", "peer": "192.0.2.9"}
        self.assertEqual(
            [],
            self.lines(
                ("POST", "/api/v1/publish", b"{}", wrong), ("GET", "/live/k", b"", {}), ("GET", "/health", b"", {})
            ),
        )
