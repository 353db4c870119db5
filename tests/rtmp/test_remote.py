"""Where relays lead, and how that is shown."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.rtmp.remote import BadAddressError, mask_key, mask_url, parse_address, redirected
from rapidrtmp.support.secret import Secret


class AddressTests(SynchronousTestCase):
    def test_url_and_key_are_two(self) -> None:
        """All of the URL's path is the application, the key is what is published, each with its query."""
        address = parse_address("rtmps://live-api-s.facebook.com:443/rtmp/", "FB-1-x?s_bl=1&s_ps=1")
        self.assertEqual(("rtmp", "FB-1-x?s_bl=1&s_ps=1", 443), (address.app, address.name, address.port))
        self.assertEqual("rtmps://live-api-s.facebook.com/rtmp", address.tc_url)

    def test_key_stands_behind_last_slash(self) -> None:
        """Of a single URL the key is what follows the last slash, with the query."""
        address = parse_address("rtmp://host/app/room/KEY?token=s")
        self.assertEqual(("app/room", "KEY?token=s", 1935), (address.app, address.name, address.port))

    def test_name_takes_its_place(self) -> None:
        """The stream's name stands where the URL or the key says so."""
        self.assertEqual("cam", parse_address("rtmp://h/a", "{key}", "cam").name)
        self.assertEqual("cam", parse_address("rtmp://h/{key}/x", "k", "cam").app.partition("/")[0])
        self.assertEqual("pre-cam", parse_address("rtmp://h/a/pre-{key}", "", "cam").name)

    def test_ports_are_usual_ones(self) -> None:
        """RTMP has port 1935, RTMPS 443; an IPv6 address keeps its brackets in URLs."""
        self.assertEqual(443, parse_address("RTMPS://h/a/k").port)
        address = parse_address("rtmp://[::1]:19350/a", "k")
        self.assertEqual(("::1", 19350, "rtmp://[::1]:19350/a"), (address.host, address.port, address.tc_url))

    def test_nonsense_is_refused_unquoted(self) -> None:
        """What leads nowhere is refused, and not repeated: it may hold a secret."""
        for url, key in (
            ("http://h/a", "k"),
            ("rtmp://", "secret-key"),
            ("rtmp://h/a b", "secret-key"),
            ("rtmp://h", "secret-key"),
            ("rtmp://h/secret-key", ""),
            ("rtmp://h/a", "?secret-key"),
            ("rtmp://user:secret-key@/a", "k"),
            ("rtmp://h:secret-key/a", "k"),
            ("rtmp://[h/a", "k"),
        ):
            error = self.assertRaises(BadAddressError, parse_address, url, key)
            self.assertNotIn("secret-key", str(error))

    def test_keys_are_masked_everywhere(self) -> None:
        """Of a long key the last four characters are shown, of a short one none, of a URL no query and no key."""
        self.assertEqual("****6789", mask_key("abcd-0123456789"))
        self.assertEqual("****", mask_key("12345678901"))
        self.assertEqual("****9012", mask_key(Secret("123456789012")))
        self.assertEqual("rtmp://h/a?****", mask_url("rtmp://h/a?token=s", has_key=False))
        self.assertEqual("rtmp://h/a/****", mask_url("rtmp://h/a/KEY?x=1", has_key=True))
        self.assertEqual("rtmp://****@h/a/****", mask_url("rtmp://u:p@ss@h/a/KEY", has_key=True))
        self.assertNotIn("s3cret", repr(parse_address("rtmp://s3cret:s3cret@h/a", "k")))
        self.assertNotIn("s3cret", parse_address("rtmp://s3cret:s3cret@h/a", "k").tc_url)
        self.assertNotIn("s3cret", repr(parse_address("rtmp://h/a?t=s3cret", "s3cret")))
        self.assertEqual("rtmp://h/a", parse_address("rtmp://h/a?t=s3cret", "s3cret").shown)

    def test_user_stands_in_front(self) -> None:
        """A user and a password stand in front of the host, quoted as in every URL, and are not said in connect."""
        address = parse_address("rtmp://me%40x:p%3Aw@host/live", "k")
        self.assertEqual(("me@x", "p:w", "rtmp://host/live"), (address.user, address.password, address.tc_url))
        self.assertEqual("p:w", redirected(address, "/other").password)
        self.assertEqual("", redirected(address, "rtmp://elsewhere/live").password)


class RedirectTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.address = parse_address("rtmps://one/live?token=s", "k?auth=s")

    def test_redirect_within_a_host(self) -> None:
        """On the same host what was said is said again."""
        self.assertEqual("k?auth=s", redirected(self.address, "rtmps://one/other").name)
        self.assertEqual("k?auth=s", redirected(self.address, "rtmps://one/other/k").name)
        self.assertEqual("other", redirected(self.address, "/other").app)
        self.assertEqual(self.address, redirected(self.address, ""))

    def test_credentials_stay_at_their_host(self) -> None:
        """Another host gets the name, and no query but what the redirect itself has."""
        found = redirected(self.address, "rtmps://two/live/k")
        self.assertEqual(("two", "live", "k"), (found.host, found.app, found.name))
        found = redirected(self.address, "rtmps://two/live")
        self.assertEqual(("two", "live", "k"), (found.host, found.app, found.name))
        self.assertEqual("k?new=1", redirected(self.address, "rtmps://two/live/k?new=1").name)

    def test_tls_is_never_left(self) -> None:
        """From TLS no redirect leads to a connection without; the other way it may."""
        self.assertRaises(BadAddressError, redirected, self.address, "rtmp://one/live/k")
        self.assertRaises(BadAddressError, redirected, self.address, "http://one/live/k")
        plain = parse_address("rtmp://one/live", "k")
        self.assertTrue(redirected(plain, "rtmps://one/live/k").is_encrypted)
