from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.names import RESERVED_APPS
from rapidrtmp.web.fast_path.request_line import NotPlainError, Target, read_fields, read_line


class LineTests(SynchronousTestCase):
    def test_target_is_read_from_the_line(self) -> None:
        """A request line is read into what it asks for, the query as it is."""
        self.assertEqual(Target("live", "k", "", "index.m3u8", ""), read_line(b"GET /live/k/index.m3u8 HTTP/1.1"))
        self.assertEqual(
            Target("live", "k", "t0k.en", "audio-1/part_9.0.m4s", ""),
            read_line(b"GET /live/k/~t0k.en/audio-1/part_9.0.m4s HTTP/1.1"),
        )
        self.assertEqual(
            Target("live", "audio-1", "", "video-0", "x=1"), read_line(b"GET /live/audio-1/video-0?x=1 HTTP/1.1")
        )
        self.assertEqual(
            Target("a-b", "~k_1", "", "p.0.m4s", "_HLS_msn=1&x=%20"),
            read_line(b"GET /a-b/~k_1/p.0.m4s?_HLS_msn=1&x=%20 HTTP/1.1"),
        )

    def test_ambiguous_lines_are_not_read(self) -> None:
        """A line that could be read in two ways, or needs more than reading, is not read."""
        for line in (
            b"GET /live/k/a b HTTP/1.1",
            b"GET /live/k/a HTTP/1.1\r",
            b"GET /live/k/a HTTP/1.1\n",
            b"GET /live/k/%61 HTTP/1.1",
            b"GET /live/k/.a HTTP/1.1",
            b"GET /live/k HTTP/1.1",
            b"GET /live/k/a HTTP/1.0",
            b"HEAD /live/k/a HTTP/1.1",
            b"GET /live/k/a?" + b"x" * 1024 + b" HTTP/1.1",
            *(b"GET /%s/k/a HTTP/1.1" % app.encode() for app in RESERVED_APPS),
        ):
            self.assertRaises(NotPlainError, read_line, line)


class FieldsTests(SynchronousTestCase):
    def test_values_by_lower_case_name(self) -> None:
        """Fields are found by lower-case name, those that come more than once in one value."""
        self.assertEqual(
            {"host": "a:80", "x": "1, 2", "y": "", "z": "a  b"},
            dict(read_fields(b"Host:a:80\r\nX: 1 \r\nx:2\r\nY:\r\nZ:  a  b  \r\n\r\n")),
        )

    def test_read_blocks_are_remembered(self) -> None:
        """A block that was read is not read again; one that is not plain, which may hold a secret, is forgotten."""
        block = b"Host: a\r\nX-Test: remembered\r\n\r\n"
        self.assertIs(read_fields(block), read_fields(b"" + bytes(bytearray(block))))
        held = read_fields.cache_info().currsize
        self.assertRaises(NotPlainError, read_fields, b"Host: a\r\nCookie: secret\r\n\r\n")
        self.assertEqual(held, read_fields.cache_info().currsize)

    def test_remembered_blocks_are_bounded(self) -> None:
        """However many blocks are sent, no more than so many are remembered."""
        for number in range(3000):
            read_fields(b"Host: a\r\nX: %d\r\n\r\n" % number)
        self.assertLessEqual(read_fields.cache_info().currsize, 1024)
