"""The client's end: against our own server's end, and against answers that other servers give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import MisuseError, PeerProtocolError
from rapidrtmp.rtmp.amf0 import read_values, write_values
from rapidrtmp.rtmp.chunk import ChunkLimits, ChunkReader, Message
from rapidrtmp.rtmp.command import read_parts
from rapidrtmp.rtmp.events import (
    AudioReceived,
    CommandIgnored,
    ConnectAccepted,
    ConnectRejected,
    ConnectRequested,
    DataReceived,
    EofReceived,
    Event,
    MessageApplied,
    MetadataReceived,
    PlayAccepted,
    PlayEnded,
    PlayRejected,
    PlayRequested,
    PlayStopped,
    PublishAccepted,
    PublishEnded,
    PublishRejected,
    PublishRequested,
    PublishStopped,
    Status,
    StatusReceived,
    VideoReceived,
)
from rapidrtmp.rtmp.limits import SessionLimits
from rapidrtmp.rtmp.session import ClientSession, ServerSession, State
from rapidrtmp.rtmp.session.base import Session
from tests.cutting import in_bytes, in_pieces
from tests.rtmp.client import message
from tests.slow import slow

DATA = Path(__file__).parents[2] / "data"
URL = "rtmp://media.example.org/live"
#: S0, S1 and S2 of a server that repeats nothing.
SERVER_HANDSHAKE = b"\x03" + bytes(1536) + bytes(1536)
START = "NetStream.Publish.Start"
PICTURE = bytes(range(256)) * 400  # two chunks

Cut = Callable[[bytes], list[bytes]]


def whole(data: bytes) -> list[bytes]:
    """As it is."""
    return [data]


class Wire:
    """
    Our two ends and what is between them.

    :ivar said: the bytes of each end.
    :ivar seen: the events of each end, but for those that only mark a message.
    """

    def __init__(self, cut: Cut = whole, limits: SessionLimits = SessionLimits()) -> None:  # noqa: B008
        self.client = ClientSession(bytes, limits)
        self.server = ServerSession(bytes)
        self.cut = cut
        self.said: dict[Session, list[bytes]] = {self.client: [], self.server: []}
        self.seen: dict[Session, list[Event]] = {self.client: [], self.server: []}

    def carry(self) -> None:
        """Carry bytes to and fro until both ends have nothing more to say; the server connects every client."""
        is_quiet = False
        while not is_quiet:
            is_quiet = not self._carry(self.client, self.server) and not self._carry(self.server, self.client)

    def _carry(self, sender: Session, receiver: Session) -> bool:
        data = sender.data_to_send()
        self.said[sender].append(data)
        for piece in self.cut(data):
            receiver.receive_data(piece)
            for event in receiver.events():
                if isinstance(event, ConnectRequested):
                    self.server.accept_connect()
                if not isinstance(event, MessageApplied):
                    self.seen[receiver].append(event)
        return bool(data)

    def at_client(self) -> list[Event]:
        """What the client has seen since last time."""
        self.carry()
        seen, self.seen[self.client] = self.seen[self.client], []
        return seen

    def at_server(self) -> list[Event]:
        """Likewise the server."""
        self.carry()
        seen, self.seen[self.server] = self.seen[self.server], []
        return seen

    def connected(self) -> Wire:
        """Connect to ``live``."""
        self.client.connect("live", URL)
        assert [ConnectAccepted] == [type(event) for event in self.at_client()]
        self.at_server()
        return self

    def publishing(self) -> Wire:
        """Publish, accepted."""
        self.connected().client.publish("k?token=secret")
        self.at_server()
        self.server.accept_publish(1)
        assert PublishAccepted(1) in self.at_client()
        return self

    def playing(self) -> Wire:
        """Play, accepted."""
        self.connected().client.play("k")
        self.at_server()
        self.server.accept_play(1)
        assert PlayAccepted(1) in self.at_client()
        return self


class PublishTests(SynchronousTestCase):
    """Publishing to our own server."""

    def test_connect_tells_the_server(self) -> None:
        """The server learns the application, the software and all that was said besides; the client what it answers."""
        wire = Wire()
        wire.client.connect("live", URL, flash_version="Relay/1", properties={"capsEx": 3, "fourCcList": ["hvc1"]})
        (accepted,) = wire.at_client()
        (requested,) = wire.at_server()
        self.assertEqual(ConnectRequested("live", "media.example.org", "Relay/1"), requested)
        assert isinstance(requested, ConnectRequested)
        assert isinstance(accepted, ConnectAccepted)
        self.assertEqual((3.0, ["hvc1"]), (requested.properties["capsEx"], requested.properties["fourCcList"]))
        self.assertEqual("FMS/3,0,1,123", accepted.properties["fmsVer"])
        self.assertEqual("NetConnection.Connect.Success", accepted.properties["code"])

    def test_publish_arrives_as_sent(self) -> None:
        """A publish arrives with its name and token; metadata and media come out as they were sent."""
        wire = Wire().connected()
        wire.client.publish("k?token=secret")
        self.assertEqual([PublishRequested(1, "live", "k", {"token": "secret"}, "live")], wire.at_server())
        wire.server.accept_publish(1)
        self.assertIn(PublishAccepted(1), wire.at_client())
        wire.client.send_metadata({"width": 1280})
        wire.client.send_audio(2**32 + 23, b"\xaf\x01")
        wire.client.send_video(40, PICTURE)
        wire.client.send_data(50, "onTextData", 1)
        expected = [
            MetadataReceived(1, {"width": 1280.0}),
            AudioReceived(1, 23, b"\xaf\x01"),
            VideoReceived(1, 40, PICTURE),
            DataReceived(1, "onTextData", [1.0], 50),
        ]
        self.assertEqual(expected, wire.at_server())

    def test_end_frees_the_name(self) -> None:
        """A publish that ends frees its name, and the connection may publish again."""
        wire = Wire().publishing()
        wire.client.end()
        self.assertEqual([PublishEnded(1, "FCUnpublish")], wire.at_server())
        wire.client.end()
        self.assertEqual([], wire.at_server())
        wire.client.publish("other")
        self.assertIn(PublishRequested(1, "live", "other", {}, "live"), wire.at_server())

    def test_taken_back_before_the_answer(self) -> None:
        """A request may be taken back before it is answered, however far it got."""
        wire = Wire().connected()
        wire.client.publish("k")
        wire.client.end()
        wire.carry()
        self.assertIs(State.CONNECTED, wire.client.state)
        wire.client.publish("k")
        wire.carry()
        wire.client.end()
        self.assertIsInstance(wire.at_server()[-1], PublishEnded)
        self.assertIs(State.CONNECTED, wire.server.state)

    def test_rejected_publish_has_a_reason(self) -> None:
        """A refusal comes with its code and reason, and leaves the connection as it was."""
        wire = Wire().connected()
        wire.client.publish("k")
        wire.carry()
        wire.server.reject_publish(1, "NetStream.Publish.Denied", "The token has expired.")
        status = Status("error", "NetStream.Publish.Denied", "The token has expired.")
        self.assertIn(PublishRejected(status), wire.at_client())
        self.assertIs(State.CONNECTED, wire.client.state)

    def test_stopped_publish_has_a_reason(self) -> None:
        """A publish that the server ends is answered with the reason; advice alone ends nothing."""
        wire = Wire().publishing()
        wire.server.advise("Keyframes are far apart.")
        self.assertEqual(
            [StatusReceived(Status("warning", "NetStream.Publish.Advice", "Keyframes are far apart."))],
            wire.at_client(),
        )
        wire.server.end_publish(1, "NetStream.Publish.Denied", "Stopped.")
        self.assertEqual([PublishStopped(Status("error", "NetStream.Publish.Denied", "Stopped."))], wire.at_client())
        self.assertRaises(MisuseError, wire.client.send_audio, 0, b"")

    def test_server_goes_down(self) -> None:
        """A server that parts with us says so; what ran is over."""
        wire = Wire().publishing()
        wire.server.refuse_connection("The server is restarting.")
        expected = Status("error", "NetConnection.Connect.AppShutdown", "The server is restarting.")
        self.assertEqual([PublishStopped(expected)], wire.at_client())

    def test_application_unknown_closes_the_session(self) -> None:
        """A connection that is refused closes the session."""
        wire = Wire()
        wire.client.connect("other", URL)
        wire.server.receive_data(wire.client.data_to_send())
        list(wire.server.events())
        wire.client.receive_data(wire.server.data_to_send())
        list(wire.client.events())
        wire.server.receive_data(wire.client.data_to_send())
        for _ in wire.server.events():
            wire.server.reject_connect("NetConnection.Connect.InvalidApp", "There is no application 'other'.")
        expected = Status("error", "NetConnection.Connect.InvalidApp", "There is no application 'other'.")
        self.assertEqual([ConnectRejected(expected)], wire.at_client())
        self.assertIs(State.CLOSED, wire.client.state)

    def test_pings_of_either_end(self) -> None:
        """Either end answers the other's pings."""
        wire = Wire().publishing()
        wire.server.send_ping(5)
        wire.client.send_ping(6)
        self.assertEqual(([], []), (wire.at_client(), wire.at_server()))

    def test_acknowledgements_after_each_window(self) -> None:
        """After each window of bytes the receiver says so, in either direction, and nothing else comes of it."""
        wire = Wire().playing()
        for timestamp in range(60):
            wire.server.send_video(timestamp, bytes(100_000))
            wire.carry()
        self.assertGreater(wire.client._acknowledged, 5_000_000)

    def test_misuse_says_nothing_outside(self) -> None:
        """Asking in the wrong order is a bug of the caller, and says nothing to the server."""
        client = ClientSession(bytes)
        self.assertRaises(MisuseError, client.publish, "k")
        client.connect("live", URL)
        self.assertRaises(MisuseError, client.connect, "live", URL)
        self.assertRaises(MisuseError, client.play, "k")
        self.assertRaises(MisuseError, client.send_video, 0, b"")
        wire = Wire().publishing()
        self.assertRaises(MisuseError, wire.client.publish, "other")
        self.assertRaises(MisuseError, wire.client.play, "other")


