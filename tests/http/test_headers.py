from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.http.errors import RangeNotSatisfiableError
from rapidrtmp.http.headers import accepts_gzip, etag_matches, parse_range

#: Of an object of 10 bytes.
RANGES = (
    ("", None),
    ("bytes=0-", (0, 10)),
    ("bytes=0-0", (0, 1)),
    ("bytes=0-9", (0, 10)),
    ("bytes=3-5", (3, 6)),
    ("bytes=9-", (9, 10)),
    ("bytes=5-9007199254740991", (5, 10)),
    ("bytes=-1", (9, 10)),
    ("bytes=-10", (0, 10)),
    ("bytes=-99", (0, 10)),
    ("BYTES=1-2", (1, 3)),
    ("bytes= 1-2 ", (1, 3)),
    ("bytes=1-2,4-5", None),
    ("bytes=5-4", None),
    ("bytes=-", None),
    ("bytes=", None),
    ("bytes=a-b", None),
    ("bytes=1", None),
    ("bytes=+1-2", None),
    ("items=0-1", None),
    ("bytes=\u0661-\u0662", None),
    ("bytes=" + "1" * 21 + "-", None),
)


class HeadersTests(SynchronousTestCase):
    def test_ranges_are_clipped_or_whole(self) -> None:
        """One range of bytes is honoured, clipped to the object; anything else means the whole."""
        for value, expected in RANGES:
            self.assertEqual(expected, parse_range(value, 10), value)

    def test_unsatisfiable_range_is_refused(self) -> None:
        """A range none of whose bytes exists is refused with the size of the object."""
        for value, size in (("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-5", 0)):
            error = self.assertRaises(RangeNotSatisfiableError, parse_range, value, size)
            self.assertEqual(f"bytes */{size}", error.headers["Content-Range"])

    @given(st.text(alphabet="bytes=0123456789-, ", max_size=30), st.integers(0, 20))
    def test_any_range_lies_within(self, value: str, size: int) -> None:
        """Whatever a client sends, the range lies within the object and is not empty."""
        try:
            span = parse_range(value, size)
        except RangeNotSatisfiableError:
            return
        if span is not None:
            start, stop = span
            self.assertTrue(0 <= start < stop <= size)

    def test_etags_match_in_lists(self) -> None:
        """An entity tag matches itself in any list, weak or strong, and a star matches all."""
        for value in ('"a"', 'W/"a"', '"b", "a"', '"b",W/"a"', "*"):
            self.assertTrue(etag_matches(value, '"a"'), value)
        for value in ("", '"b"', "a", '"a-gzip"'):
            self.assertFalse(etag_matches(value, '"a"'), value)

    def test_gzip_by_its_weight(self) -> None:
        """Gzip is sent to those who name it, or a star, and do not give it the weight of nothing."""
        for value in (
            "gzip",
            "gzip, deflate, br",
            "br;q=1.0, gzip;q=0.1",
            "GZIP",
            "*",
            "deflate, x-gzip",
            "gzip ; q=1",
        ):
            self.assertTrue(accepts_gzip(value), value)
        for value in ("", "br", "identity", "gzip;q=0", "gzip;q=0.000, *", "*;q=0", "gzip;q=x", "gzipped"):
            self.assertFalse(accepts_gzip(value), value)
