import gc
import sys
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import MisuseError, PeerProtocolError
from rapidrtmp.rtmp.chunk import Message
from rapidrtmp.rtmp.events import (
    AudioReceived,
    CommandIgnored,
    ConnectRequested,
    DataReceived,
    Event,
    MessageApplied,
    MessageIgnored,
    MetadataReceived,
    PublishEnded,
    PublishRequested,
    VideoReceived,
)
from rapidrtmp.rtmp.limits import SessionLimits
from rapidrtmp.rtmp.session import ServerSession, State
from tests.cutting import cuts_of, in_bytes
from tests.rtmp.amf_bytes import END, NULL, OBJECT, key, number, text
from tests.rtmp.chunks import set_chunk_size
from tests.rtmp.client import HANDSHAKE, Client, Status, command, connect, message, publish
from tests.slow import slow

#: Message types that mean something, and two that do not.
TYPES = (1, 2, 3, 4, 5, 6, 8, 9, 15, 16, 17, 18, 20, 22, 99)
METADATA = text("onMetaData") + b"\x08\0\0\0\x14" + key("width") + number(1280) + END
AUDIO_TAG = b"\x08\0\0\x02\0\0\0\0\0\0\0\xaf\x01\0\0\0\x0d"
VIDEO_TAG = b"\x09\0\0\x02\0\0\x28\0\0\0\0\x27\x01\0\0\0\x0d"

#: A whole connection that publishes.
VISIT = (
    HANDSHAKE
    + connect()
    + set_chunk_size(128)
    + command("createStream", 4)
    + publish()
    + message(18, text("@setDataFrame") + METADATA)
    + message(9, b"\x17\x00" + bytes(300))
    + message(8, b"\xaf\x01\x21", timestamp=23)
    + message(22, AUDIO_TAG + VIDEO_TAG, timestamp=100)
    + command("deleteStream", 0, number(1))
)
SEEN: list[Event] = [
    ConnectRequested("live", "media.example.org", "FMLE/3.0"),
    PublishRequested(1, "live", "k", {"token": "secret"}, "live"),
    MetadataReceived(1, {"width": 1280.0}),
    VideoReceived(1, 0, b"\x17\x00" + bytes(300)),
    AudioReceived(1, 23, b"\xaf\x01\x21"),
    AudioReceived(1, 100, b"\xaf\x01"),
    VideoReceived(1, 140, b"\x27\x01"),
    PublishEnded(1, "deleteStream"),
]


def visit(pieces: Iterable[bytes]) -> tuple[list[Event], bytes]:
    """What a server that accepts at once sees of a connection, and what it says."""
    session, seen, said = ServerSession(bytes), [], b""
    for piece in pieces:
        session.receive_data(piece)
        for event in session.events():
            if not isinstance(event, MessageApplied):
                seen.append(event)
            if isinstance(event, ConnectRequested):
                session.accept_connect()
            elif isinstance(event, PublishRequested):
                session.accept_publish(event.msid)
        said += session.data_to_send()
    return seen, said


class CuttingTests(SynchronousTestCase):
    """A connection, however the network cuts it."""

    def test_whole_and_by_byte(self) -> None:
        """In one piece or byte by byte, the same events come and the same answers go."""
        seen, said = visit([VISIT])
        self.assertEqual(SEEN, seen)
        self.assertEqual((seen, said), visit(in_bytes(VISIT)))

    @slow
    def test_every_split_point(self) -> None:
        """Cut once, anywhere past the handshake, the same events come."""
        for at in range(len(HANDSHAKE) - 2, len(VISIT)):
            self.assertEqual(SEEN, visit([VISIT[:at], VISIT[at:]])[0], at)

    @settings(max_examples=50)
    @given(cuts_of(VISIT))
    def test_any_cuts_make_same_events(self, pieces: list[bytes]) -> None:
        """However TCP cuts the bytes, the same events come."""
        self.assertEqual(SEEN, visit(pieces)[0])

    @settings(max_examples=100)
    @given(st.integers(0, len(VISIT) - 1), st.binary(min_size=1, max_size=20))
    def test_damage_makes_protocol_errors(self, at: int, damage: bytes) -> None:
        """Bytes overwritten anywhere make other events, or a PeerProtocolError, and nothing else."""
        data = VISIT[:at] + damage + VISIT[at + len(damage) :]
        try:
            visit([data[:1600], data[1600:]])
        except PeerProtocolError:
            pass

    @settings(max_examples=80)
    @given(st.lists(st.binary(max_size=100), max_size=8))
    def test_arbitrary_bytes_make_protocol_errors(self, pieces: list[bytes]) -> None:
        """Whatever comes behind a handshake, it makes events or a PeerProtocolError."""
        try:
            visit([HANDSHAKE, *pieces])
        except PeerProtocolError:
            pass

    @settings(max_examples=80)
    @given(st.lists(st.tuples(st.sampled_from(TYPES), st.binary(max_size=60))))
    def test_arbitrary_messages_make_protocol_errors(self, messages: list[tuple[int, bytes]]) -> None:
        """Whatever messages hold, they make events or a PeerProtocolError."""
        client = Client().publishing()
        try:
            for type_id, payload in messages:
                client.say(message(type_id, payload))
        except PeerProtocolError:
            self.assertIs(State.CLOSED, client.session.state)


