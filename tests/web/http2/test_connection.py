from typing import Any

import h2.errors
import h2.events
from h2.settings import SettingCodes
from hpack import Encoder
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.web.http2 import connection as http2
from rapidrtmp.web.http2.frames import FrameType
from tests.slow import slow
from tests.web.http2.kit import PREFACE, Http2Wire, frame
from tests.web.kit import Server, playlist

PATH = "/live/k/index.m3u8"
CALM = int(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
MEGABYTE = 1 << 20


class Http2TestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server(idle_timeout_ms=30_000)
        self.stream = self.server.live()
        self.stream.shelf.put_playlist("index.m3u8", playlist())
        self.stream.shelf.put("big.m4s", [bytes(MEGABYTE)], "video/mp4")
        self.clock: Clock = self.server.clock

    def connect(self, *, window: int | None = None, server: Server | None = None, **settings: int) -> Http2Wire:
        if window is not None:
            settings["INITIAL_WINDOW_SIZE"] = window
        numbers = {int(SettingCodes[name]): value for name, value in settings.items()}
        return Http2Wire(server or self.server, "192.0.2.9", numbers or None)

    def abuse(self, kind: str) -> float:
        return self.server.metric("http_misconduct_total", kind=kind)

    @property
    def unsent(self) -> float:
        return self.server.metric("http2_unsent_bytes")


class ServingTests(Http2TestCase):
    def test_answers_one_request_after_another(self) -> None:
        """One connection serves one request after another, whatever the method."""
        wire = self.connect()
        for path, method, status in (
            (PATH, "GET", 200),
            (PATH, "HEAD", 200),
            ("/nothing", "GET", 404),
            (PATH, "OPTIONS", 204),
            (PATH, "DELETE", 405),
        ):
            answer = wire.get(path, method)
            self.assertEqual((status, True), (answer.status, answer.is_whole), (path, method))
        self.assertFalse(wire.is_closed)

    def test_body_is_read_in_pieces(self) -> None:
        """A request's body is read, in however many pieces it comes."""
        wire = Http2Wire(self.server)
        number = wire.request("/api/v1/publish", "POST", end=False, content_type="application/json")
        for piece in (b'{"stream', b'Key": ', b'"demo"}'):
            wire.client.send_data(number, piece)
            wire.flush()
        wire.client.end_stream(number)
        wire.flush()
        self.assertEqual(200, wire.answers[number].status)
        self.assertIn(b'"streamKey": "demo"', wire.answers[number].body)

    def test_expectation_is_answered(self) -> None:
        """A client that asks whether it may send its body is answered."""
        wire = Http2Wire(self.server)
        wire.request("/api/v1/publish", "POST", end=False, expect="100-continue")
        self.assertTrue(any(isinstance(e, h2.events.InformationalResponseReceived) for e in wire.events))

    def test_large_body_arrives_beside_others(self) -> None:
        """A large answer arrives whole, as fast as the client lets it out, beside others."""
        wire = self.connect()
        first, second = (wire.request("/live/k/big.m4s", flush=False) for _ in range(2))
        wire.flush()
        for _ in range(2000):
            self.clock.advance(0)
            wire.read()
            for number in (first, second):
                if not wire.answers[number].is_whole:
                    wire.client.increment_flow_control_window(16_384)
                    wire.client.increment_flow_control_window(16_384, number)
            wire.flush()
            if wire.answers[first].is_whole and wire.answers[second].is_whole:
                break
        self.assertEqual([MEGABYTE] * 2, [len(wire.answers[number].body) for number in (first, second)])
        self.assertEqual(0, self.unsent)
        self.assertFalse(wire.is_closed)

    def test_held_request_is_answered_later(self) -> None:
        """A request for what is coming is held, does not make the connection idle, and is answered when it is there."""
        server = Server(idle_timeout_ms=2_000)
        stream = server.live()
        stream.shelf.put_playlist("index.m3u8", playlist())
        wire = self.connect(server=server)
        number = wire.request(f"{PATH}?_HLS_msn=10")
        server.clock.advance(5)
        stream.shelf.put_playlist("index.m3u8", playlist(10))
        wire.turn()
        self.assertEqual(200, wire.answers[number].status)
        self.assertIn(b"# 10.0", wire.answers[number].body)

    def test_body_too_long(self) -> None:
        """A body that is too long is answered at once, read on for a while, and then cut off."""
        server = Server(max_body_bytes=100)
        wire = Http2Wire(server)
        number = wire.request("/api/v1/publish", "POST", end=False)
        for _ in range(200):
            if wire.answers[number].reset is not None:
                break
            wire.client.send_data(number, bytes(16_384))
            wire.flush()
        self.assertEqual((413, 0), (wire.answers[number].status, wire.answers[number].reset))
        self.assertEqual(200, wire.get("/health").status)

    def test_too_many_headers_are_refused(self) -> None:
        """Too many header fields are refused on their stream; too long ones end the connection."""
        wire = self.connect()
        number = wire.request("/health", **{f"x-{n}": "y" for n in range(101)})
        self.assertEqual(431, wire.answers[number].status)
        self.assertEqual(200, wire.get("/health").status)
        wire.request("/health", x="y" * 40_000, flush=False)
        wire.flush()
        self.assertTrue(wire.is_closed)
        self.assertEqual(2, self.abuse("oversized"))

    def test_connect_is_never_served(self) -> None:
        """No connection is made on behalf of a client."""
        wire = self.connect()
        block = Encoder().encode([(":method", "CONNECT"), (":authority", "localhost:22")])
        wire.protocol.dataReceived(frame(FrameType.HEADERS, 5, 1, block))
        self.assertEqual(1, self.abuse("bad") + self.abuse("malformed"))

    def test_http2_is_offered_first(self) -> None:
        """TLS offers HTTP/2 before HTTP/1.1."""
        self.assertEqual([b"h2", b"http/1.1"], self.server.site.acceptableProtocols())


class ClosedWindowTests(Http2TestCase):
    def test_closed_window_makes_answers_wait(self) -> None:
        """An answer whose window is closed costs no timer, and goes out when the window opens, in either way."""
        for opens_by_settings in (False, True):
            wire = self.connect(window=0)
            number = wire.request(PATH)
            self.assertEqual((200, b""), (wire.answers[number].status, wire.answers[number].body))
            before = len(self.clock.getDelayedCalls())
            for _ in range(10):
                self.clock.advance(0)
            self.assertLessEqual(len(self.clock.getDelayedCalls()), before)
            self.assertFalse([call for call in self.clock.getDelayedCalls() if call.getTime() <= self.clock.seconds()])
            if opens_by_settings:
                wire.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 65_535})
            else:
                wire.client.increment_flow_control_window(1000, number)
            wire.flush()
            wire.turn()
            self.assertTrue(wire.answers[number].is_whole)
            self.assertIn(b"#EXTM3U", wire.answers[number].body)

    def test_unread_answer_gives_up(self) -> None:
        """An answer that the client does not let out ends after the idle timeout, and so does its connection."""
        for window in (0, 1):
            with self.subTest(window=window):
                wire = self.connect(window=window)
                number = wire.request(PATH)
                self.clock.advance(29)
                wire.read()
                self.assertIsNone(wire.answers[number].reset)
                self.clock.advance(2)
                self.assertTrue(wire.is_closed)
                self.assertEqual(0, self.unsent)
        self.assertEqual(2, self.abuse("stalled"))

    def test_trickle_is_no_progress(self) -> None:
        """To let out a byte now and then is no progress."""
        wire = self.connect(window=0)
        number = wire.request("/live/k/big.m4s")
        for _ in range(40):
            if wire.is_closed:
                break
            self.clock.advance(1)
            wire.client.increment_flow_control_window(1, number)
            wire.flush()
        self.assertTrue(wire.is_closed)

    def test_steady_reader_keeps_its_answer(self) -> None:
        """A client that reads slowly, but reads, keeps its answer for as long as it takes."""
        wire = self.connect(window=16_384)
        number = wire.request("/live/k/big.m4s")
        for _ in range(20):
            self.clock.advance(20)
            wire.read()
            wire.client.increment_flow_control_window(16_384)
            wire.client.increment_flow_control_window(16_384, number)
            wire.flush()
        self.assertFalse(wire.is_closed)
        self.assertGreater(len(wire.answers[number].body), 20 * 16_384)

    def test_one_stream_of_many(self) -> None:
        """A stalled answer is given up alone while its connection is of use."""
        wire = self.connect()
        stalled = wire.request("/live/k/big.m4s")
        for _ in range(4):
            self.clock.advance(10)
            wire.read()
            wire.client.increment_flow_control_window(100_000)
            self.assertEqual(200, wire.get(PATH).status)
        self.assertEqual(int(h2.errors.ErrorCodes.CANCEL), wire.answers[stalled].reset)
        self.assertFalse(wire.is_closed)

    def test_connection_bound_on_waiting_bytes(self) -> None:
        """What one connection makes wait is bounded, however many answers it asks for."""
        wire = self.connect(window=1)
        for _ in range(100):
            wire.request("/live/k/big.m4s", flush=False)
        wire.flush()
        self.assertLessEqual(self.unsent, http2.MAX_UNSENT_BYTES + 100_000)
        wire.leave()
        self.assertEqual(0, self.unsent)

    def test_crowd_continues_in_its_turn(self) -> None:
        """Answers that had to wait for others of their connection continue when those are done or taken back."""
        self.patch(http2, "MAX_UNSENT_BYTES", 100_000)
        wire = self.connect(window=1)
        wire.client.increment_flow_control_window(2 * MEGABYTE)
        numbers = [wire.request("/live/k/big.m4s", flush=False) for _ in range(3)]
        wire.flush()
        for number in numbers[:2]:
            wire.client.reset_stream(number)
        wire.client.increment_flow_control_window(2 * MEGABYTE, numbers[2])
        wire.flush()
        for _ in range(100):
            wire.turn()
        self.assertEqual(MEGABYTE, len(wire.answers[numbers[2]].body))

    def test_bound_of_all(self) -> None:
        """What all connections make wait is bounded: the one that holds most is closed, the others continue."""
        self.patch(http2, "MAX_UNSENT_BYTES_IN_ALL", 500_000)
        modest = self.connect(window=0)
        modest.request(PATH)
        greedy = [self.connect(window=1) for _ in range(4)]
        for wire in greedy:
            for _ in range(10):
                wire.request("/live/k/big.m4s")
                if wire.goaway is not None:
                    break
        self.assertLessEqual(self.unsent, 500_000)
        self.assertTrue(any(wire.is_closed for wire in greedy))
        self.assertFalse(modest.is_closed)

    def test_full_transport_stops_reading(self) -> None:
        """A connection whose transport is full is read no further, and dropped if that lasts."""
        wire = self.connect()
        wire.protocol._channel.pauseProducing()
        self.assertTrue(wire.transport.is_paused)
        wire.protocol._channel.resumeProducing()
        self.assertFalse(wire.transport.is_paused)
        wire.protocol._channel.pauseProducing()
        self.clock.advance(61)
        self.assertTrue(wire.is_closed)
        self.assertEqual(1, self.abuse("stalled"))


