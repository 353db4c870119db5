"""The edge: deadlines, limits, pings, and that nothing leaves a connection but its own end."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.net.limits import ConnectionLimits
from rapidrtmp.rtmp.message import UserControlType, read_user_control
from tests.cutting import cuts_of
from tests.rtmp.chunks import set_chunk_size
from tests.rtmp.client import HANDSHAKE, command, connect, message, publish
from tests.slow import slow

from .edge import NAME, Edge, Peer, TcpTransport, media


class EdgeCase(SynchronousTestCase):
    policy = ConnectionLimits()

    def setUp(self) -> None:
        self.edge = Edge(self.policy)
        self.addCleanup(self.check_nothing_left)

    def check_nothing_left(self) -> None:
        """When all is over no timer runs."""
        self.edge.close()
        self.assertEqual([], self.edge.clock.getDelayedCalls())


class DeadlineTests(EdgeCase):
    def timed_out(self, peer: Peer, stage: str) -> bool:
        return peer.is_closed and self.edge.metric("rtmp_timeouts_total", stage=stage) == 1

    def test_handshake_must_be_done_in_time(self) -> None:
        """A handshake must be done in ten seconds, however busily its bytes drip."""
        peer = self.edge.peer()
        for _ in range(9):
            peer.say(b"\x03")
            self.edge.wait(1)
        self.assertFalse(peer.is_closed)
        self.edge.wait(1.5)
        self.assertTrue(self.timed_out(peer, "handshake"))

    def test_publish_must_come_in_time(self) -> None:
        """A connection that does not publish within fifteen seconds is closed, whatever else it says."""
        peer = self.edge.peer().connect()
        for _ in range(14):
            peer.say(command("_checkbw", 0))
            self.edge.wait(1)
        self.assertFalse(peer.is_closed)
        self.edge.wait(1.5)
        self.assertTrue(self.timed_out(peer, "publish"))

    def test_between_two_publishes(self) -> None:
        """After a publish has ended there is as much time for the next one."""
        peer = self.edge.publisher()
        for _ in range(60):
            peer.say(message(8, b"\xaf\x01\x21"))
            self.edge.wait(0.5)
        peer.say(command("FCUnpublish", 6))
        self.edge.wait(14)
        self.assertFalse(peer.is_closed)
        self.edge.wait(2)
        self.assertTrue(self.timed_out(peer, "publish"))

    def test_idle_publisher_is_closed(self) -> None:
        """Half a minute of silence ends a publisher; its stream waits for it to return."""
        peer = self.edge.publisher()
        peer.say(*media(1))
        self.edge.wait(29)
        self.assertFalse(peer.is_closed)
        self.edge.wait(2)
        self.assertTrue(self.timed_out(peer, "idle"))

    def test_ping_once_per_silence(self) -> None:
        """A silent publisher is pinged, once per silence; any byte is a sign of life."""
        peer = self.edge.publisher()
        for _ in range(3):
            self.edge.wait(20)
            pings = [heard for heard in peer.heard() if heard.type_id == 4]
            kinds = [read_user_control(ping.payload)[0] for ping in pings]
            self.assertEqual([UserControlType.PING_REQUEST], kinds)
            peer.say(message(4, b"\x00\x07" + bytes(4), msid=0, csid=2))
        self.assertFalse(peer.is_closed)

    def test_stubborn_peer_is_cut_off(self) -> None:
        """A peer that does not take the last words is cut off a second later; one that leaves is not."""
        peer = self.edge.peer()
        cut: list[bool] = []
        self.patch(peer.transport, "abortConnection", lambda: cut.append(True))
        self.edge.wait(10.5)
        self.assertEqual((True, []), (peer.is_closed, cut))
        self.edge.wait(1)
        self.assertEqual([True], cut)
        other = self.edge.peer()
        self.patch(other.transport, "abortConnection", lambda: cut.append(True))
        self.edge.wait(10.5)
        other.leave()
        self.edge.wait(2)
        self.assertEqual([True], cut)

    def test_a_bug_in_one_connection(self) -> None:
        """Whatever goes wrong at a deadline ends that connection, and the others are watched on."""
        victim, other = self.edge.publisher(), self.edge.peer("192.0.2.2")

        def fail(time_ms: int) -> None:
            raise ZeroDivisionError("on purpose")

        self.patch(victim.protocol.role, "watch", fail)
        self.edge.wait(1)
        self.assertTrue(victim.is_closed)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.edge.wait(10)
        self.assertTrue(self.timed_out(other, "handshake"))


class PauseTests(EdgeCase):
    """The process was stopped, or the host suspended."""

    def test_waiting_media_is_read_first(self) -> None:
        """A publisher whose media waits in the socket is read before it is judged; a silent one is closed later."""
        peer, silent = self.edge.publisher(), self.edge.peer("192.0.2.2").connect().publish("other?token=x")
        peer.say(*media(1))
        self.edge.pause(300)
        peer.say(*media(1, 1_000))
        self.edge.wait(29)
        peer.say(*media(1, 2_000))
        self.edge.wait(2)
        self.assertEqual((False, True), (peer.is_closed, silent.is_closed))

    def test_deadlines_begin_anew(self) -> None:
        """A connection on its way has its time again, and no more."""
        peer = self.edge.peer()
        self.edge.wait(9)
        self.edge.pause(60)
        self.edge.wait(9)
        self.assertFalse(peer.is_closed)
        self.edge.wait(2)
        self.assertTrue(peer.is_closed)

    def test_late_media_is_not_blamed(self) -> None:
        """What was sent in the meantime comes late and all at once: no finding, and it is not held back."""
        peer = self.edge.publisher()
        sent = list(media(60))
        for at in range(0, len(sent), 72):  # a second each
            second = at // 72
            if second == 10:
                self.edge.pause(40)
            if not 10 <= second < 50:
                self.edge.wait(1)
            peer.say(*sent[at : at + 72])
        self.edge.wait(1)
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.assertEqual((), stream.findings)
        self.assertEqual("producing", peer.transport.producerState)
        self.assertEqual([], peer.statuses())


class LimitTests(EdgeCase):
    policy = ConnectionLimits(max_connections=3, max_connections_per_ip=2)

    def test_limits_where_all_publish(self) -> None:
        """Where all publish, one beyond the limits, in all or of one address, is not let in; when one leaves, it is."""
        peers = [self.edge.peer("192.0.2.1").connect().publish(f"k{number}?token=secret") for number in range(2)]
        self.assertTrue(self.edge.peer("192.0.2.1").transport.disconnected)
        peers.append(self.edge.peer("192.0.2.2").connect().publish("k2?token=secret"))
        self.assertTrue(self.edge.peer("192.0.2.3").transport.disconnected)
        self.assertEqual(1, self.edge.metric("rtmp_connections_refused_total", limit="max_connections_per_ip"))
        self.assertEqual(1, self.edge.metric("rtmp_connections_refused_total", limit="max_connections"))
        peers[0].leave()
        self.assertFalse(self.edge.peer("192.0.2.1").transport.disconnected)
        self.assertEqual(4, self.edge.metric("rtmp_connections_total"))
        self.assertEqual(3, len(self.edge.factory.connections))

    def test_addresses_are_forgotten(self) -> None:
        """Nothing is kept of an address whose connections are all closed."""
        for number in range(20):
            self.edge.peer(f"192.0.2.{number}").leave()
        self.assertEqual({}, dict(self.edge.factory._by_client))


class ConnectionTests(EdgeCase):
    def test_options_of_the_socket(self) -> None:
        """TCP is set not to wait and to look after dead peers; a UNIX socket has no such options."""
        transport = TcpTransport()
        self.addCleanup(transport.socket.close)
        protocol: Any = self.edge.factory.buildProtocol(UNIXAddress("/run/x"))
        protocol.makeConnection(transport)
        self.assertEqual(["no delay True", "keep alive True"], transport.options)
        self.assertEqual("local", protocol.peer)

    def test_broken_protocol_ends_the_connection(self) -> None:
        """A peer that breaks the protocol is disconnected and counted; its stream waits for it."""
        peer = self.edge.publisher()
        peer.say(*media(1))
        peer.say(set_chunk_size(0))
        peer.say(publish("k"), *media(1, 1_000))
        self.assertTrue(peer.is_closed)
        self.assertEqual(1, self.edge.metric("rtmp_protocol_errors_total"))
        peer.leave()
        self.assertEqual("interrupted", self.edge.collectors[0].call_names[-1])

    def test_nothing_after_the_close(self) -> None:
        """What comes in after the server has closed is not read."""
        peer = self.edge.peer("192.0.2.1").connect()
        peer.protocol.close()
        peer.protocol.close()
        peer.publish()
        self.assertEqual([], self.edge.authenticator.requests)

    def test_bug_ends_the_connection(self) -> None:
        """A bug of ours ends the connection, is logged once, and frees the name."""
        peer = self.edge.publisher()
        self.patch(peer.protocol.role, "react", lambda *_: 1 / 0)
        peer.say(*list(media(1))[:1])
        self.assertTrue(peer.is_closed)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        peer.leave()
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.assertIsNone(stream.publisher)
        self.assertEqual(set(), self.edge.factory.connections)

    def test_a_bug_at_the_end(self) -> None:
        """A connection is gone even when ending its publish fails."""
        peer = self.edge.publisher()
        self.patch(peer.protocol.role, "leave", lambda: 1 / 0)
        self.assertRaises(ZeroDivisionError, peer.leave)
        self.assertEqual(set(), self.edge.factory.connections)

    def test_close_all_with_last_words(self) -> None:
        """All can be closed, with their last words; it is done when the last is gone."""
        self.successResultOf(self.edge.factory.close_all())
        peers = [self.edge.publisher(), self.edge.peer("192.0.2.2")]
        done = self.edge.factory.close_all()
        self.assertTrue(all(peer.is_closed for peer in peers))
        peers[0].leave()
        self.assertNoResult(done)
        peers[1].leave()
        self.successResultOf(done)

    def test_received_bytes_are_counted(self) -> None:
        """What came in is counted over all connections."""
        self.edge.peer().say(b"\x03", bytes(10))
        self.edge.peer().say(b"\x03")
        self.assertEqual(12, self.edge.factory.received_bytes)


@slow
class AnyBytesTests(SynchronousTestCase):
    @given(st.lists(st.binary(max_size=80), max_size=8), st.integers(0, 3))
    def test_any_bytes_at_any_stage(self, pieces: list[bytes], stage: int) -> None:
        """Whatever bytes come, at whatever stage, nothing leaves the protocol but its own end."""
        edge = Edge()
        peer = edge.peer()
        for data in (HANDSHAKE, connect() + command("createStream", 4), publish())[:stage]:
            peer.say(data)
        for piece in pieces:
            peer.say(piece)
            edge.wait(0.5)
        peer.leave()
        edge.close()
        self.assertEqual([], edge.clock.getDelayedCalls())
        self.assertEqual([], self.flushLoggedErrors())

    @given(cuts_of(HANDSHAKE + connect() + command("createStream", 4) + publish() + b"".join(media(1))))
    def test_any_cuts_give_same_frames(self, pieces: list[bytes]) -> None:
        """However TCP cuts what an encoder sends, the same frames come out."""
        edge = Edge()
        peer = edge.peer()
        for piece in pieces:
            peer.say(piece)
        peer.leave()
        self.assertEqual(25, sum(frame.track.id == 1 for frame in edge.collectors[0].frames))
        edge.close()

    @given(st.lists(st.tuples(st.integers(0, 2_000), st.binary(min_size=1, max_size=3)), max_size=5))
    def test_broken_media_harms_its_connection_alone(self, mistakes: list[tuple[int, bytes]]) -> None:
        """Media with bytes that are not the encoder's is a matter for that connection alone."""
        edge = Edge()
        sent = bytearray(b"".join(media(1)))
        for at, data in mistakes:
            sent[at : at + len(data)] = data
        peer = edge.publisher()
        peer.say(bytes(sent))
        edge.wait(6)
        peer.leave()
        edge.close()
        self.assertEqual([], self.flushLoggedErrors())
