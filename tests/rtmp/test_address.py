from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.names import BadNameError
from rapidrtmp.rtmp.address import app_path, parse_address, tc_url_host
from tests.slow import slow


class SpellingTests(SynchronousTestCase):
    """The same stream as different clients spell it."""

    def assert_address(self, sent: tuple[str, str, str], app: str, name: str, /, **parameters: str) -> None:
        address = parse_address(*sent)
        self.assertEqual((app, name, parameters), (address.app, address.key, address.parameters))

    def test_ffmpeg_leaves_the_query(self) -> None:
        """FFmpeg leaves the query on the stream name."""
        sent = ("live", "rtmp://h:1935/live", "k?token=x")
        self.assert_address(sent, "live", "k", token="x")

    def test_deep_ffmpeg_path_is_two_segments(self) -> None:
        """Of a longer path FFmpeg makes an application of two segments."""
        self.assert_address(("a/b", "rtmp://h/a/b", "k"), "a/b", "k")

    def test_one_segment_is_an_application(self) -> None:
        """A one-segment URL arrives as an application without a stream name (FFmpeg, GoPro)."""
        sent = ("k?token=x", "rtmp://h/k?token=x", "")
        self.assert_address(sent, "live", "k", token="x")
        self.assertEqual("studio", parse_address(*sent, default_app="studio").app)

    def test_obs_sends_two_boxes(self) -> None:
        """OBS sends its two boxes as they are, the server's with its query."""
        self.assert_address(("live", "rtmp://h/live", "k?token=x"), "live", "k", token="x")
        self.assert_address(("live?token=x", "rtmp://h/live?token=x", "k"), "live", "k", token="x")
        self.assert_address(("live/k?token=x", "rtmp://h/live/k?token=x", ""), "live", "k", token="x")
        self.assert_address(("", "rtmp://h", "k?token=x"), "live", "k", token="x")

    def test_obs_multitrack_adds_to_query(self) -> None:
        """OBS with multitrack adds to the key's query, or has the query for a name."""
        sent = ("live", "rtmp://h/live", "k?clientConfigId=7")
        self.assert_address(sent, "live", "k", clientConfigId="7")
        self.assert_address(("live/k", "rtmp://h/live/k", "?key=v"), "live", "k", key="v")

    def test_flash_media_live_encoder(self) -> None:
        """FMLE names the default instance, and the container of what it sends."""
        for name in ("k", "mp4:k", "flv:k", "mp3:k", "/k", "/flv:k"):
            self.assert_address(("live/_definst_", "rtmp://h/live/_definst_", name), "live", "k")
        self.assert_address(("live/_definst_?a=1", "", "flv:k?b=2"), "live", "k", a="1", b="2")

    def test_only_one_prefix(self) -> None:
        """One prefix is no part of the name, a second one is, and so is one inside."""
        self.assert_address(("live", "", "mp4:flv:k"), "live", "flv:k")
        self.assert_address(("live", "", "amp4:k"), "live", "amp4:k")

    def test_slashes_do_not_count(self) -> None:
        """Slashes around an application do not count."""
        self.assert_address(("/live/", "", "/k"), "live", "k")
        self.assert_address(("//live//k//", "", ""), "live", "k")

    def test_tc_url_stands_in(self) -> None:
        """Without an application, tcUrl's path is it; some clients quote tcUrl."""
        self.assert_address(("", "rtmp://h:1935/live?token=x", "k"), "live", "k", token="x")
        self.assert_address(("", "'rtmp://h/live", "k"), "live", "k")

    def test_which_query_wins(self) -> None:
        """The stream name's query wins over the application's, and that over tcUrl's."""
        sent = ("live?a=app&b=app", "rtmp://h/live?a=url&b=url&c=url", "k?a=name")
        self.assert_address(sent, "live", "k", a="name", b="app", c="url")

    def test_decoding_is_done_once(self) -> None:
        """Parameters are percent-decoded once, plus signs stay, and names without a value are empty."""
        self.assert_address(("live", "", "k?a=%2541%2F&b=1+2&c&d=x=y&&"), "live", "k", a="%41/", b="1+2", c="", d="x=y")

    def test_second_question_mark(self) -> None:
        """Only the first question mark begins the query."""
        self.assert_address(("live", "", "k?a=b?c"), "live", "k", a="b?c")


class RefusalTests(SynchronousTestCase):
    """Names that cannot be meant well."""

    def test_unusable_addresses_are_refused(self) -> None:
        """No name, control characters, backslashes and parent directories are refused, and nothing is quoted."""
        for app, tc_url, name in (
            ("", "", ""),
            ("", "rtmp://h/", ""),
            ("", "rtmp://h/", "?token=secret"),
            ("live", "", "k\x00?token=secret"),
            ("live", "", "k\n?token=secret"),
            ("live", "", "..?token=secret"),
            ("live/../other", "", "secret"),
            ("live", "", "a/../secret"),
            ("live", "", "secret\\k"),
            ("li\x7fve", "", "secret"),
            ("live", "", "k?token=secret%00"),
            ("live", "", "k?%0asecret=1"),
        ):
            with self.assertRaises(BadNameError) as caught:
                parse_address(app, tc_url, name)
            self.assertNotIn("secret", str(caught.exception))

    def test_repr_shows_no_secret(self) -> None:
        """A secret does not show when an address is printed."""
        self.assertNotIn("secret", repr(parse_address("live?token=secret", "rtmp://h/?token=secret", "k?token=secret")))

    @slow
    @given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
    def test_arbitrary_text_is_decided(self, app: str, tc_url: str, name: str) -> None:
        """Whatever is sent, it is an address with a name, or refused."""
        try:
            address = parse_address(app, tc_url, name)
        except BadNameError:
            return
        self.assertTrue(address.app and address.key)
        tc_url_host(tc_url)


class HintTests(SynchronousTestCase):
    """What is shown of a client's URL."""

    def test_host_without_port_and_path(self) -> None:
        """The host comes without port, credentials and path; without a URL it is empty."""
        for tc_url, host in (
            ("rtmp://media.example.org:1935/live?token=x", "media.example.org"),
            ("rtmps://user:secret@h/live", "h"),
            ("rtmp://[2001:db8::1]:1935/live", "2001:db8::1"),
            ("rtmp://[::1/live", ""),
            ("'rtmp://h/live'", "h"),
            ("live", ""),
            ("", ""),
        ):
            self.assertEqual(host, tc_url_host(tc_url), tc_url)

    def test_app_path_without_query(self) -> None:
        """The application comes without slashes and without the query that may hold a secret."""
        for app, tc_url, path in (
            ("live?token=secret", "", "live"),
            ("/a/b/_definst_/", "", "a/b"),
            ("", "rtmp://h/live?token=secret", "live"),
            ("", "", ""),
        ):
            self.assertEqual(path, app_path(app, tc_url))