class MemoryTests(SynchronousTestCase):
    """What a session leaves behind."""

    def test_no_cycles_are_left(self) -> None:
        """A session that is let go is gone at once, without the cycle collector, which would stop all streams."""
        gc.disable()
        self.addCleanup(gc.enable)
        client = Client().publishing()
        client.say(message(9, b"v"), message(22, AUDIO_TAG))
        self.assertEqual(2, sys.getrefcount(client.session))  # the client's, and the one that asks


class HandshakeTests(SynchronousTestCase):
    """The beginning of a connection."""

    def test_answers_before_c2(self) -> None:
        """S0, S1 and S2 go out as soon as C1 is there, for FFmpeg reads S2 before it writes C2."""
        client = Client()
        self.assertEqual([], client.say(HANDSHAKE[:1537]))
        self.assertEqual(3073, len(client.session.data_to_send()))
        self.assertIs(State.HANDSHAKING, client.session.state)

    def test_not_rtmp_closes_the_session(self) -> None:
        """Another protocol is an error, and closes the session for good."""
        client = Client()
        self.assertRaises(PeerProtocolError, client.say, b"GET / HTTP/1.1\r\n\r\n")
        self.assertIs(State.CLOSED, client.session.state)
        self.assertEqual([], client.say(HANDSHAKE))
        self.assertEqual(b"", client.session.data_to_send())

    def test_bytes_received_are_all(self) -> None:
        """Every byte counts, the handshake's too."""
        client = Client()
        client.say(VISIT[:3500])
        self.assertEqual(3500, client.session.bytes_received)


