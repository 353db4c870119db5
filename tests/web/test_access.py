from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.web.access import UNIX_PEER, Gate, TrustedProxies, host_name
from rapidrtmp.web.errors import ForbiddenError, HttpError, UnauthorizedError
from rapidrtmp.web.exchange import Request


def request(peer: str = "127.0.0.1", proxies: TrustedProxies | None = None, **headers: str) -> Request:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    client = (proxies or TrustedProxies(())).client(peer, fields.get("x-forwarded-for", ""))
    return Request("POST", "", fields, peer, client)


class TrustedProxiesTests(SynchronousTestCase):
    def test_client(self) -> None:
        """The client is the last address that no trusted proxy has; nobody else's word is taken."""
        cases = (
            ((), "10.0.0.1", "203.0.113.5", "10.0.0.1"),
            (("10.0.0.1",), "10.0.0.1", "203.0.113.5", "203.0.113.5"),
            (("10.0.0.0/8",), "10.1.2.3", "203.0.113.5", "203.0.113.5"),
            (("10.0.0.0/8",), "10.1.2.3", "1.1.1.1, 203.0.113.5, 10.9.9.9", "203.0.113.5"),
            (("10.0.0.0/8",), "10.1.2.3", "", "10.1.2.3"),
            (("10.0.0.0/8",), "10.1.2.3", "rubbish", "10.1.2.3"),
            (("10.0.0.0/8",), "10.1.2.3", "1.1.1.1, rubbish", "10.1.2.3"),
            (("10.0.0.0/8",), "192.0.2.1", "1.1.1.1", "192.0.2.1"),
            (("::1",), "::1", "2001:db8::7", "2001:db8::7"),
            (("127.0.0.1",), "::ffff:127.0.0.1", "203.0.113.5", "203.0.113.5"),
            ((UNIX_PEER,), UNIX_PEER, "203.0.113.5", "203.0.113.5"),
            ((), UNIX_PEER, "203.0.113.5", UNIX_PEER),
        )
        for trusted, peer, forwarded, expected in cases:
            self.assertEqual(expected, TrustedProxies(trusted).client(peer, forwarded), (trusted, peer, forwarded))

    def test_bad_proxy(self) -> None:
        """A proxy that is no address stops the start with its name."""
        error = self.assertRaises(ConfigurationError, TrustedProxies, ["the-proxy"])
        self.assertIn("'the-proxy'", str(error))


class HostNameTests(SynchronousTestCase):
    def test_names(self) -> None:
        """A host field gives its name without the port, and nothing if it is no host."""
        cases = (
            ("localhost", "localhost"),
            ("media.example.com:8080", "media.example.com"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("[::1]:8080", "[::1]"),
            ("", ""),
            ("a b", ""),
            ("evil/path", ""),
            ("user@host", ""),
            ("host\r\nX: y", ""),
            ("host:port", ""),
        )
        for field, expected in cases:
            self.assertEqual(expected, host_name(field), field)


class LocalGateTests(SynchronousTestCase):
    """Without a token the gate admits this machine only."""

    def passes(self, asked: Request, proxies: TrustedProxies | None = None) -> bool:
        try:
            Gate(None, proxies or TrustedProxies(())).check(asked)
        except ForbiddenError:
            return False
        return True

    def test_this_machine(self) -> None:
        """A program on this machine may pass, by whichever of its names."""
        for peer in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
            self.assertTrue(self.passes(request(peer)), peer)
        for host in ("localhost", "localhost:8080", "LOCALHOST", "127.0.0.1:1", "[::1]:8080", "api.localhost"):
            self.assertTrue(self.passes(request(host=host)), host)

    def test_elsewhere(self) -> None:
        """Other machines may not pass, whatever they say of themselves."""
        for peer in ("192.0.2.1", "10.0.0.1", "2001:db8::1", UNIX_PEER, ""):
            self.assertFalse(self.passes(request(peer)), peer)
        self.assertFalse(self.passes(request("192.0.2.1", x_forwarded_for="127.0.0.1")))

    def test_behind_a_proxy_on_this_machine(self) -> None:
        """What comes through a proxy that nobody vouched for is not local, though the proxy is."""
        for name in ("x_forwarded_for", "forwarded", "x_real_ip", "via"):
            self.assertFalse(self.passes(request("127.0.0.1", **{name: "127.0.0.1"})), name)

    def test_behind_a_trusted_proxy(self) -> None:
        """Through a trusted proxy the client counts, and only if the proxy names it."""
        proxies = TrustedProxies(["127.0.0.1"])
        self.assertFalse(self.passes(request("127.0.0.1", proxies, x_forwarded_for="203.0.113.5"), proxies))
        self.assertTrue(self.passes(request("127.0.0.1", proxies, x_forwarded_for="127.0.0.2"), proxies))
        self.assertTrue(self.passes(request("127.0.0.1", proxies), proxies))
        self.assertFalse(self.passes(request("127.0.0.1", proxies, via="1.1 proxy"), proxies))

    def test_rebound_names(self) -> None:
        """A page whose own name was made to mean this machine may not pass."""
        for host in ("evil.example", "evil.example:8080", "localhost.evil.example", "192.0.2.1", "not a host"):
            self.assertFalse(self.passes(request(host=host)), host)

    def test_pages_from_elsewhere(self) -> None:
        """A browser may send only what a page of this very server asks for."""
        for origin in ("https://evil.example", "http://localhost:3000", "null", "http://localhost:8080.evil.example"):
            self.assertFalse(self.passes(request(host="localhost:8080", origin=origin)), origin)
        for site in ("cross-site", "same-site"):
            self.assertFalse(self.passes(request(host="localhost:8080", sec_fetch_site=site)), site)
        self.assertTrue(
            self.passes(request(host="localhost:8080", origin="http://localhost:8080", sec_fetch_site="same-origin"))
        )
        self.assertTrue(self.passes(request(host="localhost:8080", sec_fetch_site="none")))


class TokenGateTests(SynchronousTestCase):
    """With a token the gate admits whoever brings it."""

    gate = Gate("s3cret", TrustedProxies(()))

    def refusal(self, asked: Request) -> HttpError:
        return self.assertRaises(UnauthorizedError, self.gate.check, asked)

    def test_right_token(self) -> None:
        """The right token passes from anywhere, also from a page of another origin."""
        for scheme in ("Bearer", "bearer", "BEARER"):
            self.gate.check(request("192.0.2.1", authorization=f"{scheme} s3cret"))
        self.gate.check(request("192.0.2.1", authorization="Bearer s3cret", origin="https://admin.example"))

    def test_no_token(self) -> None:
        """Without a token not even this machine passes, and it is told what is wanted."""
        for authorization in ("", "Basic czNjcmV0", "s3cret"):
            error = self.refusal(request(authorization=authorization))
            self.assertEqual('Bearer realm="rapidrtmp"', error.headers["WWW-Authenticate"])

    def test_wrong_token(self) -> None:
        """A wrong token is called wrong, and is not repeated."""
        for token in ("", "s3cre", "s3crett", "S3CRET", "caf\u00e9"):
            error = self.refusal(request(authorization=f"Bearer {token}"))
            self.assertIn("invalid_token", error.headers["WWW-Authenticate"])
            self.assertEqual("the bearer token is wrong", str(error))

    def test_secret_is_not_kept(self) -> None:
        """The gate holds no copy of the secret that a dump of it would show."""
        self.assertNotIn("s3cret", repr(vars(self.gate)))
