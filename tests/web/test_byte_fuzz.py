"""
Whatever bytes a client sends to the HTTP side, over HTTP/1.1 and HTTP/2: never a 500, never a traceback.

The inputs are requests of every route, spoiled: their values replaced by such as have broken readers of numbers, dates,
JSON or text, and their bytes changed, dropped, doubled and mixed. Each run makes the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.names import StreamName
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import RecordingWriter, feed, make_sink_context, packaged
from tests.recording.recordings import record
from tests.slow import slow
from tests.web.kit import Server

try:
    from tests.web.http2.kit import PREFACE, Http2Wire
except ImportError:  # without the extra
    PREFACE = b""

RECORDING = "/recordings/live/test/20260101T000000Z"
API = "/api/v1/recordings/live/test/20260101T000000Z"
TARGETS = (
    "/live/k/index.m3u8?_HLS_msn=9&_HLS_part=1&_HLS_skip=YES",
    "/live/k/clip.m3u8?from=-20s&to=2026-01-01T00:00:10Z",
    "/live/k/clip.mp4?from=-20s&to=-1s",
    "/live/k/dvr.m3u8?_HLS_skip=v2",
    "/live/k/segment_1.m4s",
    "/live/k/part_1.0.m4s",
    "/live/k/init_1.mp4",
    "/live/k",
    "/embed/live/k",
    "/",
    "/recordings",
    "/recordings/live/test/clip.m3u8?from=2026-01-01T00:00:00Z&to=2026-01-01T01:00:00%2B01:00",
    "/recordings/live/test/clip.mp4?from=2026-01-01T00:00:00Z&to=2026-01-01T01:00:00Z",
    f"{RECORDING}/clip.m3u8?from=2s&to=2026-01-01T00:00:10Z",
    f"{RECORDING}/clip.mp4?from=0&to=10s",
    f"{RECORDING}/index.m3u8",
    f"{RECORDING}/recording.mp4",
    f"{RECORDING}/segment_00000001.m4s",
    f"{RECORDING}/part_00000001_000.m4s",
    f"{RECORDING}/init.mp4",
    "/api/v1/recordings?app=live&streamKey=test&from=2026-01-01&to=2027-01-01&page=0&itemsPerPage=10",
    API,
    "/api/v1/streams?page=0&itemsPerPage=1",
    "/api/v1/streams/k?app=live",
    "/api/v1/openapi.json",
    "/metrics",
    "/ready",
    "/static/page.css",
)
#: With a body each.
POSTS = (
    ("/api/v1/publish", b'{"streamKey": "k", "app": "live", "expiresIn": "1h30m"}'),
    ("/api/v1/publish", b'{"streamKey": "k", "expiresIn": 60}'),
    ("/api/v1/streams/other/record", b'{"action": "start"}'),
    (f"{API}/protect", b'{"protected": true}'),
)
FIELDS = (
    "Range: bytes=0-99",
    'If-None-Match: W/"1-2", *',
    'If-Range: "1-2"',
    "Accept-Encoding: gzip;q=0.5, br;q=1",
    "Authorization: Bearer secret",
    "X-Forwarded-For: 192.0.2.1, [2001:db8::1]:443",
    "X-Forwarded-Proto: https",
    "Origin: https://example.net",
    "Content-Type: application/json",
    "User-Agent: hls.js",
    "Cookie: a=b; c",
    "Referer: http://localhost/",
    "Connection: keep-alive",
    "Expect: 100-continue",
    "Content-Length: 2",
    "Transfer-Encoding: chunked",
)
#: What stands for a value: numbers without end, dates that are none, text that no encoding has, JSON that never ends.
VALUES: tuple[bytes, ...] = (
    *(b"9" * size for size in (15, 19, 26, 29, 40, 310, 4299, 4301, 9000)),
    *(b"-" + b"9" * 30, b"1e999", b"1e308", b"-1e400", b"NaN", b"Infinity", b"-0", b"0.1", b"1e-9", b"0x10", b"1_0"),
    *(b"9" * 26 + b"d", b"9" * 300 + b"ms", b"0." + b"3" * 400 + b"s", b"1d" * 500, b"-" + b"9" * 40 + b"h"),
    *(b"0001-01-01T00:00:00%2B23:59", b"9999-12-31T23:59:59.999999-23:59", b"0000-00-00", b"2026-02-30", b"2026-W01-1"),
    *(b"2026-01-01T24:00", b"20260230T000000Z", b"00010101T000000Z", b"99991231T235959Z", "२०२६".encode(), b"%D9%A1"),
    *(
        b"%ED%A0%80",
        b"%00",
        b"%FF",
        b"\xff\xfe",
        b"%",
        b"%2",
        b"%E2%80%AE",
        b"%0D%0AX:%20y",
        "é".encode(),
        "٣".encode(),
    ),
    *(b'"\\ud800"', b'"\\u0000"', b"[" * 3000, b'{"a":' * 3000, b"{}", b"[]", b"null", b"true", b'""', b"[1e999]"),
    *(
        b"..",
        b"../../etc/passwd",
        b"%2e%2e%2f",
        b"//",
        b"~x",
        b".",
        b"a" * 300,
        b"&" * 200,
        b"=&=",
        b"?",
        b"#",
        b";",
        b"*",
    ),
    *(b"bytes=9-1", b"bytes=-0", b"bytes=-" + b"9" * 30, b"bytes=" + b"9" * 25 + b"-", b"bytes=0-1,2-3", b"gzip;q=nan"),
    *(
        b"[::1",
        b"::ffff:1.2.3.4",
        b"localhost:99999999",
        b"user@host",
        b"\t",
        b" ",
        b"\r\n",
        b"\n",
        b"\0",
        b"",
        b"\x80",
    ),
)
VALUE = re.compile(rb"(?<=[=/:\s,_\"])[^=/:\s,_&?\"]+")


def requests(source: Random) -> Iterator[tuple[str, str, bytes, list[str]]]:
    """Method, target, body and some more fields of requests that are well formed, without end."""
    while True:
        fields = source.sample(FIELDS, source.choice((0, 0, 1, 2, 4)))
        if source.random() < 0.25:
            target, body = source.choice(POSTS)
            yield "POST", target, body, fields
        else:
            yield source.choice(("GET", "GET", "GET", "HEAD", "OPTIONS", "DELETE")), source.choice(TARGETS), b"", fields


def spoil(source: Random, data: bytes) -> bytes:
    """Replace one of its values, or do something to its bytes."""
    if source.random() < 0.7:
        places = list(VALUE.finditer(data))
        if places:
            start, stop = source.choice(places).span()
            return data[:start] + source.choice(VALUES) + data[stop:]
    at = source.randrange(len(data) + 1)
    some = data[at : at + source.randrange(1, 12)]
    return source.choice(
        (
            data[:at] + bytes([source.randrange(256)]) + data[at + 1 :],
            data[:at] + data[at + len(some) :],
            data[:at] + some * 2 + data[at:],
            data[:at] + source.choice(VALUES) + data[at:],
            data[:at],
        )
    )


def written(method: str, target: str, body: bytes, fields: list[str]) -> bytes:
    """A request as HTTP/1.1 has it."""
    head = "".join(f"{field}\r\n" for field in ("Host: localhost:8080", *fields))
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {target} HTTP/1.1\r\n{head}{length}\r\n".encode() + body


def make_server() -> Server:
    """A live stream that can be rewound, and a recording."""
    server = Server(trusted_proxies=("127.0.0.1",))
    stream, writer = server.live(), RecordingWriter()
    context = make_sink_context(stream=StreamName("live", "k"), shelf=stream.shelf, storage=writer)
    sink = packaged(HlsSinkFactory(segment="1s", window="4", dvr="1m").create(context))
    source = FrameSource(make_video_track(), make_audio_track(), gop=30)
    sink.tracks_changed(source.tracks)
    feed(sink, source.take(12))
    for key, data in {**writer.objects, **record(7).objects}.items():
        server.storage.put(key, data, "", "")
    return server


@slow
class ByteFuzzTests(SynchronousTestCase):
    def assertNoBug(self, data: bytes, transport: Any) -> None:
        """Nothing was logged as a bug, and no client heard of one."""
        failures = self.flushLoggedErrors()
        self.assertEqual([], failures, (data, failures and failures[0].getTraceback()))
        self.assertNotIn(b" 500 ", b"\n".join(line for line in transport.value().split(b"\r\n") if b"HTTP/1." in line))
        self.assertNotIn(b"internal error", transport.value(), data)

    def send(self, server: Server, data: bytes) -> None:
        """Send it on a connection of its own, and leave."""
        address = IPv4Address("TCP", "127.0.0.1", 50_000)
        transport = StringTransport(peerAddress=address)
        protocol = server.site.buildProtocol(address)
        protocol.makeConnection(transport)
        try:
            protocol.dataReceived(data)
        except Exception as error:
            raise AssertionError(data) from error
        server.clock.advance(0.01)
        self.assertNoBug(data, transport)
        protocol.connectionLost(Failure(ConnectionError("the client left")))
        self.assertNoBug(data, transport)

    def test_every_value_in_every_place(self) -> None:
        """Each value that has broken a reader, in the place of each value of each request."""
        source, server = Random(1), make_server()
        for target in TARGETS:
            whole = target.encode()
            for place in VALUE.finditer(whole):
                for value in VALUES:
                    spoilt = whole[: place.start()] + value + whole[place.end() :]
                    self.send(server, b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % spoilt)
        for target, body in POSTS:
            for place in VALUE.finditer(body):
                for value in VALUES:
                    spoilt = body[: place.start()] + value + body[place.end() :]
                    self.send(server, written("POST", target, spoilt, []))
                    quoted = body[: place.start() - 1] + value + body[place.end() + 1 :]
                    self.send(server, written("POST", target, quoted, []))
        for field in FIELDS:
            name, _, _ = field.partition(": ")
            for value in VALUES:
                target = source.choice(TARGETS)
                head = b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s: %s\r\n\r\n" % (target.encode(), name.encode(), value)
                self.send(server, head)

    def test_spoilt_requests_are_answered(self) -> None:
        """Requests of which values and bytes were changed, several on a connection and cut anywhere."""
        source = Random(2)
        made = requests(source)
        for number in range(2_000):
            if number % 250 == 0:
                server = make_server()
            data = b"".join(written(*next(made)) for _ in range(source.choice((1, 1, 1, 3))))
            for _ in range(source.choice((1, 1, 2, 4))):
                data = spoil(source, data)
            self.send(server, data)
        self.assertEqual(200, server.get("/live/k/index.m3u8").status)


@slow
class Http2ByteFuzzTests(SynchronousTestCase):
    if not PREFACE:
        skip = "the extra http2 is not installed"

    def assertNoBug(self, data: bytes) -> None:
        """Nothing was logged as a bug."""
        failures = self.flushLoggedErrors()
        self.assertEqual([], failures, (data, failures and failures[0].getTraceback()))

    def test_spoilt_fields_are_answered(self) -> None:
        """Requests whose fields have values that broke readers: no answer is 500."""
        source, server = Random(3), make_server()
        made = requests(source)
        for _ in range(600):
            method, target, body, fields = next(made)
            target = spoil(source, target.encode()).decode("latin-1")
            wire = Http2Wire(server)
            wire.client.config.validate_outbound_headers = False
            wire.client.config.normalize_outbound_headers = False
            more = dict(field.lower().split(": ") for field in fields if not field.startswith(("Conn", "Transfer")))
            if more and source.random() < 0.7:
                more[source.choice(list(more))] = source.choice(VALUES).decode("latin-1")
            number = wire.request(target or "/", method, end=not body, **more)
            if body and not wire.is_closed:
                wire.client.send_data(number, spoil(source, body), end_stream=True)
                wire.flush()
            server.clock.advance(0.01)
            self.assertNotEqual(500, wire.answers[number].status, (method, target, more))
            self.assertNoBug(repr((method, target, more)).encode())
            wire.leave()

    def test_spoilt_frames_are_answered(self) -> None:
        """Frames of which bytes were changed, dropped and doubled."""
        source, server = Random(4), make_server()
        made = requests(source)
        for _ in range(1_000):
            method, target, body, _ = next(made)
            sent: list[bytes] = []
            honest = Http2Wire(server)
            honest.raw, raw = sent.append, honest.raw  # type: ignore[method-assign]
            number = honest.request(target, method, end=not body)
            if body:
                honest.client.send_data(number, body, end_stream=True)
                honest.flush()
            data = b"".join(sent)
            for _ in range(source.choice((1, 2, 3))):
                data = spoil(source, data)
            raw(data)
            server.clock.advance(0.01)
            self.assertNoBug(data)
            honest.leave()