class MediaTests(SynchronousTestCase):
    """Audio, video and data."""

    def test_any_message_stream(self) -> None:
        """Media belongs to the publish whatever message stream and chunk stream it names."""
        client = Client().publishing()
        seen = client.say(message(9, b"v", msid=7, csid=40), message(8, b"", msid=0))
        self.assertEqual([VideoReceived(1, 0, b"v"), AudioReceived(1, 0, b"")], seen)

    def test_without_publish_media_is_ignored(self) -> None:
        """Media of no accepted publish is ignored, before a publish and after it."""
        client = Client().connected()
        self.assertEqual([MessageIgnored(9, "nothing is published")], client.say(message(9, b"v")))
        client = Client().publishing()
        client.say(command("deleteStream", 0, number(1)))
        self.assertEqual([MessageIgnored(8, "nothing is published")], client.say(message(8, b"a")))

    def test_held_until_accepted(self) -> None:
        """What an impatient encoder sends before it is accepted comes out afterwards, in order."""
        client = Client().connected()
        media = (message(18, METADATA), message(9, b"config"), message(8, b"config", timestamp=1))
        self.assertEqual([PublishRequested], [type(event) for event in client.say(publish(), *media)])
        client.session.accept_publish(1)
        expected = [
            MetadataReceived(1, {"width": 1280.0}),
            VideoReceived(1, 0, b"config"),
            AudioReceived(1, 1, b"config"),
            VideoReceived(1, 2, b"frame"),
        ]
        self.assertEqual(expected, client.say(message(9, b"frame", timestamp=2)))

    def test_held_within_bounds(self) -> None:
        """What is held before a publish is accepted is bounded; the rest is skipped, empty messages too."""
        client = Client(SessionLimits(held_bytes=1000)).connected()
        client.say(publish())
        skipped = client.say(message(9, bytes(700)), message(9, b"") * 10)
        self.assertEqual([MessageIgnored] * 8, [type(event) for event in skipped])
        client.session.accept_publish(1)
        self.assertEqual(3, len(client.say()))

    def test_held_for_nobody(self) -> None:
        """What was held for a publish that was refused, or given up, is not given to the next one."""
        for give_up in (
            lambda client: client.session.reject_publish(1, "NetStream.Publish.Denied", "No."),
            lambda client: client.say(command("deleteStream", 0, number(1))),
        ):
            client = Client().connected()
            client.say(publish(), message(9, b"old"))
            give_up(client)
            client.say(publish(), message(9, b"new"))
            client.session.accept_publish(1)
            self.assertEqual([VideoReceived(1, 0, b"new")], client.say())

    def test_metadata_in_either_amf(self) -> None:
        """Metadata comes with or without ``@setDataFrame``, in AMF0 or AMF3, and may be of no use."""
        client = Client().publishing()
        for type_id, payload, values in (
            (18, METADATA, {"width": 1280.0}),
            (18, text("@setDataFrame") + METADATA, {"width": 1280.0}),
            (15, b"\0" + METADATA, {"width": 1280.0}),
            (15, b"\0" + text("onMetaData") + b"\x11\x0a\x0b\x01\x0bwidth\x04\x8a\x00\x01", {"width": 1280.0}),
            (18, text("onMetaData") + OBJECT + END, {}),
            (18, text("onMetaData") + NULL, {}),
            (18, text("onMetaData"), {}),
        ):
            self.assertEqual([MetadataReceived(1, values)], client.say(message(type_id, payload)))

    def test_other_data_comes_along(self) -> None:
        """Any other data message comes with its name, values and time."""
        seen = Client().publishing().say(message(18, text("onTextData") + number(1) + NULL, timestamp=40))
        self.assertEqual([DataReceived(1, "onTextData", [1.0, None], 40)], seen)

    def test_aggregate_cut_short(self) -> None:
        """An aggregate that ends within a tag gives the tags before it, and the connection continues."""
        client = Client().publishing()
        seen = client.say(message(22, AUDIO_TAG + VIDEO_TAG[:12]), message(8, b"a"))
        self.assertEqual([AudioReceived, MessageIgnored, AudioReceived], [type(event) for event in seen])

    def test_aggregate_with_bad_data(self) -> None:
        """A data tag that is no AMF costs only itself."""
        bad = b"\x12\0\0\x01" + bytes(7) + b"\xff" + b"\0\0\0\x0c"
        seen = Client().publishing().say(message(22, bad + AUDIO_TAG))
        self.assertEqual([MessageIgnored, AudioReceived], [type(event) for event in seen])

    def test_unknown_types_are_ignored(self) -> None:
        """Shared objects and unknown types are ignored."""
        seen = Client().publishing().say(message(16, b""), message(19, b""), message(99, b"x"))
        self.assertEqual([16, 19, 99], [event.type_id for event in seen if isinstance(event, MessageIgnored)])

    def test_unreadable_in_a_row(self) -> None:
        """A hundred unreadable messages in a row are borne, as are any number with good ones between."""
        client = Client().publishing()
        bad = message(18, b"\xff")
        for _ in range(2):
            self.assertEqual(100, len(client.say(bad * 100)))
            client.say(message(8, b"a"))
        with self.assertRaisesRegex(PeerProtocolError, "101 unreadable messages"):
            client.say(bad * 101)