class PlayTests(SynchronousTestCase):
    """Playing from our own server."""

    def test_play_arrives_with_parameters(self) -> None:
        """A play arrives with its name and parameters; media comes out as it was sent, however large."""
        wire = Wire().connected()
        wire.client.play("k?token=secret")
        self.assertEqual([PlayRequested(1, "live", "k", {"token": "secret"})], wire.at_server())
        wire.server.accept_play(1)
        self.assertIn(PlayAccepted(1), wire.at_client())
        wire.server.send_data(0, "onMetaData", {"width": 1280})
        wire.server.send_video(0, PICTURE)
        wire.server.send_audio(2**32 - 1, b"\xaf\x01")
        expected = [
            MetadataReceived(1, {"width": 1280.0}),
            VideoReceived(1, 0, PICTURE),
            AudioReceived(1, 2**32 - 1, b"\xaf\x01"),
        ]
        self.assertEqual(expected, wire.at_client())

    def test_end_allows_another_play(self) -> None:
        """A player that leaves says so, and may play something else."""
        wire = Wire().playing()
        wire.client.end()
        self.assertEqual([PlayEnded(1, "deleteStream")], wire.at_server())
        wire.client.play("other")
        self.assertEqual([PlayRequested(1, "live", "other", {})], wire.at_server())

    def test_stopped_stream_is_reported_once(self) -> None:
        """The end of a stream is reported once."""
        wire = Wire().playing()
        wire.server.end_play(1, "The stream has ended.")
        stopped = PlayStopped(Status("status", "NetStream.Play.Stop", "The stream has ended."))
        self.assertEqual([EofReceived(1), stopped], wire.at_client())
        self.assertIs(State.CONNECTED, wire.client.state)

    def test_rejected_play_is_a_refusal(self) -> None:
        """A stream that is not there is a refusal."""
        wire = Wire().connected()
        wire.client.play("k")
        wire.carry()
        wire.server.reject_play(1, "NetStream.Play.StreamNotFound", "No such stream.")
        self.assertEqual(
            [PlayRejected(Status("error", "NetStream.Play.StreamNotFound", "No such stream."))], wire.at_client()
        )