class ErrorTests(Http2TestCase):
    def assert_over(self, wire: Http2Wire, kind: str, *, code: int | None = None) -> None:
        """Nothing more is read or kept, and the connection is gone before long."""
        self.assertIsNotNone(wire.goaway)
        if code is not None:
            self.assertEqual(code, wire.goaway)
        self.assertTrue(wire.transport.is_paused)
        for _ in range(100):
            wire.protocol.dataReceived(bytes(10_000))
        self.assertEqual(0, len(wire.connection._frames))
        self.clock.advance(1)
        self.assertTrue(wire.transport.aborted)
        self.assertEqual(1, self.abuse(kind))

    @slow
    def test_errors_are_one_log_line(self) -> None:
        """After whatever is not HTTP/2, nothing is read or kept, and the log has one line and no traceback."""
        settings = frame(FrameType.SETTINGS, 0, 0)
        headers = frame(FrameType.HEADERS, 4, 1, Encoder().encode([(":method", "GET")]))
        for name, raw in {
            "no preface": b"GET / HTTP/1.1\r\n\r\n",
            "data of no stream": PREFACE + settings + frame(FrameType.DATA, 0, 1, b"x"),
            "no path": PREFACE + settings + headers,
            "bad compression": PREFACE + settings + frame(FrameType.HEADERS, 5, 1, b"\xff\xff\xff\xff\xff"),
            "continuation of nothing": PREFACE + settings + frame(FrameType.CONTINUATION, 4, 1, b"\x82"),
            "window of nothing": PREFACE + settings + frame(FrameType.WINDOW_UPDATE, 0, 0, bytes(4)),
            "push": PREFACE + settings + frame(FrameType.PUSH_PROMISE, 4, 1, bytes(8)),
            "ping of seven": PREFACE + settings + frame(FrameType.PING, 0, 0, bytes(7)),
            "window too large": PREFACE + frame(FrameType.SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"),
            "depends on itself": PREFACE + settings + frame(FrameType.PRIORITY, 0, 3, b"\0\0\0\3\x10"),
        }.items():
            with self.subTest(name), capturedLogs() as events:
                server = Server(idle_timeout_ms=30_000)
                self.server, self.clock = server, server.clock
                wire = _bare(server)
                wire.raw(raw)
                self.assert_over(wire, "malformed")
                warnings = [event for event in events if event["log_level"] >= LogLevel.warn]
                self.assertEqual([None], [event.get("log_failure") for event in warnings])

    def test_nothing_is_kept_beyond_limits(self) -> None:
        """Of a frame or header block that is too long, nothing is kept but what showed it."""
        long = b"\x00\x40\x01" + bytes([FrameType.DATA, 0]) + bytes(4)
        block = frame(FrameType.HEADERS, 1, 1, b"\x82") + frame(FrameType.CONTINUATION, 0, 1, bytes(16_000)) * 2
        for raw in (long, block):
            server = Server(idle_timeout_ms=30_000)
            self.server, self.clock = server, server.clock
            wire = _bare(server)
            wire.raw(PREFACE + raw)
            self.assert_over(wire, "oversized")

    def test_answers_at_every_cut(self) -> None:
        """However the bytes of a request are cut on their way, it is answered the same."""
        wire = _bare(self.server)
        block = Encoder().encode([(":method", "GET"), (":path", "/health"), (":scheme", "https"), (":authority", "a")])
        raw = PREFACE + frame(FrameType.SETTINGS, 0, 0) + frame(FrameType.HEADERS, 5, 1, block)
        for position in range(len(raw)):
            wire.protocol.dataReceived(raw[position : position + 1])
        self.clock.advance(0)
        self.assertIn(b'{"status": "ok"}', wire.transport.value())


def _bare(server: Server) -> Http2Wire:
    """A connection on which the client has said nothing yet."""
    wire = Http2Wire.__new__(Http2Wire)
    wire.open(server, "192.0.2.9")
    return wire


class GoneStreamTests(Http2TestCase):
    def test_answer_to_a_gone_stream(self) -> None:
        """What is answered to a request that was taken back goes nowhere, without a word in the log."""
        with capturedLogs() as events:
            wire = self.connect(window=0)
            held = wire.request(f"{PATH}?_HLS_msn=10")
            small = wire.request(PATH)
            large = wire.request("/live/k/big.m4s")
            for number in (held, small, large):
                wire.client.reset_stream(number)
            wire.flush()
            self.stream.shelf.put_playlist("index.m3u8", playlist(10))
            wire.turn()
            wire.client.increment_flow_control_window(100_000)
            wire.flush()
        self.assertEqual(0, self.unsent)
        self.assertEqual(0, self.server.metric("http_waiting_requests"))
        self.assertFalse([event for event in events if event["log_level"] >= LogLevel.warn])
        self.assertFalse(wire.is_closed)

    def test_late_frames_disturb_nothing(self) -> None:
        """What was on its way for a stream that is done, or was taken back, disturbs nothing."""
        wire = self.connect()
        done = wire.request(PATH)
        gone = wire.request(f"{PATH}?_HLS_msn=10", end=False)
        wire.client.reset_stream(gone)
        wire.flush()
        for number in (done, gone):
            wire.raw(frame(FrameType.WINDOW_UPDATE, 0, number, b"\0\0\0\1"))
            wire.raw(frame(FrameType.RST_STREAM, 0, number, bytes(4)))
        wire.raw(frame(FrameType.DATA, 0, gone, b"x" * 1000))
        self.assertEqual(200, wire.get(PATH).status)

    def test_producer_is_stopped(self) -> None:
        """The making of an answer ends with its stream."""
        wire = self.connect(window=1)
        number = wire.request("/live/k/big.m4s")
        stream = wire.connection._streams[number]
        producer = stream._producer
        wire.client.reset_stream(number)
        wire.flush()
        self.assertTrue(producer._is_stopped)

    def test_broken_answer_is_reset(self) -> None:
        """An answer that breaks off is reset, so that the client does not take it for whole."""
        wire = self.connect()
        number = wire.request(f"{PATH}?_HLS_msn=10")
        wire.connection._streams[number].loseConnection()
        wire.turn()
        self.assertEqual(int(h2.errors.ErrorCodes.INTERNAL_ERROR), wire.answers[number].reset)


class FloodTests(Http2TestCase):
    def flood(self, wire: Http2Wire, raw: Any, times: int = 2000) -> int:
        """Send the same again and again until the connection is closed; how often that was."""
        for count in range(times):
            if wire.connection._is_over:
                return count
            wire.protocol.dataReceived(raw(count) if callable(raw) else raw)
            if count % 50 == 49:
                self.clock.advance(0)
                wire.read_goaway()
        return times

    def assert_calmed(self, wire: Http2Wire, kind: str) -> None:
        wire.read_goaway()
        self.assertEqual(CALM, wire.goaway)
        self.clock.advance(1)
        self.assertTrue(wire.transport.aborted)
        self.assertEqual(1, self.abuse(kind))

    @slow
    def test_floods_are_borne_a_while(self) -> None:
        """Frames that ask for nothing are borne for a while only, whatever their type."""
        floods: dict[str, bytes] = {
            "ping": frame(FrameType.PING, 0, 0, bytes(8)),
            "ping answers": frame(FrameType.PING, 1, 0, bytes(8)),
            "settings": frame(FrameType.SETTINGS, 0, 0),
            "window setting": frame(FrameType.SETTINGS, 0, 0, b"\0\4\0\0\0\0"),
            "settings answers": frame(FrameType.SETTINGS, 1, 0),
            "priority": frame(FrameType.PRIORITY, 0, 2001, b"\0\0\0\0\x10"),
            "window": frame(FrameType.WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
            "extension": frame(0x2A, 0, 0, b"grease"),
            "empty data": frame(FrameType.DATA, 0, 1),
            "small data": frame(FrameType.DATA, 0, 1, b"x"),
            "padding": frame(FrameType.DATA, 8, 1, b"\x80" + bytes(128)),
            "window of a stream": frame(FrameType.WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),
        }
        for name, raw in floods.items():
            with self.subTest(name):
                self.setUp()
                wire = self.connect()
                wire.request("/api/v1/publish", "POST", end=False)
                self.assertLess(self.flood(wire, raw), 600)
                self.assert_calmed(wire, "flooding")

    def test_rapid_resets_end_the_connection(self) -> None:
        """Requests that are taken back at once are borne for a while only."""
        wire = self.connect()
        with capturedLogs() as events:
            for _ in range(1000):
                number = wire.request(f"{PATH}?_HLS_msn=10", flush=False)
                wire.client.reset_stream(number)
                wire.protocol.dataReceived(wire.client.data_to_send())
                if wire.connection._is_over:
                    break
        self.assertLess(wire._last // 2, http2.RESETS + 2)
        self.assert_calmed(wire, "resetting")
        self.assertEqual(1, len([event for event in events if event["log_level"] >= LogLevel.warn]))

    @slow
    def test_resets_after_answers_count_too(self) -> None:
        """So are those whose answer was faster."""
        wire = self.connect()
        for _ in range(1000):
            if wire.connection._is_over:
                break
            wire.raw(frame(FrameType.RST_STREAM, 0, wire.request(PATH), bytes(4)))
        self.assertEqual(CALM, wire.goaway)

    @slow
    def test_made_to_reset(self) -> None:
        """So are requests that the client has the server take back, by whatever means."""
        ask = [(":method", "GET"), (":path", f"{PATH}?_HLS_msn=10"), (":scheme", "https"), (":authority", "a")]
        block = Encoder().encode(ask)
        for name, provocation in {
            "window overflow": lambda number: frame(FrameType.WINDOW_UPDATE, 0, number, b"\x7f\xff\xff\xff"),
            "data behind the end": lambda number: frame(FrameType.DATA, 0, number, bytes(300)),
            "headers behind the end": lambda number: frame(FrameType.HEADERS, 5, number, block),
        }.items():
            with self.subTest(name):
                self.setUp()
                wire = self.connect()
                for number in range(1, 2000, 2):
                    if not wire.connection._is_over:
                        wire.protocol.dataReceived(frame(FrameType.HEADERS, 5, number, block) + provocation(number))
                wire.read_goaway()
                self.assertEqual(CALM, wire.goaway)
                self.assertEqual(1, self.abuse("resetting") + self.abuse("flooding"))
                self.assertEqual(0, self.server.metric("http_waiting_requests"))

    def test_endless_continuations_end_the_connection(self) -> None:
        """A header block in endless pieces, empty or not, ends the connection."""
        for body, kind in ((b"", "flooding"), (b"\0" * 64, "flooding"), (bytes(4000), "oversized")):
            with self.subTest(size=len(body)):
                self.setUp()
                wire = self.connect()
                wire.protocol.dataReceived(frame(FrameType.HEADERS, 1, 1, b"\x82"))
                self.flood(wire, frame(FrameType.CONTINUATION, 0, 1, body))
                self.assertTrue(wire.connection._is_over)
                self.assertEqual(1, self.abuse("flooding") + self.abuse("malformed") + self.abuse(kind))

    def test_header_bomb_is_not_spelled_out(self) -> None:
        """A few bytes that stand for many header fields are not spelled out."""
        wire = self.connect()
        encoder = Encoder()
        first = encoder.encode([(":method", "GET"), (":path", "/"), (":scheme", "https"), ("x", "y" * 3000)])
        wire.raw(frame(FrameType.HEADERS, 5, 1, first + b"\xbe" * 10_000))
        self.assertEqual(CALM, wire.goaway)
        self.assertEqual(1, self.abuse("oversized"))

    def test_dribbled_windows_are_a_flood(self) -> None:
        """A window that is opened byte by byte is a flood like any other."""
        wire = self.connect(window=0)
        number = wire.request("/live/k/big.m4s")
        self.flood(wire, frame(FrameType.WINDOW_UPDATE, 0, number, b"\0\0\0\1"))
        self.assert_calmed(wire, "flooding")

    def test_open_streams_are_bounded(self) -> None:
        """No more requests are open at a time than was announced."""
        wire = self.connect(window=0)
        wire.client.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
        wire.client.remote_settings.acknowledge()
        for _ in range(http2.MAX_STREAMS):
            wire.request(PATH)
        self.assertFalse(wire.is_closed)
        self.assertGreater(self.unsent, 0)
        wire.request(PATH)
        self.assertTrue(wire.is_closed)
        self.assertEqual(0, self.unsent)

    @slow
    def test_busy_client_is_no_flood(self) -> None:
        """A client that asks much, and acknowledges every frame of it, is not taken for a flood."""
        wire = self.connect()
        for _ in range(200):
            number = wire.request(PATH)
            wire.client.increment_flow_control_window(len(wire.answers[number].body))
            wire.client.prioritize(number + 1000, weight=10)
            wire.flush()
        for _ in range(2):
            number = wire.request("/live/k/big.m4s")
            for _ in range(300):
                wire.client.increment_flow_control_window(4096)
                if not wire.answers[number].is_whole:
                    wire.client.increment_flow_control_window(4096, number)
                wire.flush()
            self.assertEqual(MEGABYTE, len(wire.answers[number].body))
        self.assertFalse(wire.is_closed)

    @slow
    def test_impatient_client_is_no_flood(self) -> None:
        """A viewer that leaves its requests now and then is not taken for a flood."""
        wire = self.connect()
        for _ in range(250):
            answers = [wire.get(PATH) for _ in range(2)]
            self.assertEqual([200] * 2, [answer.status for answer in answers])
            wire.client.increment_flow_control_window(sum(len(answer.body) for answer in answers))
            wire.client.reset_stream(wire.request(f"{PATH}?_HLS_msn=10"))
            wire.flush()
        self.assertFalse(wire.is_closed)

    def test_compression_table_stays_small(self) -> None:
        """The table that answers are compressed with stays small, whatever the client could bear."""
        wire = self.connect(HEADER_TABLE_SIZE=1 << 30)
        for count in range(100):
            wire.get(f"/nothing-{count}")
        self.assertLessEqual(wire.connection._h2.encoder.header_table_size, http2.HEADER_TABLE_BYTES)

    def test_answers_take_several_turns(self) -> None:
        """Requests that arrive together are answered in as many turns as they take, and the rest is not read before."""
        wire = self.connect()
        turns: list[int] = []
        wire.connection._shared.clock = _Busy(self.clock, turns)
        self.server.site.read_budget._clock = wire.connection._shared.clock
        for _ in range(50):
            wire.request("/health", flush=False)
        wire.protocol.dataReceived(wire.client.data_to_send())
        self.assertTrue(wire.transport.is_paused)
        for _ in range(200):
            self.clock.advance(0)
        wire.read()
        self.assertFalse(wire.transport.is_paused)
        self.assertTrue(all(answer.is_whole for answer in wire.answers.values()))


class _Busy:
    """A clock on which everything takes a millisecond."""

    def __init__(self, clock: Clock, _turns: list[int]) -> None:
        self._clock = clock
        self._s = clock.seconds()

    def seconds(self) -> float:
        self._s += 0.001
        return self._s

    def callLater(self, *args: Any) -> Any:
        return self._clock.callLater(*args)


class IdleTests(Http2TestCase):
    def test_idle_connections_are_closed(self) -> None:
        """A connection that asks nothing is closed after a while, before or after a request."""
        for asks_first in (False, True):
            wire = self.connect()
            if asks_first:
                wire.get(PATH)
            self.clock.advance(29)
            self.assertFalse(wire.is_closed)
            self.clock.advance(2)
            self.assertTrue(wire.is_closed)
            wire.read_goaway()
            self.assertEqual(0, wire.goaway)
            self.clock.advance(15)
            self.assertTrue(wire.transport.aborted)

    def test_only_requests_count(self) -> None:
        """No other frame keeps a connection open."""
        for raw in (
            frame(FrameType.PING, 0, 0, bytes(8)),
            frame(FrameType.SETTINGS, 0, 0),
            frame(FrameType.WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
            frame(FrameType.PRIORITY, 0, 9, b"\0\0\0\0\x10"),
            frame(0x2A, 0, 0, b"grease"),
        ):
            wire = self.connect()
            for _ in range(6):
                self.clock.advance(5.1)
                if not wire.is_closed:
                    wire.raw(raw)
            self.assertTrue(wire.is_closed, raw)

    def test_requests_keep_a_connection_open(self) -> None:
        """A connection that asks now and then stays."""
        wire = self.connect()
        for _ in range(10):
            self.clock.advance(20)
            self.assertEqual(200, wire.get(PATH).status)
        self.assertFalse(wire.is_closed)

    def test_slow_header_block_is_refused(self) -> None:
        """A header block, or the rest of a small frame, must come within the 15 s that HTTP/1 gives a header."""
        block = Encoder().encode([(":method", "GET"), (":path", PATH), (":scheme", "https"), (":authority", "x")])
        whole = frame(FrameType.HEADERS, 5, 1, block)
        empty = frame(FrameType.CONTINUATION, 0, 1)
        begun = frame(FrameType.HEADERS, 1, 1, block[:2])
        dribbles: dict[str, list[bytes]] = {
            "byte by byte": [bytes([byte]) for byte in whole],
            "in frames": [begun, *(frame(FrameType.CONTINUATION, 0, 1, block[at : at + 1]) for at in range(2, 9))],
            "in empty frames": [frame(FrameType.HEADERS, 1, 1), *[empty] * 9],
            "and no more": [begun],
            "a ping": [frame(FrameType.PING, 0, 0, bytes(8))[:12]],
        }
        for name, pieces in dribbles.items():
            wire = self.connect()
            self.clock.advance(3)
            for piece in pieces[:10]:
                wire.raw(piece)
                self.clock.advance(1.4)
            self.clock.advance(max(14.9 - 1.4 * len(pieces[:10]), 0))
            self.assertFalse(wire.is_closed, name)
            self.clock.advance(1.2)
            self.assertTrue(wire.is_closed, name)
        self.assertEqual(len(dribbles), self.abuse("slow"))

    def test_header_in_time(self) -> None:
        """One that comes in pieces, but in time, is answered, and the next is judged anew."""
        wire = self.connect()
        for path in (PATH, PATH):
            wire.request(path, flush=False)
            data = wire.client.data_to_send()
            for piece in (data[:3], data[3:12], data[12:]):
                wire.raw(piece)
                self.clock.advance(4)
        self.assertEqual([200, 200], [answer.status for answer in wire.answers.values()])
        self.assertFalse(wire.is_closed)

    def test_slow_data_has_a_body_time(self) -> None:
        """A frame of a body may take as long as a body."""
        wire = self.connect()
        number = wire.request("/api/v1/publish", "POST", end=False)
        wire.raw(frame(FrameType.DATA, 1, number, b"{}")[:10])
        self.clock.advance(20)
        self.assertFalse(wire.is_closed)

    def test_slow_preface_is_refused(self) -> None:
        """So may not the very first bytes."""
        wire = object.__new__(Http2Wire)
        wire.open(self.server, "192.0.2.9")
        wire.protocol.dataReceived(PREFACE[:5])
        self.clock.advance(15)
        self.assertTrue(wire.is_closed)

    def test_slow_request_must_end_in_time(self) -> None:
        """A request must be whole in time, however steadily its bytes drip in, and takes its connection with it."""
        wire = self.connect()
        number = wire.request("/api/v1/publish", "POST", end=False)
        for _ in range(15):
            self.clock.advance(2.1)
            if not wire.is_closed:
                wire.client.send_data(number, b"x" * 300)
                wire.flush()
        self.assertTrue(wire.is_closed)
        self.assertEqual(1, self.abuse("slow"))

    def test_leaving_leaves_nothing_behind(self) -> None:
        """A client that leaves, with or without a word, leaves nothing behind."""
        for says_so in (False, True):
            wire = self.connect(window=0)
            wire.request(f"{PATH}?_HLS_msn=10")
            wire.request("/live/k/big.m4s")
            if says_so:
                wire.client.close_connection()
                wire.flush()
                self.assertTrue(wire.is_closed)
            wire.leave()
            self.assertEqual(0, self.unsent)
            self.assertEqual(0, self.server.metric("http_waiting_requests"))
            self.assertEqual(0, self.server.metric("http2_connections"))
        self.assertEqual([], [call for call in self.clock.getDelayedCalls() if "Http2" in str(call.func)])


class DeferredBodyTests(Http2TestCase):
    def test_pull_producer_is_asked_again(self) -> None:
        """A producer that waits to be asked is asked whenever the client can take more."""
        asked: list[int] = []
        done: Deferred[None] = Deferred()

        class Pull:
            def resumeProducing(self) -> None:
                asked.append(1)
                stream.write(b"x" * 1000)
                if len(asked) == 3:
                    stream.unregisterProducer()
                    done.callback(None)

            def stopProducing(self) -> None:
                """It is over."""

        wire = self.connect(window=0)
        number = wire.request(f"{PATH}?_HLS_msn=10")
        stream = wire.connection._streams[number]
        wire.connection._h2.send_headers(number, [(b":status", b"200")])
        stream.registerProducer(Pull(), False)
        wire.turn()
        self.assertEqual([], asked)
        wire.client.increment_flow_control_window(10_000, number)
        wire.flush()
        wire.turn()
        self.assertEqual(3000, len(wire.answers[number].body))
        self.successResultOf(done)