class LimitTests(SynchronousTestCase):
    """What a peer may make us hold."""

    def test_before_accepting_messages_are_short(self) -> None:
        """Before a publish is accepted no message may be long; afterwards one may be as long as a keyframe is."""
        big = message(9, bytes(70_000))
        self.assertEqual([VideoReceived(1, 0, bytes(70_000))], Client().publishing().say(big))
        self.assertRaises(PeerProtocolError, Client().connected().say, big)

    def test_still_long_after_the_end(self) -> None:
        """A keyframe that crosses the end of its publish on the wire is no error."""
        client = Client().publishing()
        client.session.end_publish(1, "NetStream.Publish.Denied", "Stopped.")
        self.assertEqual([MessageIgnored(9, "nothing is published")], client.say(message(9, bytes(70_000))))

    def test_advice_changes_nothing_else(self) -> None:
        """A publisher can be sent a report of how it does, which changes nothing; no other client gets one."""
        client = Client().publishing()
        client.heard()
        client.session.advise("Keyframes are far apart.")
        self.assertIn(b"Keyframes are far apart.", client.session.data_to_send())
        self.assertEqual([AudioReceived(1, 0, b"a")], client.say(message(8, b"a")))
        connected = Client().connected().session
        connected.data_to_send()
        connected.advise("Keyframes are far apart.")
        self.assertEqual(b"", connected.data_to_send())

    def test_events_before_the_error(self) -> None:
        """What came before a broken byte is delivered before the error."""
        client = Client().publishing()
        client.session.receive_data(message(8, b"a") + set_chunk_size(0))
        events = client.session.events()
        self.assertEqual(AudioReceived(1, 0, b"a"), next(events))
        self.assertRaises(PeerProtocolError, next, events)