class CuttingTests(SynchronousTestCase):
    """Both ends, however TCP cuts what they say."""

    def converse(self, cut: Cut) -> dict[str, list[Event]]:
        """A whole publish and then a whole play on one connection."""
        wire = Wire(cut).publishing()
        wire.client.send_metadata({"encoder": "relay"})
        wire.client.send_video(0, PICTURE[:3000])
        wire.client.send_audio(23, b"\xaf\x01")
        wire.client.end()
        at_server = wire.at_server()
        wire.client.play("k")
        at_server += wire.at_server()
        wire.server.accept_play(1)
        wire.server.send_video(0, PICTURE[:3000])
        wire.carry()
        wire.server.end_play(1, "Over.")
        return {"client": wire.at_client(), "server": at_server}

    def test_any_cut_is_seen_alike(self) -> None:
        """Byte by byte, in segments and whole, both see the same."""
        expected = self.converse(whole)
        for end in ("client", "server"):
            self.assertIn(VideoReceived(1, 0, PICTURE[:3000]), expected[end])
        self.assertEqual(expected, self.converse(in_bytes))
        self.assertEqual(expected, self.converse(lambda data: in_pieces(data, 1448)))

    @slow
    @settings(max_examples=40)
    @given(st.lists(st.integers(1, 2000), min_size=1, max_size=20))
    def test_arbitrary_cuts_are_seen_alike(self, sizes: list[int]) -> None:
        """So they do however else it is cut."""

        def cut(data: bytes) -> list[bytes]:
            pieces, at, turn = [], 0, 0
            while at < len(data):
                pieces.append(data[at : at + sizes[turn % len(sizes)]])
                at += sizes[turn % len(sizes)]
                turn += 1
            return pieces

        self.assertEqual(self.converse(whole), self.converse(cut))

    @given(st.binary(max_size=300), st.integers(0, 3))
    def test_arbitrary_bytes_raise_protocol_errors(self, data: bytes, stage: int) -> None:
        """Whatever a server sends, nothing but a protocol error comes of it."""
        wire = Wire() if stage == 0 else (Wire().connected() if stage == 1 else None)
        wire = wire or (Wire().publishing() if stage == 2 else Wire().playing())
        wire.client.receive_data(data)
        try:
            list(wire.client.events())
        except PeerProtocolError:
            self.assertIs(State.CLOSED, wire.client.state)


