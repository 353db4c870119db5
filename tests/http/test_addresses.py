from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.http.addresses import UNIX_PEER, TrustedProxies, forwarded_hops, host_name


class TrustedProxiesTests(SynchronousTestCase):
    def test_client_behind_trusted_proxies(self) -> None:
        """The client is the last address that no trusted proxy has; no one else's word is taken."""
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

    def test_ports_and_brackets(self) -> None:
        """An address that a proxy wrote in brackets, in quotes or with a port is the same address."""
        cases = (
            ("203.0.113.5:5678", "203.0.113.5"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ('"[2001:db8::1]:443"', "2001:db8::1"),
            (" 1.1.1.1:1 , 203.0.113.5:5678 , 10.9.9.9:80", "203.0.113.5"),
            ("[::ffff:203.0.113.5]:1", "203.0.113.5"),
            ("2001:db8::1", "2001:db8::1"),
            ("203.0.113.5:", "10.1.2.3"),
            ("203.0.113.5:x", "10.1.2.3"),
            ("[203.0.113.5:1", "10.1.2.3"),
            ("host:80", "10.1.2.3"),
            ("unknown", "10.1.2.3"),
        )
        for forwarded, expected in cases:
            self.assertEqual(expected, TrustedProxies(["10.0.0.0/8"]).client("10.1.2.3", forwarded), forwarded)

    def test_forwarded_field_is_read(self) -> None:
        """The standard field is read as well, where the usual one is not there."""
        cases = (
            ("", "for=203.0.113.5", "203.0.113.5"),
            ("", 'For="203.0.113.5:5678";proto=https;by=10.0.0.1', "203.0.113.5"),
            ("", 'proto=http; for="[2001:db8::1]:443" ; by=x', "2001:db8::1"),
            ("", "for=1.1.1.1, for=203.0.113.5;proto=http, for=10.9.9.9", "203.0.113.5"),
            ("", "for=203.0.113.5, proto=http", "10.1.2.3"),
            ("", "for=203.0.113.5, for=unknown", "10.1.2.3"),
            ("", "for=203.0.113.5, for=_hidden", "10.1.2.3"),
            ("", 'for="1.1.1.1, for=203.0.113.5', "203.0.113.5"),
            ("", 'x="for=1.1.1.1";for=203.0.113.5', "203.0.113.5"),
            ("", "", "10.1.2.3"),
            ("203.0.113.5", "for=1.1.1.1", "203.0.113.5"),
        )
        proxies = TrustedProxies(["10.0.0.0/8"])
        for forwarded_for, forwarded, expected in cases:
            found = proxies.client("10.1.2.3", forwarded_hops(forwarded_for, forwarded))
            self.assertEqual(expected, found, (forwarded_for, forwarded))

    def test_bad_proxy_stops_the_start(self) -> None:
        """A proxy that is no address stops the start with its name."""
        error = self.assertRaises(ConfigurationError, TrustedProxies, ["the-proxy"])
        self.assertIn("'the-proxy'", str(error))


class HostNameTests(SynchronousTestCase):
    def test_names_without_the_port(self) -> None:
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