class AcknowledgementTests(SynchronousTestCase):
    """Telling the client how much has come."""

    def heard_numbers(self, client: Client) -> list[int]:
        return [int.from_bytes(heard.payload, "big") for heard in client.heard() if heard.type_id == 3]

    def test_announced_window_is_acknowledged(self) -> None:
        """Each time a window of bytes has come, the client gets the sum of all."""
        client = Client().publishing()
        client.say(message(5, (1000).to_bytes(4, "big"), msid=0, csid=2))
        start = client.session.bytes_received
        client.say(message(8, bytes(1500)))
        client.say(message(8, bytes(10)))
        client.say(message(8, bytes(1500)))
        first, second = self.heard_numbers(client)
        self.assertTrue(start + 1500 < first < second == client.session.bytes_received)

    def test_default_window_is_acknowledged(self) -> None:
        """A client that announces no window, or none at all of it, gets it every two and a half megabytes."""
        client = Client().publishing()
        client.say(message(5, bytes(4), msid=0, csid=2))
        piece = message(9, bytes(50_000))
        for _ in range(2_600_000 // len(piece)):
            client.say(piece)
        self.assertEqual(1, len(self.heard_numbers(client)))

    def test_past_four_gigabytes(self) -> None:
        """The count on the wire wraps at 2**32, ours does not."""
        client = Client().publishing()
        client.session.bytes_received = 2**32 - 100
        client.say(message(8, bytes(150)))
        self.assertGreater(client.session.bytes_received, 2**32)
        self.assertEqual([client.session.bytes_received - 2**32], self.heard_numbers(client))
        client.session.bytes_received += 2_500_000
        client.say(message(8, b""))
        self.assertEqual([client.session.bytes_received - 2**32], self.heard_numbers(client))


class ControlTests(SynchronousTestCase):
    """Protocol control and user control."""

    def test_every_message_is_an_event(self) -> None:
        """Whatever a message means, or does not, it makes an event, so that reading can stop behind it."""
        session = Client().publishing().session
        messages = [message(3, bytes(4)), message(4, b"\x00\x06" + bytes(4)), message(22, b""), message(99, b"")]
        messages += [message(9, b""), command("releaseStream", 2, text("k")), message(20, b""), message(18, b"")]
        session.receive_data(b"".join(messages))
        self.assertEqual(len(messages), len(list(session.events())))

    def test_ping_is_answered_alike(self) -> None:
        """A ping is answered with its own timestamp."""
        client = Client().connected()
        self.assertEqual([], client.say(message(4, b"\x00\x06\x00\x00\x04\xd2", msid=0, csid=2)))
        self.assertEqual([Message(4, 0, 0, b"\x00\x07\x00\x00\x04\xd2", 2)], client.heard())

    def test_our_ping_after_the_handshake(self) -> None:
        """A ping goes out once the handshake is done, and its answer is taken silently."""
        client = Client()
        client.session.send_ping(5)
        self.assertEqual(b"", client.session.data_to_send())
        client.connected().session.send_ping(2**32 + 5)
        self.assertEqual([Message(4, 0, 0, b"\x00\x06\x00\x00\x00\x05", 2)], client.heard())
        self.assertEqual([], client.say(message(4, b"\x00\x07\x00\x00\x00\x05", msid=0)))

    def test_peer_bandwidth_that_is_news(self) -> None:
        """A bandwidth that is news is said back as a window, one that is known is not."""
        client = Client().connected()
        for window in (2_500_000, 1000, 1000):
            client.say(message(6, window.to_bytes(4, "big") + b"\x02", msid=0))
        self.assertEqual([Message(5, 0, 0, b"\x00\x00\x03\xe8", 2)], client.heard())

    def test_nothing_fatal_passes_silently(self) -> None:
        """Acknowledgements, aborts and user control of every kind pass in silence; short ones are ignored."""
        client = Client().connected()
        quiet = [message(3, bytes(4)), message(2, bytes(4)), *(message(4, bytes([0, n]) + bytes(8)) for n in range(40))]
        self.assertEqual([], client.say(*quiet))
        for type_id, payload in ((4, b"\x00"), (5, b""), (6, b"\x00")):
            (event,) = client.say(message(type_id, payload))
            self.assertIsInstance(event, MessageIgnored)


class DecisionTests(SynchronousTestCase):
    """What the server decides."""

    def test_reject_on_its_message_stream(self) -> None:
        """A refused publish is answered on its message stream, with the reason."""
        client = Client().connected()
        client.say(publish(msid=3))
        client.session.reject_publish(3, "NetStream.Publish.Denied", "The token has expired.")
        (heard,) = client.heard()
        self.assertEqual(3, heard.msid)
        self.assertIn(b"The token has expired.", heard.payload)
        self.assertIs(State.CONNECTED, client.session.state)

    def test_end_is_an_error_there(self) -> None:
        """A publish that the server ends is answered with an error, and makes no event."""
        client = Client().publishing()
        client.session.end_publish(1, "NetStream.Publish.Denied", "Stopped.")
        self.assertEqual([Status(1, "error", "NetStream.Publish.Denied")], client.heard_statuses())
        self.assertEqual([], client.say(command("deleteStream", 0, number(1))))

    def test_refuse_connection_only_once(self) -> None:
        """A server that goes down says so on the connection itself, once, and hears nothing more."""
        client = Client().publishing()
        client.session.refuse_connection("The server is restarting.")
        self.assertEqual([Status(0, "error", "NetConnection.Connect.AppShutdown")], client.heard_statuses())
        self.assertIs(State.CLOSED, client.session.state)
        client.session.refuse_connection("Again.")
        self.assertEqual(([], []), (client.say(message(8, b"a")), client.heard()))

    def test_refuse_within_events(self) -> None:
        """Refused in the middle of reading, even of an aggregate, a client is read no further."""
        for data in (message(8, b"a") * 3, message(22, AUDIO_TAG + VIDEO_TAG)):
            client = Client().publishing()
            client.session.receive_data(data)
            seen = []
            for event in client.session.events():
                seen.append(event)
                client.session.refuse_connection("Enough.")
            self.assertEqual(1, len(seen))

    def test_refuse_unconnected_sends_nothing(self) -> None:
        """A client that has not connected cannot be sent anything."""
        client = Client()
        client.say(HANDSHAKE)
        client.heard()
        client.session.refuse_connection("The server is full.")
        self.assertEqual([], client.heard())

    def test_misuse_is_the_callers_bug(self) -> None:
        """A decision about nothing, or about another message stream, is a bug of the caller."""
        session = Client().connected().session
        self.assertRaises(MisuseError, session.accept_publish, 0)
        self.assertRaises(MisuseError, session.end_publish, 1, "code", "why")
        client = Client().connected()
        client.say(publish())
        self.assertRaises(MisuseError, client.session.reject_publish, 2, "code", "why")
        client.session.accept_publish(1)
        self.assertRaises(MisuseError, client.session.accept_publish, 1)

    def test_ignored_name_is_an_event(self) -> None:
        """An error in a command is an event, not the end."""
        self.assertEqual([CommandIgnored("onBWDone")], Client().connected().say(command("onBWDone", 0)))