class Elsewhere:
    """
    A client that is connected to another server, whose answers are written by the test.

    :ivar client: connected.
    """

    def __init__(self, limits: SessionLimits = SessionLimits()) -> None:  # noqa: B008
        self.client = ClientSession(bytes, limits)
        self._reader = ChunkReader(ChunkLimits())
        self._handshake_left = 1 + 1536 + 1536

    def connected(self) -> Elsewhere:
        """Shake hands and connect."""
        self.client.connect("live", URL)
        self.hears(SERVER_HANDSHAKE)
        self.answers("_result", 1, {"fmsVer": "x"}, {"level": "status", "code": "NetConnection.Connect.Success"})
        self.said()
        return self

    def hears(self, data: bytes) -> list[Event]:
        """The events of what the server sends."""
        self.client.receive_data(data)
        return [event for event in self.client.events() if not isinstance(event, MessageApplied)]

    def answers(self, *values: Any, msid: int = 0) -> list[Event]:
        """The events of a command of the server's."""
        return self.hears(message(20, write_values(*values), msid=msid, csid=3))

    def said(self) -> list[Message]:
        """What the client has sent since last time, behind its handshake."""
        data = self.client.data_to_send()
        skipped = min(self._handshake_left, len(data))
        self._handshake_left -= skipped
        self._reader.receive_data(data[skipped:])
        return list(self._reader.messages())

    def said_commands(self) -> list[list[Any]]:
        """The values of the commands among them."""
        return [list(read_values(each.payload)) for each in self.said() if each.type_id == 20]


