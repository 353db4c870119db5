"""Live streams as FLV, through the whole HTTP side: HTTP/1.1 and 1.0, HTTP/2, WebSocket."""

from __future__ import annotations

import itertools
from typing import Any

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.stream import LiveStream
from rapidrtmp.media import AudioConfig, TimedMetadata
from rapidrtmp.names import StreamName
from rapidrtmp.rtmp.command import read_data
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from tests.web.http2.kit import Http2Wire
from tests.web.kit import Server, Wire
from tests.web.test_tokens import GuardedCase

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": KEY,
}


class Transport(StringTransport):
    """A transport that can be cut off."""

    def abortConnection(self) -> None:
        self.disconnecting = True


def read_chunks(data: bytes) -> tuple[bytes, bool]:
    """What chunks of HTTP/1.1 hold, and whether the last one is there."""
    body = b""
    while data:
        size_line, _, data = data.partition(b"\r\n")
        size = int(size_line, 16)
        if not size:
            return body, True
        body, data = body + data[:size], data[size + 2 :]
    return body, False


def read_messages(data: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """What binary messages of WebSocket hold, and the control frames among them."""
    body, control = b"", []
    while data:
        opcode, size, at = data[0] & 15, data[1], 2
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(data[2:at], "big")
        payload, data = data[at : at + size], data[at + size :]
        if opcode == 2:
            body += payload
        else:
            control.append((opcode, payload))
    return body, control


def read_tags(data: bytes) -> list[tuple[int, int, bytes]]:
    """The tags behind the header of a file: type, time, body."""
    assert data[:4] == b"FLV\x01"
    tags, at = [], 13
    while at < len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        time = int.from_bytes(data[at + 7 : at + 8] + data[at + 4 : at + 7], "big")
        tags.append((data[at], time, data[at + 11 : at + 11 + size]))
        assert int.from_bytes(data[at + 11 + size : at + 15 + size], "big") == size + 11
        at += size + 15
    return tags


def masked(opcode: int, payload: bytes = b"") -> bytes:
    """A frame of a client."""
    mask = b"\x01\x02\x03\x04"
    body = bytes(byte ^ key for byte, key in zip(payload, itertools.cycle(mask)))
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + body


class FlvCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()

    def publish(self, *, video: bool = True, audio: bool = True, key: str = "k") -> LiveStream:
        """A stream of some GOPs of a second each."""
        stream = self.server.publish(key)
        self.source = FrameSource(make_video_track() if video else None, make_audio_track() if audio else None, gop=30)
        stream.tracks_changed(self.source.tracks)
        self.feed(stream, 2)
        return stream

    def feed(self, stream: LiveStream, gops: int = 1) -> None:
        for frame in self.source.take(gops):
            stream.frame_received(frame)
        self.turn()

    def turn(self, seconds: float = 0.05) -> None:
        self.server.clock.pump([0, seconds])

    def ask(self, path: str = "/live/k.flv", **headers: str) -> Wire:
        wire = Wire(self.server.site, transport=Transport())
        self.addCleanup(wire.leave)
        wire.request("GET", path, **headers)
        self.turn()
        return wire

    def answer(self, wire: Wire) -> tuple[str, bytes]:
        head, _, body = wire.transport.value().partition(b"\r\n\r\n")
        return head.decode(), body

    def tags(self, wire: Wire) -> list[tuple[int, int, bytes]]:
        return read_tags(read_chunks(self.answer(wire)[1])[0])


class AnswerTests(FlvCase):
    def test_answer_begins_at_the_newest_keyframe(self) -> None:
        """The file's header, metadata and configurations come first, then the newest keyframe and all since."""
        self.publish()
        wire = self.ask()
        head, body = self.answer(wire)
        self.assertIn("HTTP/1.1 200 OK", head)
        for field in (
            "Content-Type: video/x-flv",
            "Cache-Control: no-store",
            "X-Accel-Buffering: no",
            "Access-Control-Allow-Origin: *",
            "Transfer-Encoding: chunked",
        ):
            self.assertIn(field, head)
        self.assertNotIn("\r\nContent-Length", head)
        data, is_whole = read_chunks(body)
        self.assertFalse(is_whole)
        self.assertEqual(5, data[4])
        tags = read_tags(data)
        self.assertEqual([18, 9, 8], [kind for kind, _, _ in tags[:3]])
        self.assertEqual((9, 1000, b"\x17\x01"), (*tags[3][:2], tags[3][2][:2]))
        self.assertEqual(30, sum(kind == 9 for kind, _, _ in tags[3:]))

    def test_what_is_said_comes_between_the_frames(self) -> None:
        """What the encoder or a sink says of a moment comes as a data message, among the frames of that moment."""
        stream = self.publish()
        wire = self.ask()
        self.feed(stream)
        cue = {"name": "ad", "parameters": {"duration": 30.0}}
        stream.metadata_received(TimedMetadata(3_000, b"ID3", name="onCuePoint", values=(cue,)))
        stream.metadata_received(TimedMetadata(3_000, b"ID3", values=({"score": "2:1"},)))
        stream.metadata_received(TimedMetadata(3_000, b"ID3"))
        stream.metadata_received(TimedMetadata(3_000, b"ID3", name="onOdd", values=(b"no AMF",)))
        self.feed(stream)
        tags = self.tags(wire)
        said = [(at, *read_data(body)) for at, (kind, _, body) in enumerate(tags) if kind == 18][1:]
        self.assertEqual([("onCuePoint", [cue]), ("onTextData", [{"score": "2:1"}])], [each[1:] for each in said])
        before, (_, time, _), after = tags[said[0][0] - 1 : said[0][0] + 2]
        self.assertEqual(sorted((before[1], time)), [before[1], time])
        self.assertTrue(all(2_900 <= time <= 3_000 for _, time, _ in tags[said[0][0] - 1 : said[0][0] + 2]), after)

    def test_flags_are_true(self) -> None:
        """The flags of the header, and metadata, announce what comes and nothing else."""
        for video, audio, flags in ((True, False, 1), (False, True, 4)):
            key = f"k{flags}"
            self.publish(video=video, audio=audio, key=key)
            data = read_chunks(self.answer(self.ask(f"/live/{key}.flv"))[1])[0]
            self.assertEqual(flags, data[4])
            _, (said,) = read_data(read_tags(data)[0][2])
            assert isinstance(said, dict)
            self.assertEqual((video, audio), (said["hasVideo"], said["hasAudio"]))

    def test_other_tracks_end_the_answer(self) -> None:
        """Where audio comes late the answer ends: the next one announces it."""
        stream = self.publish(audio=False)
        wire = self.ask()
        stream.discontinuity("a track came")
        stream.tracks_changed((*self.source.tracks, make_audio_track()))
        self.assertTrue(read_chunks(self.answer(wire)[1])[1])
        self.assertTrue(wire.transport.disconnecting)

    def test_stream_that_ends(self) -> None:
        """With the stream the answer ends, whole, and the connection is closed."""
        stream = self.publish()
        wire = self.ask()
        self.server.registry.end(stream)
        self.assertTrue(read_chunks(self.answer(wire)[1])[1])
        self.assertTrue(wire.transport.disconnecting)
        wire.leave()
        self.server.clock.advance(60)

    def test_absent_stream_is_waited_for(self) -> None:
        """A request for a stream that is not there waits ten seconds, then it is 404, worth asking again."""
        wire = self.ask()
        self.turn(9)
        self.assertFalse(wire.is_answered)
        self.turn(1.5)
        reply = wire.reply()
        self.assertEqual((404, "2"), (reply.status, reply.headers["retry-after"]))
        wire = self.ask()
        self.publish()
        self.turn(0.2)
        self.assertEqual(3, len([kind for kind, _, _ in self.tags(wire)[:3]]))

    def test_head_and_options(self) -> None:
        """HEAD has the header and no body, OPTIONS the rules for pages of other origins."""
        self.publish()
        wire = Wire(self.server.site)
        wire.request("HEAD", "/live/k.flv")
        head, body = self.answer(wire)
        self.assertIn("200 OK", head)
        self.assertIn("video/x-flv", head)
        self.assertEqual(b"", body)
        wire.leave()
        self.assertEqual(204, self.server.request("OPTIONS", "/live/k.flv").status)

    def test_old_clients_get_bare_tags(self) -> None:
        """HTTP/1.0 has no chunks: the answer ends with the connection."""
        stream = self.publish()
        wire = Wire(self.server.site, transport=Transport())
        wire.send(b"GET /live/k.flv HTTP/1.0\r\nHost: localhost\r\n\r\n")
        self.turn()
        head, body = self.answer(wire)
        self.assertNotIn("chunked", head)
        self.assertEqual(18, read_tags(body)[0][0])
        self.server.registry.end(stream)
        wire.leave()
        self.server.clock.advance(60)

    def test_players_are_viewers(self) -> None:
        """Players of all kinds are counted as long as they are there, and in the API by kind."""
        stream = self.publish()
        wires = [self.ask(), self.ask(), self.ask(**HANDSHAKE)]
        self.assertEqual(3, stream.viewers.count(0))
        described = self.server.get("/api/v1/streams/k").json()
        self.assertEqual((3, {"rtmp": 0, "http": 2, "websocket": 1}), (described["viewers"], described["players"]))
        self.assertEqual(2, self.server.metric("players", protocol="http"))
        for wire in wires:
            wire.leave()
        self.assertEqual(0, stream.viewers.count(0))
        self.assertNotIn("play", stream.fan_out.names)

    def test_selection_and_its_limits(self) -> None:
        """One kind can be asked for; what the stream does not have is 404."""
        self.publish()
        kinds = {kind for kind, _, _ in self.tags(self.ask("/live/k.flv?only=audio"))}
        self.assertEqual({8, 18}, kinds)
        for query in ("rendition=360p", "video=7", "only=x"):
            self.assertEqual(404, self.ask(f"/live/k.flv?{query}").reply().status, query)

    def test_codec_that_web_players_lack(self) -> None:
        """Codecs that players in pages do not take are left out; with no other there is nothing to play."""
        from rapidrtmp.codec.table import CODECS

        stream = self.server.publish()
        track = CODECS["fLaC"].make_track(2, AudioConfig(bytes(34), "fLaC", 48_000, 2, 1024))
        stream.tracks_changed((track,))
        self.assertEqual(404, self.ask().reply().status)


class GuardedTests(GuardedCase):
    def publish(self) -> None:
        source = FrameSource(make_video_track(), None, gop=30)
        self.stream.discontinuity("another publisher")
        self.stream.tracks_changed(source.tracks)
        for frame in source.take(1):
            self.stream.frame_received(frame)

    def ask(self, path: str, **headers: str) -> Wire:
        wire = Wire(self.server.site, transport=Transport())
        self.addCleanup(wire.leave)
        wire.request("GET", path, **headers)
        self.server.clock.pump([0, 0.05])
        return wire

    def test_token_in_all_its_places(self) -> None:
        """A token is taken in the query, in the path and as a field; without one it is 401."""
        self.publish()
        token = self.issue()
        for path in (
            f"/live/k.flv?token={token}",
            f"/live/~{token}/k.flv",
            f"/live/k/~{token}/index.flv",
        ):
            self.assertIn(b" 200 OK", self.ask(path).transport.value(), path)
            self.assertIn(b" 101 ", self.ask(path, **HANDSHAKE).transport.value(), path)
        self.assertIn(b" 200 OK", self.ask("/live/k.flv", Authorization=f"Bearer {token}").transport.value())
        for path in ("/live/k.flv", "/live/k.flv?token=wrong", "/live/k/index.flv"):
            self.assertIn(self.ask(path).reply().status, (401, 403), path)

    def test_expired_token_ends_the_answer(self) -> None:
        """A player whose token ends is disconnected within seconds."""
        self.publish()
        wire = self.ask(f"/live/k.flv?token={self.issue(lifetime_s=60)}")
        self.advance(50)
        self.assertFalse(wire.transport.disconnecting)
        for _ in range(15):
            self.advance(1)
        self.assertTrue(wire.transport.disconnecting)
        self.advance(1)


class WebSocketTests(FlvCase):
    def test_messages_hold_the_stream(self) -> None:
        """Over WebSocket the same bytes come in binary messages, behind the handshake of RFC 6455."""
        stream = self.publish()
        wire = self.ask(**HANDSHAKE)
        head, body = self.answer(wire)
        self.assertIn("101 Switching Protocols", head)
        self.assertIn("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", head)
        data, control = read_messages(body)
        self.assertEqual([], control)
        self.assertEqual([18, 9, 8, 9], [kind for kind, _, _ in read_tags(data)[:4]])
        self.server.registry.end(stream)
        (closing,) = read_messages(self.answer(wire)[1])[1]
        self.assertEqual((8, b"\x03\xe8"), (closing[0], closing[1][:2]))
        self.assertTrue(wire.transport.disconnecting)
        wire.leave()
        self.server.clock.advance(60)

    def test_pings_and_farewells_are_answered(self) -> None:
        """A ping is answered, a farewell likewise, and the connection closed."""
        self.publish()
        wire = self.ask(**HANDSHAKE)
        wire.send(masked(9, b"hello")[:3])
        wire.send(masked(9, b"hello")[3:] + masked(2, b"data is passed over"))
        self.assertEqual([(10, b"hello")], read_messages(self.answer(wire)[1])[1])
        wire.send(masked(8, b"\x03\xe8"))
        self.assertEqual(8, read_messages(self.answer(wire)[1])[1][-1][0])
        self.assertTrue(wire.transport.disconnecting)
        self.turn(2)

    def test_what_is_no_frame_of_a_client(self) -> None:
        """What breaks the protocol closes the connection, with the status for it."""
        self.publish()
        for data in (
            b"\x81\x01x",
            b"\xf1\x80\0\0\0\0",
            b"\x83\x80\0\0\0\0",
            b"\x89\xfe\x01\0",
            b"\x82\xff" + b"\xff" * 12,
        ):
            wire = self.ask(**HANDSHAKE)
            wire.send(data)
            (closing,) = read_messages(self.answer(wire)[1])[1]
            self.assertEqual((8, b"\x03\xea"), (closing[0], closing[1][:2]), data)
            self.turn(2)

    def test_what_is_no_handshake(self) -> None:
        """A handshake that is none is refused in words of HTTP."""
        self.publish()
        for field, value, status in (("Sec_WebSocket_Key", "short", 400), ("Sec_WebSocket_Version", "8", 426)):
            reply = self.ask(**{**HANDSHAKE, field: value}).reply()
            self.assertEqual(status, reply.status)
        wire = self.ask("/live/absent.flv", **HANDSHAKE)
        self.turn(11)
        self.assertEqual(404, wire.reply().status)


class Http2Tests(FlvCase):
    def test_stream_over_http2(self) -> None:
        """Over HTTP/2 the same bytes come in frames of data, up to the end of the stream."""
        stream = self.publish()
        wire = Http2Wire(self.server)
        self.addCleanup(wire.leave)
        number = wire.request("/live/k.flv")
        for _ in range(5):
            wire.turn()
        answer: Any = wire.answers[number]
        self.assertEqual((200, "video/x-flv"), (answer.status, answer.headers["content-type"]))
        tags = read_tags(bytes(answer.body))
        self.assertEqual([18, 9, 8, 9], [kind for kind, _, _ in tags[:4]])
        self.assertEqual(1, stream.viewers.count(0))
        self.server.registry.end(stream)
        wire.turn()
        self.assertEqual(0, stream.viewers.count(0))
        self.assertIsNotNone(self.server.registry.find(StreamName("live", "k")))
        wire.leave()
        self.server.clock.advance(60)
