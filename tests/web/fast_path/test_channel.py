import re
from collections.abc import Iterable
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as real_reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from rapidrtmp.live.stream import LiveStream
from rapidrtmp.web.fast_path import channel
from rapidrtmp.web.fast_path.channel import FastPathChannel
from rapidrtmp.web.fast_path.sending import PIECE_BYTES
from rapidrtmp.web.site import BoundedChannel
from tests.slow import slow
from tests.web.kit import EPOCH_MS, MP4, Server, playlist

SEGMENT = bytes(range(256)) * 40
LARGE = bytes(range(256)) * 2500
LINE = b"GET /live/k/index.m3u8 HTTP/1.1\r\n"
HOST = b"Host: localhost:8080\r\n"
PLAIN = LINE + HOST + b"\r\n"
NAMES = ("index.m3u8", "master.m3u8", "init.mp4", "segment_9.m4s", "part_10.0.m4s", "large.m4s", "text.vtt")
BROWSER = (
    b"Host: example.org\r\nConnection: keep-alive\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36\r\n"
    b"Accept: */*\r\nOrigin: http://other.example\r\nReferer: http://other.example/watch?v=1\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\n\r\n"
)


def line(name: str, query: str = "", path: str = "/live/k/") -> bytes:
    return f"GET {path}{name}{query} HTTP/1.1\r\n".encode()


def fields(*more: bytes) -> bytes:
    return b"".join(each + b"\r\n" for each in (b"Host: localhost:8080", *more)) + b"\r\n"


#: Requests that must go the express way.
EXPRESS = [
    *(line(name) + fields() for name in NAMES),
    *(line(name) + BROWSER for name in NAMES),
    line("index.m3u8", "?_HLS_msn=9") + fields(),
    line("index.m3u8", "?_HLS_msn=10&_HLS_part=1&_HLS_skip=YES") + BROWSER,
    line("index.m3u8", "?_HLS_skip=v2") + fields(b"accept-encoding: GZIP"),
    line("index.m3u8", "?token=secret%20%C3%A9&x") + fields(b"Accept-Encoding: gzip;q=0"),
    line("index.m3u8", "?") + fields(b"ACCEPT-ENCODING:*", b"X:", b"Y:   z   "),
    line("index.m3u8") + fields(b"Accept-Encoding: br", b"Accept-Encoding: gzip"),
    line("index.m3u8") + b"hOsT:a\r\nCONNECTION: Keep-Alive\r\n\r\n",
    line("index.m3u8") + fields(b"X-Forwarded-For: 192.0.2.77, 10.0.0.9", b"User-Agent: p"),
    line("segment_9.m4s") + fields(b"Upgrade-Insecure-Requests: 1", b"X-Method: POST"),
    line("segment_9.m4s") + fields(b'If-None-Match: "x", W/"y"'),
]

#: Requests that go the express way to learn that they have it already.
KNOWN = [
    line("index.m3u8") + fields(b"If-None-Match: *"),
    line("large.m4s") + fields(b"If-None-Match: *"),
    line("index.m3u8", "?_HLS_msn=9") + fields(b"Accept-Encoding: gzip", b"If-None-Match: *"),
]