class OtherServerTests(SynchronousTestCase):
    """What other servers say."""

    def test_words_of_an_encoder(self) -> None:
        """A publisher says what encoders say, each command where servers look for it."""
        elsewhere = Elsewhere()
        elsewhere.client.connect("live", URL)
        self.assertEqual([], elsewhere.hears(SERVER_HANDSHAKE))
        ((name, transaction, described),) = elsewhere.said_commands()
        self.assertEqual(("connect", 1.0), (name, transaction))
        expected = {"app": "live", "type": "nonprivate", "flashVer": "FMLE/3.0 (compatible; RapidRTMP)", "tcUrl": URL}
        self.assertEqual(expected, described)
        elsewhere.answers("_result", 1, {}, {"code": "NetConnection.Connect.Success"})
        window, chunk_size = elsewhere.said()
        self.assertEqual((5, 1), (window.type_id, chunk_size.type_id))
        elsewhere.client.publish("k")
        expected_commands: list[list[Any]] = [
            ["releaseStream", 2.0, None, "k"],
            ["FCPublish", 3.0, None, "k"],
            ["createStream", 4.0, None],
        ]
        self.assertEqual(expected_commands, elsewhere.said_commands())
        elsewhere.answers("_result", 4, None, 5)
        (publish,) = elsewhere.said()
        self.assertEqual((5, ["publish", 5.0, None, "k", "live"]), (publish.msid, list(read_values(publish.payload))))
        self.assertEqual([PublishAccepted(5)], elsewhere.answers("onStatus", 0, None, {"code": START}, msid=5))
        elsewhere.client.end()
        farewell = [["FCUnpublish", 6.0, None, "k"], ["deleteStream", 7.0, None, 5.0]]
        self.assertEqual(farewell, elsewhere.said_commands())

    def test_words_of_a_player(self) -> None:
        """A player says what it buffers, and that it takes what is live."""
        elsewhere = Elsewhere().connected()
        elsewhere.client.play("k", buffer_ms=500)
        elsewhere.said()
        elsewhere.answers("_result", 2, None, 1)
        play, buffered = elsewhere.said()
        self.assertEqual((1, ["play", 3.0, None, "k", -2000.0]), (play.msid, list(read_values(play.payload))))
        self.assertEqual(b"\0\3\0\0\0\1\0\0\1\xf4", buffered.payload)

    def test_unanswered_politeness_is_fine(self) -> None:
        """A server that refuses releaseStream and FCPublish, or sends notices of its own, is borne."""
        elsewhere = Elsewhere().connected()
        elsewhere.client.publish("k")
        no = {"level": "error", "code": "NetConnection.Call.Failed", "description": ""}
        self.assertEqual([], elsewhere.answers("_error", 2, None, no) + elsewhere.answers("_error", 3, None, no))
        self.assertEqual([CommandIgnored("onBWDone")], elsewhere.answers("onBWDone", 0, None, 8192))
        notice = elsewhere.answers("onFCPublish", 0, None, {"code": START, "description": "k"})
        self.assertEqual([StatusReceived(Status("status", START, "k"))], notice)
        self.assertIs(State.PUBLISH_PENDING, elsewhere.client.state)

    def test_no_stream_is_a_refusal(self) -> None:
        """A createStream that fails, or gives no number, is a refusal."""
        for name, result in (("_error", {"code": "x"}), ("_result", None), ("_result", -1), ("_result", 1.5)):
            elsewhere = Elsewhere().connected()
            elsewhere.client.publish("k")
            (event,) = elsewhere.answers(name, 4, None, result)
            self.assertIsInstance(event, PublishRejected)
            elsewhere.client.play("k")
            self.assertIs(State.PLAY_PENDING, elsewhere.client.state)

    def test_redirect_is_part_of_refusal(self) -> None:
        """Where a server would have us go is part of its refusal; so is a request to reconnect."""
        elsewhere = Elsewhere()
        elsewhere.client.connect("live", URL)
        elsewhere.hears(SERVER_HANDSHAKE)
        other = "rtmp://other.example.org/live"
        refusal = {"level": "error", "code": "NetConnection.Connect.Rejected", "ex": {"code": 302, "redirect": other}}
        (event,) = elsewhere.answers("_error", 1, None, refusal)
        assert isinstance(event, ConnectRejected)
        self.assertEqual(other, event.status.redirect)
        self.assertNotIn("other", repr(event))
        elsewhere = Elsewhere().connected()
        request = {"level": "status", "code": "NetConnection.Connect.ReconnectRequest", "tcUrl": other}
        (event,) = elsewhere.answers("onStatus", 0, None, request)
        assert isinstance(event, StatusReceived)
        self.assertEqual(other, event.status.redirect)

    def test_refused_by_status(self) -> None:
        """Some servers refuse a connection by a status instead of an answer."""
        elsewhere = Elsewhere()
        elsewhere.client.connect("live", URL)
        elsewhere.hears(SERVER_HANDSHAKE)
        refusal = {"level": "error", "code": "NetConnection.Connect.InvalidApp", "description": "no"}
        (event,) = elsewhere.answers("onStatus", 0, None, refusal)
        self.assertEqual(ConnectRejected(Status("error", "NetConnection.Connect.InvalidApp", "no")), event)

    def test_challenge_is_passed_on(self) -> None:
        """The description of a refusal, which may be a challenge to authenticate, is passed on."""
        elsewhere = Elsewhere()
        elsewhere.client.connect("live", URL)
        elsewhere.hears(SERVER_HANDSHAKE)
        challenge = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : "
        (event,) = elsewhere.answers("_error", 1, None, {"level": "error", "code": "x", "description": challenge})
        assert isinstance(event, ConnectRejected)
        self.assertEqual(challenge, event.status.description)

    def test_media_before_the_status(self) -> None:
        """Media that comes ahead of Play.Start is held, within bounds, and comes out behind it."""
        elsewhere = Elsewhere().connected()
        elsewhere.client.play("k")
        elsewhere.answers("_result", 2, None, 1)
        self.assertEqual([], elsewhere.hears(message(9, b"config")))
        seen = elsewhere.answers("onStatus", 0, None, {"level": "status", "code": "NetStream.Play.Start"}, msid=1)
        self.assertEqual([PlayAccepted(1), VideoReceived(1, 0, b"config")], seen)

    def test_limits_of_an_endless_server(self) -> None:
        """A server that talks without end while nothing runs is an error."""
        elsewhere = Elsewhere(SessionLimits(unpublished_messages=10)).connected()
        with self.assertRaises(PeerProtocolError):
            for _ in range(20):
                elsewhere.answers("onStatus", 0, None, {"code": "x"})
        self.assertIs(State.CLOSED, elsewhere.client.state)
        self.assertEqual([], elsewhere.said())

    def test_not_rtmp_is_an_error(self) -> None:
        """What is no RTMP server is an error."""
        client = ClientSession(bytes)
        client.receive_data(b"HTTP/1.1 400 Bad Request\r\n")
        self.assertRaises(PeerProtocolError, list, client.events())


class CaptureTests(SynchronousTestCase):
    """Beside FFmpeg, byte for byte."""

    def test_same_commands_as_ffmpeg(self) -> None:
        """We say the same commands as FFmpeg's publisher, in the same order and on the same message streams."""
        captured = (DATA / "ffmpeg-5.1-extended-timestamps.rtmp").read_bytes()[1 + 2 * 1536 :]
        reader = ChunkReader(ChunkLimits())
        reader.receive_data(captured)
        theirs = [each for each in reader.messages() if each.type_id == 20]
        names = [read_parts(each.payload).name for each in theirs]
        reader = ChunkReader(ChunkLimits())
        wire = Wire()
        wire.publishing().client.end()
        wire.carry()
        reader.receive_data(b"".join(wire.said[wire.client])[1 + 2 * 1536 :])
        ours = [each for each in reader.messages() if each.type_id == 20]
        self.assertEqual(names, [read_parts(each.payload).name for each in ours])
        self.assertEqual([each.msid for each in theirs], [each.msid for each in ours])
