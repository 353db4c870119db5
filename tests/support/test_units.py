from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.support.units import (
    address_endpoint,
    parse_address,
    parse_duration_ms,
    parse_duration_s,
    parse_size,
    render_duration_ms,
    render_size,
)
from tests.slow import slow


class DurationTests(SynchronousTestCase):
    def test_spellings_of_a_duration(self) -> None:
        """Every usual spelling of a duration is read; a bare number counts seconds."""
        for text, expected_ms in (
            ("2s", 2000),
            ("500ms", 500),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("1h0m0s", 3_600_000),
            ("7d", 604_800_000),
            ("0.333", 333),
            ("1.5s", 1500),
            ("2", 2000),
            ("0", 0),
            ("33.3667ms", 33),
            ("0.5ms", 1),
        ):
            self.assertEqual(expected_ms, parse_duration_ms(text), text)

    def test_refusals_of_a_duration(self) -> None:
        """What is no duration is refused with an example of one."""
        for text in ("", "2x", "-1s", "s", "1 s", "2s!", "1,5s", "٢s", "1e3", "ms"):
            error = self.assertRaises(ConfigurationError, parse_duration_ms, text)
            self.assertIn("500ms", str(error))

    def test_endless_duration_is_refused(self) -> None:
        """A number without end is refused like any other nonsense, whatever its length."""
        for text in ("9" * 26, "9" * 29 + "d", "1d" * 40, "9" * 5000, "-" * 10**6, "3660001d"):
            self.assertRaises(ConfigurationError, parse_duration_ms, text)
            if not text.startswith("0."):
                self.assertRaises(ConfigurationError, parse_size, text)
        self.assertEqual(3_660_000 * 86_400_000, parse_duration_ms("3660000d"))

    def test_whole_seconds_are_required(self) -> None:
        """A setting that counts seconds refuses a fraction rather than rounding it."""
        self.assertEqual(90, parse_duration_s("1m30s"))
        self.assertRaises(ConfigurationError, parse_duration_s, "1500ms")

    @slow
    @given(st.integers(min_value=0, max_value=10**12))
    def test_duration_shown_reads_back(self, milliseconds: int) -> None:
        """A duration that is shown reads back as itself."""
        self.assertEqual(milliseconds, parse_duration_ms(render_duration_ms(milliseconds)))


class SizeTests(SynchronousTestCase):
    def test_spellings_of_a_size(self) -> None:
        """Units are powers of 1024, however they are spelled; a bare number counts bytes."""
        for text, expected in (
            ("64k", 65536),
            ("64K", 65536),
            ("10M", 10485760),
            ("10MB", 10485760),
            ("10MiB", 10485760),
            ("1.5k", 1536),
            ("2G", 2147483648),
            ("1T", 1099511627776),
            ("17", 17),
        ):
            self.assertEqual(expected, parse_size(text), text)

    def test_refusals_of_a_size(self) -> None:
        """What is no whole number of bytes is refused with an example."""
        for text in ("", "M", "-1", "10X", "1.3", "10 M", "1.0001k"):
            error = self.assertRaises(ConfigurationError, parse_size, text)
            self.assertIn("10M", str(error))

    @given(st.integers(min_value=0, max_value=1 << 45))
    def test_size_shown_reads_back(self, size: int) -> None:
        """A size that is shown reads back as itself."""
        self.assertEqual(size, parse_size(render_size(size)))


class AddressTests(SynchronousTestCase):
    def test_spellings_of_an_address(self) -> None:
        """An address has a port, and a host unless it means all interfaces."""
        for text, expected in (
            (":8080", ("", 8080)),
            ("127.0.0.1:80", ("127.0.0.1", 80)),
            ("[::1]:80", ("::1", 80)),
            ("localhost:0", ("localhost", 0)),
        ):
            self.assertEqual(expected, parse_address(text))

    def test_refusals_of_an_address(self) -> None:
        """What is no address is refused with an example."""
        for text in ("", "8080", ":", "host:", ":65536", "::1:80", "http://h:80", "h:80/x", ":８０"):
            error = self.assertRaises(ConfigurationError, parse_address, text)
            self.assertIn(":8080", str(error))

    def test_endpoint_listens_there(self) -> None:
        """The endpoint made of an address listens on that port of that interface."""
        for text, interface in ((":8080", ""), ("127.0.0.1:8080", "127.0.0.1"), ("[::1]:8080", "::1")):
            reactor = MemoryReactorClock()
            self.successResultOf(serverFromString(reactor, address_endpoint(text)).listen(Factory()))
            self.assertEqual((8080, interface), (reactor.tcpServers[0][0], reactor.tcpServers[0][3]))