#: Requests that must not, each for one reason.
OTHERS = [
    # other methods, versions and forms of the request line
    b"get" + PLAIN[3:],
    b"HEAD" + PLAIN[3:],
    b"OPTIONS" + PLAIN[3:],
    b"POST" + PLAIN[3:],
    b"BREW" + PLAIN[3:],
    b"GET  /live/k/index.m3u8 HTTP/1.1\r\n" + fields(),
    b"GET /live/k/index.m3u8  HTTP/1.1\r\n" + fields(),
    b" GET /live/k/index.m3u8 HTTP/1.1\r\n" + fields(),
    b"GET\t/live/k/index.m3u8\tHTTP/1.1\r\n" + fields(),
    b"GET /live/k/index.m3u8 HTTP/1.1 \r\n" + fields(),
    b"GET /live/k/index.m3u8 HTTP/1.0\r\n" + fields(),
    b"GET /live/k/index.m3u8 HTTP/1.2\r\n" + fields(),
    b"GET /live/k/index.m3u8 http/1.1\r\n" + fields(),
    b"GET /live/k/index.m3u8 HTTP/2.0\r\n" + fields(),
    b"GET /live/k/index.m3u8\r\n" + fields(),
    b"GET http://localhost:8080/live/k/index.m3u8 HTTP/1.1\r\n" + fields(),
    b"GET http://elsewhere/live/k/index.m3u8 HTTP/1.1\r\n" + fields(),
    b"GET live/k/index.m3u8 HTTP/1.1\r\n" + fields(),
    b"GET * HTTP/1.1\r\n" + fields(),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    # other paths
    line("index%2em3u8") + fields(),
    line("index.m3u8", path="//live/k/") + fields(),
    line("index.m3u8", path="/live//k/") + fields(),
    line("index.m3u8", path="/live/../live/k/") + fields(),
    line("index.m3u8", path="/live/./") + fields(),
    line("index.m3u8/", path="/live/k/") + fields(),
    line("index.m3u8;a=b") + fields(),
    line("index.m3u8#x") + fields(),
    line("ind\x80ex.m3u8") + fields(),
    line("stop", path="/api/k/") + fields(),
    line("..", path="/live/k/") + fields(),
    line("", path="/live/k") + fields(),
    line("", path="/health") + fields(),
    line("index.m3u8", "?a b") + fields(),
    line("index.m3u8", "?a=<b>") + fields(),
    line("index.m3u8", "?" + "a" * 2000) + fields(),
    line("index.m3u8", "?" + "a" * 20_000) + fields(),
    # what is refused
    line("nothing.m4s") + fields(),
    line("nothing.m3u8") + BROWSER,
    line("index.m3u8", path="/live/missing/") + BROWSER,
    line("index.m3u8", path="/live/" + "n" * 200 + "/") + fields(),
    line("index.m3u8", "?_HLS_part=1") + fields(),
    line("index.m3u8", "?_HLS_msn=99") + BROWSER,
    # bodies, said and unsaid
    LINE + fields(b"Content-Length: 0"),
    LINE + fields(b"Content-Length: 5") + b"hello",
    LINE + fields(b"content-length:5") + PLAIN,
    LINE + fields(b"Content-Length: 5", b"Content-Length: 5") + b"hello",
    LINE + fields(b"Content-Length: 5", b"Content-Length: 6") + b"hello!",
    LINE + fields(b"Content-Length: -1"),
    LINE + fields(b"Content-Length: +5") + b"hello",
    LINE + fields(b"Content-Length: 0x5") + b"hello",
    LINE + fields(b"Content-Length : 5") + b"hello",
    LINE + fields(b"Content-Length\t: 5") + b"hello",
    LINE + fields(b"Content_Length: 5") + PLAIN,
    LINE + fields(b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    LINE + fields(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n" + PLAIN,
    LINE + fields(b"Transfer-Encoding: chunked", b"Content-Length: 4") + b"0\r\n\r\n" + PLAIN,
    LINE + fields(b"Content-Length: 4", b"Transfer-Encoding: chunked") + b"0\r\n\r\n" + PLAIN,
    LINE + fields(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    LINE + fields(b"Transfer-Encoding : chunked") + b"0\r\n\r\n",
    LINE + fields(b"Transfer-Encoding: identity"),
    LINE + fields(b"Transfer-Encoding:\x0bchunked") + b"0\r\n\r\n",
    LINE + fields(b"X: y\r\n Transfer-Encoding: chunked") + b"0\r\n\r\n",
    LINE + fields(b"X: y\nTransfer-Encoding: chunked") + b"0\r\n\r\n" + PLAIN,
    LINE + fields(b"X: y\rTransfer-Encoding: chunked") + b"0\r\n\r\n" + PLAIN,
    PLAIN + b"hello",
    # line ends, white space, and bytes that are not text
    PLAIN.replace(b"\r\n", b"\n"),
    LINE + b"Host: a\n\r\n",
    LINE + b"Host: a\r\n\n" + b"\r\n",
    LINE + b"Host: a\r\r\n\r\n",
    LINE + b"Host: a\r\n\r",
    LINE + b"Host: a\r\n X: folded\r\n\r\n",
    LINE + b"Host: a\r\nX: folded\r\n\t more\r\n\r\n",
    LINE + b" Host: a\r\n\r\n",
    LINE + b"Host : a\r\n\r\n",
    LINE + b"Host\r\n\r\n",
    LINE + b": a\r\nHost: a\r\n\r\n",
    LINE + fields(b"X: tab\there"),
    LINE + fields(b"X:\tafter"),
    LINE + fields(b"X: nul\0"),
    LINE + fields(b"X: \xc3\xa9"),
    LINE + fields(b"X: \x7f"),
    LINE + fields(b"X(y): z"),
    LINE + fields(b"\xc3\xa9: z"),
    # hosts
    LINE + b"\r\n",
    LINE + b"Host:\r\n\r\n",
    LINE + b"Host: a\r\nHost: a\r\n\r\n",
    LINE + b"Host: a\r\nhost: b\r\n\r\n",
    LINE + b"Host: a, b\r\n\r\n",
    LINE + b"Host: a b\r\n\r\n",
    LINE + b"Host: a..b\r\n\r\n",
    LINE + b"Host: [::1]:8080\r\n\r\n",
    LINE + b"Host: " + b"a" * 64 + b"\r\n\r\n",
    LINE + b"Host: a:b\r\n\r\n",
    LINE + b"Host: a/b\r\n\r\n",
    # fields that ask for something else
    LINE + fields(b"Range: bytes=0-3"),
    line("segment_9.m4s") + fields(b"Range: bytes=10-19"),
    line("segment_9.m4s") + fields(b"range: bytes=99999-"),
    line("segment_9.m4s") + fields(b"Range: bytes=10-19", b'If-Range: "x"'),
    LINE + fields(b"If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"),
    LINE + fields(b"Cookie: a=b"),
    LINE + fields(b"Authorization: Bearer x"),
    LINE + fields(b"Expect: 100-continue"),
    LINE + fields(b"Expect: 200-ok"),
    LINE + fields(b"Upgrade: websocket", b"Connection: Upgrade"),
    LINE + fields(b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
    LINE + fields(b"Connection: close"),
    LINE + fields(b"Connection: keep-alive, close"),
    LINE + fields(b"Connection: keep-alive", b"Connection: close"),
    LINE + fields(b"connection: CLOSE"),
    LINE + fields(b"Connection:"),
    LINE + fields(b"TE: trailers"),
    LINE + fields(b"Trailer: X"),
    # too much of it
    LINE + fields(*[b"X: y"] * 101),
    LINE + fields(b"X: " + b"y" * 5000),
    LINE + fields(b"X: " + b"y" * 17_000),
    # several, and crumbs between them
    PLAIN + PLAIN,
    PLAIN + PLAIN + PLAIN[:20],
    PLAIN + b"\r\n",
    b"\r\n" + PLAIN,
    b"\r\n\r\n" + PLAIN,
    b"\r\n",
    b"",
]


class Recorder:
    """A server whose channels note which of what they received went the express way, or one that has no such way."""

    def __init__(self, *, express: bool, **policy: Any) -> None:
        self.server = Server(early_hold_ms=3000, **policy)
        self.express: list[bool] = []
        site = self.server.site
        lane, self.abuse = site._make_channel.args
        self.tally = lane.tally
        noted = self.express

        class Noting(FastPathChannel):
            def _goes_express(self, data: bytes) -> bool:
                noted.append(super()._goes_express(data))
                return noted[-1]

        site._make_channel = partial(*((Noting, lane) if express else (BoundedChannel,)), self.abuse)
        self.stream: LiveStream = self.server.live()
        shelf = self.stream.shelf
        shelf.put_playlist("index.m3u8", playlist(9, 2, delta=b"#EXTM3U delta\n"))
        shelf.put("master.m3u8", [b"#EXTM3U master\n"], "application/vnd.apple.mpegurl", "public, max-age=2")
        shelf.put("init.mp4", [b"init"], MP4)
        shelf.put("segment_9.m4s", [SEGMENT[:40], SEGMENT[40:]], MP4)
        shelf.put("part_10.0.m4s", [SEGMENT], MP4)
        shelf.put("large.m4s", [LARGE], MP4)
        shelf.put("text.vtt", [b"WEBVTT\n"], "text/vtt")
        self.open()

    def open(self, transport: StringTransport | None = None) -> None:
        address = IPv4Address("TCP", "10.0.0.9", 50_000)
        self.transport = transport or StringTransport(peerAddress=address)
        self.protocol = self.server.site.buildProtocol(address)
        self.protocol.makeConnection(self.transport)

    def send(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            if not self.transport.disconnecting:
                self.protocol.dataReceived(piece)
                self.server.clock.advance(0)  # what has arrived behind another request has its turn

    def leave(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionError("the client left")))

    @property
    def stalled(self) -> float:
        """How many connections were closed because their client stopped reading."""
        return self.server.metric("http_misconduct_total", kind="stalled")

    def seen(self) -> tuple[object, ...]:
        """All that shows of what happened."""
        sent = re.sub(rb"\r\nDate: [^\r]*", b"\r\nDate: now", self.transport.value())
        return (
            sent,
            self.transport.disconnecting,
            dict(self.tally.requests),
            +self.tally.sent_bytes,
            self.tally.held,
            +self.abuse.counts,
            self.stream.shelf.waiting,
            self.stream.viewers.count(int(self.server.clock.seconds() * 1000)),
            len(self.server.clock.getDelayedCalls()),
        )


class TwoWays(SynchronousTestCase):
    """The same bytes to two servers, of which one has no express way."""

    def setUp(self) -> None:
        self.maxDiff = 2000
        self.ways = self.make()
        self.fast, self.slow = self.ways

    def make(self, **policy: Any) -> tuple[Recorder, Recorder]:
        return Recorder(express=True, **policy), Recorder(express=False, **policy)

    def send(self, *pieces: bytes) -> None:
        for way in self.ways:
            way.send(pieces)

    def each(self, what: str, *arguments: Any) -> None:
        for way in self.ways:
            getattr(way.stream.shelf, what)(*arguments)

    def advance(self, seconds: float) -> None:
        for way in self.ways:
            way.server.clock.advance(seconds)

    def reopen(self) -> None:
        for way in self.ways:
            way.leave()
            way.open()

    def assert_same(self, what: object = None) -> bytes:
        self.assertEqual(self.slow.seen(), self.fast.seen(), what)
        return self.fast.transport.value()


class SameAnswersTests(TwoWays):
    def test_players_take_the_express_way(self) -> None:
        """What players ask takes the express way, and is answered with the bytes of the other way."""
        for request in EXPRESS:
            self.send(request)
            sent = self.assert_same(request)
            self.assertIn(b"HTTP/1.1 200 OK\r\nServer: RapidRTMP\r\nDate: ", sent, request)
            self.assertTrue(self.fast.express.pop(), request)

    def test_known_version_on_both_ways(self) -> None:
        """A browser that asks whether what it has is the newest gets its answer on both ways."""
        for request in KNOWN:
            self.reopen()
            self.send(request, PLAIN)
            self.assertIn(b"HTTP/1.1 304 Not Modified\r\n", self.assert_same(request))
        self.assertEqual([True] * 2 * len(KNOWN), self.fast.express)

    def test_others_go_the_other_way(self) -> None:
        """What is not plain, or not alone, goes the other way, and the connection is left in the same state."""
        for request in OTHERS:
            self.reopen()
            self.send(request)
            self.assert_same(request)
            self.assertNotIn(True, self.fast.express[:1], request)
            self.send(PLAIN)
            self.assert_same(request)
            self.fast.express.clear()

    def test_byte_by_byte(self) -> None:
        """However a request is cut, its answer is the same; cut ones go the other way."""
        for request in (*EXPRESS[:3], *(each for each in OTHERS if len(each) < 200)):
            self.reopen()
            self.send(*(request[at : at + 1] for at in range(len(request))))
            self.assert_same(request)
            self.assertNotIn(True, self.fast.express)

    def test_split_in_two(self) -> None:
        """So it is wherever one cut is, with the next request behind it."""
        request = line("index.m3u8", "?_HLS_msn=9") + fields(b"Accept-Encoding: gzip")
        for at in range(len(request) + 1):
            self.reopen()
            self.send(request[:at], request[at:] + PLAIN[:30], PLAIN[30:], PLAIN)
            self.assert_same(at)

    @slow
    def test_behind_each_other(self) -> None:
        """A request behind another in one read waits for its turn, whatever they are."""
        for first in (*EXPRESS[:4], *OTHERS):
            for second in (PLAIN, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", b"\r\n"):
                self.reopen()
                self.send(first + second, PLAIN, b"\r\n" + PLAIN, b"\r\n")
                self.assert_same((first, second))

    def test_crumbs_are_forgiven_once(self) -> None:
        """An empty line before a request is forgiven once, on both ways, also between requests of either."""
        for pieces in (
            (b"\r\n", PLAIN, b"\r\n", PLAIN),
            (PLAIN, b"\r\n\r\n", PLAIN),
            (PLAIN + b"\r\n", PLAIN, b"\r\n"),
        ):
            self.reopen()
            self.send(*pieces)
            self.assert_same(pieces)

    @slow
    @given(st.data())
    def test_mutated_requests_are_answered_alike(self, data: st.DataObject) -> None:
        """A request with anything in it changed is answered the same, and so is the next one."""
        request = bytearray(data.draw(st.sampled_from(EXPRESS)))
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(request)))
            end = data.draw(st.integers(at, min(len(request), at + 3)))
            odd = st.sampled_from([b"", b" ", b"\t", b"\r", b"\n", b"\r\n", b":", b"\0", b"\x0b", b"/", b"?", b"\xff"])
            request[at:end] = data.draw(odd | st.binary(max_size=3))
        self.reopen()
        self.send(bytes(request), PLAIN)
        self.assert_same(bytes(request))

    def test_proxies_pass_on_addresses(self) -> None:
        """Behind a trusted proxy viewers are distinguished by the address it passes on."""
        self.ways = self.fast, self.slow = self.make(trusted_proxies=("10.0.0.0/8",))
        for number in range(5):
            self.send(line("segment_9.m4s") + fields(b"X-Forwarded-For: 192.0.2.%d" % number))
            self.assert_same()
        self.assertEqual([True] * 5, self.fast.express)
        self.assertEqual(5, self.fast.stream.viewers.count(1_000_000))

    def test_viewer_limit_on_both_ways(self) -> None:
        """A stream that has all its viewers refuses one more on both ways."""
        self.ways = self.fast, self.slow = self.make(max_viewers=1)
        for agent in (b"one", b"two", b"one"):
            self.send(LINE + fields(b"User-Agent: " + agent))
            self.assert_same(agent)
        self.assertEqual([True, False, True], self.fast.express)

    @slow
    def test_ended_stream_is_answered_alike(self) -> None:
        """A stream that has ended is answered alike."""
        for way in self.ways:
            way.server.registry.end(way.stream, "the test")
        for request in (PLAIN, line("index.m3u8", "?_HLS_msn=50") + BROWSER, line("none.m4s") + BROWSER):
            self.send(request)
            self.assert_same(request)

    def test_prepared_answer_is_for_its_version(self) -> None:
        """An answer that was prepared is never sent for another version."""
        for last in range(10, 13):
            self.each("put_playlist", "index.m3u8", playlist(last))
            self.send(LINE + BROWSER)
            self.send(PLAIN)
            self.assertIn(b"# %d.0" % last, self.assert_same())

    def test_date_is_that_of_sending(self) -> None:
        """The date is that of the second in which the answer is sent."""
        now = [EPOCH_MS // 1000]
        self.patch(__import__("time"), "time", lambda: float(now[0]))
        for day in (b"Tue, 14 Nov", b"Wed, 15 Nov"):
            self.fast.transport.clear()
            self.patch(channel, "datetimeToString", lambda day=day: day)
            self.fast.send([PLAIN])
            self.assertIn(b"\r\nDate: %s\r\n" % day, self.fast.transport.value())
            now[0] += 86_400


class HeldTests(TwoWays):
    AHEAD = line("index.m3u8", "?_HLS_msn=10&_HLS_part=2") + BROWSER

    def hold(self, request: bytes = AHEAD) -> None:
        self.send(request)
        self.assertEqual(b"", self.assert_same())
        self.assertEqual([True], self.fast.express)
        self.assertEqual(1, self.fast.tally.held)

    def test_part_wakes_the_reload(self) -> None:
        """A blocking reload is answered when its part is there."""
        self.hold()
        self.advance(1)
        self.each("put_playlist", "index.m3u8", playlist(9, 3))
        self.assertIn(b" 200 OK", self.assert_same())
        self.send(PLAIN)
        self.assert_same()
        self.assertEqual([True, True], self.fast.express)

    def test_hinted_part_is_sent_when_there(self) -> None:
        """A hinted part is sent when it is there, small or large."""
        for name, body in (("part_10.2.m4s", SEGMENT), ("part_10.3.m4s", LARGE)):
            self.each("announce", name)
            self.send(line(name) + BROWSER)
            self.assertEqual(1, self.fast.tally.held)
            self.each("put", name, [body], MP4)
            self.assertTrue(self.assert_same().endswith(body))
        self.assertEqual([True, True], self.fast.express)

    def test_withdrawn_part_is_refused_alike(self) -> None:
        """A part that does not come after all is refused in the same words."""
        self.each("announce", "part_10.2.m4s")
        self.hold(line("part_10.2.m4s") + BROWSER)
        self.each("withdraw", "part_10.2.m4s")
        self.assertIn(b" 404 Not Found", self.assert_same())

    def test_late_part_is_refused_alike(self) -> None:
        """What does not come in time is refused in the same words, and the connection can be used again."""
        self.hold()
        self.advance(6.1)
        self.assertIn(b" 503 Service Unavailable", self.assert_same())
        self.send(PLAIN)
        self.assert_same()

    def test_starting_stream_is_waited_for(self) -> None:
        """A stream that is just starting is waited for."""
        for way in self.ways:
            way.starting = way.server.publish("new")  # type: ignore[attr-defined]
        self.hold(line("index.m3u8", path="/live/new/") + BROWSER)
        self.advance(4)
        self.assertIn(b" 404 Not Found", self.assert_same())

    def test_pipelined_requests_wait_their_turn(self) -> None:
        """What comes behind a request that is held waits, and may then go the express way itself."""
        self.hold()
        self.send(LINE + BROWSER, b"\r\n", PLAIN[:9])
        self.assertEqual(b"", self.assert_same())
        self.each("put_playlist", "index.m3u8", playlist(10))
        self.send(PLAIN[9:])
        self.advance(0)
        self.assertEqual(3, self.assert_same().count(b" 200 OK"))

    def test_flood_behind_a_held_request(self) -> None:
        """Who sends on and on behind a request that is held is not listened to any more."""
        self.hold()
        self.send(bytes(20_000))
        self.assert_same()
        self.assertEqual(["paused"] * 2, [way.transport.producerState for way in self.ways])

    def test_waiter_leaves_with_its_client(self) -> None:
        """A client that leaves takes its waiter with it."""
        self.hold()
        for way in self.ways:
            way.leave()
        self.assert_same()
        self.assertEqual((0, 0), (self.fast.tally.held, self.fast.stream.shelf.waiting))
        self.assertIn(499, [status for _, status in self.fast.tally.requests])

    @slow
    def test_bounds_hold_for_both_ways(self) -> None:
        """The bounds on held requests hold for both ways together."""
        self.ways = self.fast, self.slow = self.make(max_waiters_per_client=1)
        self.hold()
        for way in self.ways:
            way.open()
        self.send(self.AHEAD)
        self.assertIn(b" 429 ", self.assert_same())

    def test_bug_in_a_held_request(self) -> None:
        """A bug while a request is held is logged whole, and shown as no more than that there is one."""
        self.hold()
        for way in self.ways:
            way.stream.viewers.saw = None  # type: ignore[assignment,method-assign]
        self.each("put_playlist", "index.m3u8", playlist(10))
        self.assertIn(b" 500 Internal Server Error", self.assert_same())
        self.assertEqual(2, len(self.flushLoggedErrors(TypeError)))


class Stalled(StringTransport):
    """A transport whose client reads only when a test says so."""

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "10.0.0.9", 50_000))
        self.sent = b""
        self.most = 0
        self.is_paused = False

    def write(self, data: bytes) -> None:
        super().write(data)
        held = len(self.value())
        self.most = max(self.most, held)
        if held > 65_536 and self.producer is not None:
            self.is_paused = True
            self.producer.pauseProducing()

    def read(self) -> None:
        """The client has read all there is."""
        self.sent += self.value()
        self.clear()
        if self.is_paused and self.producer is not None:
            self.is_paused = False
            self.producer.resumeProducing()


class SlowReaderTests(TwoWays):
    def make(self, **policy: Any) -> tuple[Recorder, Recorder]:
        ways = super().make(idle_timeout_ms=30_000, **policy)
        for way in ways:
            way.open(Stalled())
        return ways

    def test_unread_bytes_are_bounded(self) -> None:
        """However large a body is, no more is kept for a client than a piece it has not read yet."""
        self.send(line("large.m4s") + fields(), PLAIN)
        for way in self.ways:
            transport: Any = way.transport
            self.assertLess(transport.most, 65_536 + PIECE_BYTES)
            while transport.value():
                transport.read()
                way.server.clock.advance(0)
            self.assertLess(transport.most, 65_536 + PIECE_BYTES)
            self.assertIn(LARGE, transport.sent)
            self.assertEqual(2, transport.sent.count(b" 200 OK"))
        self.assertTrue(self.fast.express[0])

    def test_slow_readers_are_not_dropped(self) -> None:
        """A client may be slow: while it reads at all, it is not dropped."""
        self.send(line("large.m4s") + fields())
        for way in self.ways:
            for _ in range(5):
                way.server.clock.advance(29)
                way.transport.read()  # type: ignore[attr-defined]
            self.assertFalse(way.transport.disconnecting or way.transport.disconnected)
            self.assertEqual(0, way.stalled)

    def test_clients_that_read_nothing_are_dropped(self) -> None:
        """A client that reads nothing is dropped after the idle timeout, with what it left, and counted."""
        self.send(line("large.m4s") + fields())
        self.advance(29)
        self.assertFalse(any(way.transport.disconnected for way in self.ways))
        self.advance(2)
        self.assertTrue(all(way.transport.disconnected for way in self.ways))
        for way in self.ways:
            way.leave()
            self.assertEqual(1, way.stalled)

    def test_clients_that_leave_midway(self) -> None:
        """A client that leaves in the middle of a body leaves nothing behind."""
        self.send(line("large.m4s") + fields())
        for way in self.ways:
            way.transport.producer.stopProducing()
            way.leave()
            way.transport.read()  # type: ignore[attr-defined]
        self.advance(60)
        self.assertEqual([0, 0], [way.stalled for way in self.ways])


class LoopbackTests(TestCase):
    """Over a real socket, which takes what it has room for."""

    @slow
    async def test_large_body_arrives_whole(self) -> None:
        """A large body arrives whole, again and again, however much of it the socket takes at once."""
        way = Recorder(express=True)
        body = LARGE * 10
        way.stream.shelf.put("huge.m4s", [body], MP4)
        reactor: Any = real_reactor
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(way.server.site)
        client = _Reader(len(body))
        connected = await clientFromString(reactor, f"tcp:127.0.0.1:{port.getHost().port}").connect(
            Factory.forProtocol(lambda: client)
        )
        try:
            for _ in range(3):
                self.assertTrue((await client.ask(line("huge.m4s") + fields())).endswith(b"\r\n\r\n" + body))
            self.assertEqual([True] * 3, way.express)
        finally:
            connected.transport.loseConnection()
            await client.closed
            await port.stopListening()


class _Reader(Protocol):
    """A client that reads in small bites, so that the server's socket is full most of the time."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.received = b""
        self.answered: Deferred[bytes] = Deferred()
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.bufferSize = 10_000  # type: ignore[union-attr]

    def ask(self, request: bytes) -> Deferred[bytes]:
        self.received, self.answered = b"", Deferred()
        self.transport.write(request)  # type: ignore[union-attr]
        return self.answered

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        head, found, _ = self.received[:2000].partition(b"\r\n\r\n")
        if found and len(self.received) >= len(head) + 4 + self.size:
            self.answered.callback(self.received)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)
