"""What hostile clients may do over RTMP: each attempt comes to a clear end, and costs publishers nothing."""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

from twisted.internet.address import IPv6Address
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from rapidrtmp.interfaces import Verdict
from rapidrtmp.net.limits import ConnectionLimits
from rapidrtmp.rtmp.limits import DEFAULT_LIMITS
from tests.net.edge import Peer, media
from tests.net.test_connection import EdgeCase
from tests.rtmp.amf_bytes import number, text
from tests.rtmp.chunks import fmt0
from tests.rtmp.client import HANDSHAKE, command, connect, message
from tests.slow import slow

NO = Verdict(allowed=False, reason="the token is malformed")
CLOSED = "NetConnection.Connect.Closed"
SHUTDOWN = "NetConnection.Connect.AppShutdown"
DENIED = "NetStream.Publish.Denied"


class HostileCase(EdgeCase):
    """An edge, and what it logs."""

    def setUp(self) -> None:
        super().setUp()
        self.lines: Counter[str] = Counter()
        globalLogPublisher.addObserver(self.count_line)
        self.addCleanup(globalLogPublisher.removeObserver, self.count_line)

    def count_line(self, event: Any) -> None:
        if event["log_level"].name != "debug":
            self.lines[event.get("log_format") or ""] += 1

    def assertLoggedOnce(self, words: str) -> None:
        """One line of the log holds ``words``."""
        self.assertEqual(1, sum(count for line, count in self.lines.items() if words in line), self.lines)


class FloodTests(HostileCase):
    """More connections than there may be."""

    policy = ConnectionLimits(max_connections=20, max_connections_per_ip=8, max_unauthorised_connections=10)

    def test_flood_from_one_address(self) -> None:
        """A flood from one address closes its own oldest connections, and no one else's."""
        waiting = self.edge.peer("192.0.2.2").connect()
        flood = []
        for _ in range(200):
            flood.append(self.edge.peer("192.0.2.1"))
            for gone in flood:
                if gone.is_closed and gone.protocol in self.edge.factory.connections:
                    gone.leave()
        self.assertFalse(waiting.is_closed)
        self.assertEqual([False] * 8, [peer.is_closed for peer in flood[-8:]])
        self.assertEqual(192, sum(peer.is_closed for peer in flood))
        self.assertGreater(self.edge.metric("rtmp_connections_evicted_total", limit="max_connections_per_ip"), 100)
        self.assertLoggedOnce("make room")

    def test_flood_from_many_addresses(self) -> None:
        """A flood from everywhere closes itself; a publisher gets in and stays, and so does one that is on its way."""
        slow = self.edge.peer("198.51.100.2").connect()
        flood = [self.edge.peer(f"192.0.2.{host}") for host in range(10)]
        publisher = self.edge.publisher("198.51.100.1")
        flood += [self.edge.peer(f"203.0.113.{host}") for host in range(100)]
        self.assertTrue(flood[0].is_closed)
        self.assertFalse(publisher.is_closed)
        self.assertEqual(10, len(self.edge.factory.pending_connections))
        self.assertFalse(slow.is_closed)
        self.assertEqual(101, self.edge.metric("rtmp_connections_evicted_total", limit="max_unauthorised_connections"))
        self.assertEqual(16, self.lines["{peer}: closed to make room for another connection: {limit} reached"])

    def test_connected_clients_learn_why(self) -> None:
        """A client that is connected gets the reason for being closed."""
        first = self.edge.peer("192.0.2.1").connect()
        first.heard()
        for _ in range(8):
            self.edge.peer("192.0.2.1").connect()
        self.assertEqual([("error", SHUTDOWN, "there are too many connections; try again")], first.statuses())

    def test_ipv6_network_is_one_client(self) -> None:
        """All addresses of one /64 are one client's."""
        peers = [Peer(self.edge.factory, IPv6Address("TCP", f"2001:db8::{host:x}", 1)) for host in range(9)]
        self.assertEqual([True, *[False] * 8], [peer.is_closed for peer in peers])

    def test_unpublished_is_a_guest_again(self) -> None:
        """A connection whose publish has ended counts as one that does not publish, and may have to go."""
        publisher = self.edge.publisher("198.51.100.1")
        self.assertEqual(0, len(self.edge.factory.pending_connections))
        publisher.say(command("deleteStream", 6, number(1)))
        self.edge.wait(0.25)
        self.assertEqual(1, len(self.edge.factory.pending_connections))
        for host in range(10):
            self.edge.peer(f"192.0.2.{host}").connect()
        self.assertTrue(publisher.is_closed)


class SlownessTests(HostileCase):
    """Those who take their time."""

    def test_slow_handshake_is_closed(self) -> None:
        """A byte a second is not progress: the handshake has its deadline in all."""
        peer = self.edge.peer()
        for at in range(12):
            if not peer.is_closed:
                peer.say(HANDSHAKE[at : at + 1])
            self.edge.wait(1)
        self.assertTrue(peer.is_closed)
        self.assertEqual(1, self.edge.metric("rtmp_timeouts_total", stage="handshake"))

    def test_slow_commands_are_closed(self) -> None:
        """Nor is a command now and then, or a ping: so is the way to the publish."""
        peer = self.edge.peer().connect()
        for _ in range(17):
            if not peer.is_closed:
                peer.say(command("releaseStream", 2, text("k")))
            self.edge.wait(1)
        self.assertTrue(peer.is_closed)
        self.assertEqual(1, self.edge.metric("rtmp_timeouts_total", stage="publish"))

    def test_idle_sockets_are_closed(self) -> None:
        """Five hundred sockets that say nothing are gone after the deadline, with one line for them all."""
        peers = [self.edge.peer(f"192.0.2.{number % 10}") for number in range(500)]
        self.edge.wait(11)
        self.assertTrue(all(peer.is_closed for peer in peers))
        self.assertEqual(500, self.edge.metric("rtmp_timeouts_total", stage="handshake"))
        self.assertEqual(10, self.lines["{peer} timed out ({stage}) after {ms} ms"])

    def test_half_open_publisher_is_closed(self) -> None:
        """A publisher whose connection died without a word is pinged, and then gone."""
        peer = self.edge.publisher()
        peer.say(*media(seconds=1))
        peer.heard()
        self.edge.wait(11)
        self.assertEqual([4], [heard.type_id for heard in peer.heard() if heard.type_id != 20])  # 20: that it is silent
        self.edge.wait(20)
        self.assertTrue(peer.is_closed)
        self.assertEqual(1, self.edge.metric("rtmp_timeouts_total", stage="idle"))

    def test_peer_that_never_reads_is_closed(self) -> None:
        """A peer that does not read its answers is cut off as soon as 64 KiB of them wait."""
        peer = self.edge.publisher()
        peer.transport.producer.pauseProducing()  # as a transport does that holds so much
        self.assertTrue(peer.is_closed)
        self.assertEqual(1, self.edge.metric("rtmp_connections_unread_total"))
        self.assertLoggedOnce("does not read")

    def test_says_much_at_once(self) -> None:
        """One that sends handshake, connect and publish at once is answered, though more waits than is read at once."""
        peer = self.edge.peer().connect()
        peer.transport.producer.pauseProducing()  # as a transport does that holds 4 KiB
        self.assertFalse(peer.is_closed)
        self.edge.authenticator.answer = NO
        peer.publish()
        self.assertIn(NO.reason.encode(), peer.transport.value())
        self.assertEqual(0, self.edge.metric("rtmp_connections_unread_total"))

    def test_never_reads_before_it_publishes(self) -> None:
        """A peer that does not read its answers is cut off as well while it does not publish."""
        peer = self.edge.peer().connect()
        peer.transport.producer.pauseProducing()
        peer.protocol._add_to_backlog(60_000)
        self.assertFalse(peer.is_closed)
        peer.protocol._add_to_backlog(6_000)
        self.assertTrue(peer.is_closed)


class BombTests(HostileCase):
    """Bytes that are meant to hurt."""

    def assertBrokenOff(self, words: str, *data: bytes) -> None:
        """Saying ``data`` to a server that is connected ends it, with ``words`` for the peer and one for the log."""
        for _ in range(3):
            peer = self.edge.peer().connect()
            peer.heard()
            for each in data:
                if not peer.is_closed:
                    peer.say(each)
            self.assertTrue(peer.is_closed)
            *_, (level, code, description) = peer.statuses()
            self.assertEqual(("error", CLOSED), (level, code))
            self.assertIn(words, description)
        self.assertEqual(3, self.edge.metric("rtmp_protocol_errors_total"))
        self.assertLoggedOnce("RTMP protocol error")

    def test_chunk_streams_are_bounded(self) -> None:
        """Ten thousand chunk streams: the seventeenth is one too many."""
        chunks = [fmt0(csid, 0, 200, 9, 1, bytes(128)) for csid in range(10, 10_010)]
        self.assertBrokenOff("one chunk stream more than the limit, 16", *chunks)

    def test_declared_length_is_refused_early(self) -> None:
        """A message of 16 MiB is refused by its header, before anything of it is kept."""
        self.assertBrokenOff("message of 16777215 bytes", fmt0(5, 0, 0xFFFFFF, 9, 1, b"\0"))

    def test_partial_messages_are_bounded(self) -> None:
        """So are many of just less than is allowed, as soon as they hold more than one pending connection may."""
        size = DEFAULT_LIMITS.unauthorised_message_bytes
        headers = [message(1, (60_000).to_bytes(4, "big"), msid=0, csid=2)]
        headers += [fmt0(csid, 0, size, 9, 1, bytes(60_000)) for csid in range(10, 14)]
        self.assertBrokenOff("bytes of incomplete messages", *headers)

    def test_message_streams_are_bounded(self) -> None:
        """A client that creates one message stream after the other is stopped at the ninth."""
        self.assertBrokenOff("more than 8 message streams", *[command("createStream", 4)] * 20)

    def test_commands_before_publishing_are_bounded(self) -> None:
        """A client that talks and never publishes is stopped after a hundred commands."""
        self.assertBrokenOff("commands without publishing", *[command("releaseStream", 4, text("k"))] * 200)

    @slow
    def test_amf_values_are_bounded(self) -> None:
        """Of values too deep, too many or too wide little is read, and a client that continues is stopped."""
        deep = text("onMetaData") + b"\x0a\0\0\0\1" * 5000
        many = text("onMetaData") + b"\x05" * 5000
        wide = text("onMetaData") + b"\x0a\x7f\xff\xff\xff" + b"\x05" * 5000
        bombs = [message(18, bomb, msid=1, csid=4) for bomb in (deep, many, wide)]
        self.assertBrokenOff("messages without publishing", *(bombs * 334))

    def test_pings_before_publishing_are_bounded(self) -> None:
        """A client that pings and never publishes is stopped after a thousand."""
        self.assertBrokenOff("messages without publishing", *[message(4, b"\0\6\0\0\0\1", msid=0, csid=2)] * 1001)


class _Stopwatch(Clock):
    """A clock on which each look takes a tenth of a millisecond."""

    def seconds(self) -> float:
        self.rightNow += 0.0001
        return super().seconds()


class SharingTests(HostileCase):
    """Pending connections share a little of each turn of the reactor."""

    def test_turns_of_pending_connections(self) -> None:
        """A pending connection that sends a lot is read in pieces, with pauses; a publisher is read at once."""
        publisher = self.edge.publisher()
        greedy = self.edge.peer("192.0.2.2").connect()
        self.edge.clock.__class__ = _Stopwatch  # from here on time passes while we work
        nothing = message(8, b"", csid=4)
        greedy.say(nothing * 300)
        self.assertEqual("paused", greedy.transport.producerState)
        self.assertEqual(1, len(self.edge.factory.read_budget))
        publisher.say(*media(seconds=1))
        self.edge.clock.advance(0.01)
        self.assertEqual("producing", greedy.transport.producerState)
        self.assertEqual(300, self.edge.metric("rtmp_ignored_total", what="message"))
        self.assertGreater(greedy.protocol.used_s, 0.004)

    def test_tiny_messages_of_a_publisher(self) -> None:
        """A publisher whose messages are tiny has a little at once and the rest within the budget; nothing is lost."""
        greedy, other = self.edge.publisher(), self.edge.peer("192.0.2.2").connect()
        self.edge.clock.__class__ = _Stopwatch
        greedy.say(message(99, b"", csid=4) * 1000)
        ignored = self.edge.metric("rtmp_ignored_total", what="message")
        self.assertLess(ignored, 150)
        self.assertEqual("paused", greedy.transport.producerState)
        other.publish("other?token=x")
        self.edge.clock.calls.pop(0).func()
        self.assertIn("live/other", [str(stream.name) for stream in self.edge.registry])
        self.edge.clock.advance(0.25)
        self.assertEqual(1000, self.edge.metric("rtmp_ignored_total", what="message"))
        self.assertEqual("producing", greedy.transport.producerState)

    def test_silent_messages_of_a_publisher(self) -> None:
        """So are messages that mean nothing to anyone (acknowledgements) or are answered at once (pings)."""
        for number_, waste in enumerate((message(3, bytes(4), csid=2), command("releaseStream", 4, text("k")))):
            greedy = self.edge.peer(f"192.0.2.{number_ + 1}").connect().publish(f"k{number_}?token=x")
            self.edge.clock.__class__ = _Stopwatch
            greedy.say(waste * 1000)
            self.assertEqual("paused", greedy.transport.producerState)
            self.edge.clock.__class__ = Clock
            self.edge.clock.advance(1)

    def test_tiny_chunks_of_a_publisher(self) -> None:
        """A publisher that sends in chunks of one byte is read in small pieces, within the budget."""
        peer = self.edge.publisher()
        self.assertEqual(65_536, peer.transport.bufferSize)
        peer.say(message(1, (1).to_bytes(4, "big"), msid=0, csid=2))
        self.assertEqual(4096, peer.transport.bufferSize)

    def test_newcomer_is_read_first(self) -> None:
        """A client on the way in is read before those who have had much already."""
        self.edge.clock.__class__ = _Stopwatch
        crowd = [self.edge.peer(f"192.0.2.{host}").connect() for host in range(10)]
        self.edge.clock.advance(0.1)
        for peer in crowd:
            peer.say(message(8, b"", csid=4) * 400)
        self.assertEqual(10, len(self.edge.factory.read_budget))
        newcomer = self.edge.peer("198.51.100.1")
        newcomer.say(HANDSHAKE + connect())
        self.edge.clock.calls.pop(0).func()  # the next turn, and no other
        self.assertGreater(len(newcomer.heard()), 3)
        self.assertGreater(len(self.edge.factory.read_budget), 5)
        self.edge.clock.advance(1)

    def test_gone_while_it_waits(self) -> None:
        """A pending connection that is gone before its turn costs nothing."""
        self.edge.clock.__class__ = _Stopwatch
        peer = self.edge.peer().connect()
        peer.say(message(8, b"", csid=4) * 300)
        peer.leave()
        self.edge.clock.advance(1)
        self.assertEqual(0, len(self.edge.factory.read_budget))


class GuessingTests(HostileCase):
    """Publish attempts with wrong tokens."""

    def guess(self, name: str = "k?token=guessed", host: str = "192.0.2.1") -> Peer:
        peer = self.edge.peer(host).connect().publish(name)
        if peer.protocol in self.edge.factory.connections and peer.is_closed:
            peer.leave()
        return peer

    def test_guesses_are_throttled_by_address(self) -> None:
        """After ten wrong guesses a minute the next is refused unasked, learns when to try again, and let in then."""
        self.edge.authenticator.answer = NO
        for _ in range(10):
            self.assertIn(("error", DENIED, "the token is malformed"), self.guess().statuses())
        asked = len(self.edge.authenticator.requests)
        reason = "too many publishes from this address were refused; try again in 6 s"
        for _ in range(100):
            self.assertIn(("error", DENIED, reason), self.guess().statuses())
        self.assertEqual(asked, len(self.edge.authenticator.requests))
        self.assertEqual(10, self.edge.metric("publishes_total", result="refused"))
        self.assertEqual(100, self.edge.metric("publishes_total", result="throttled"))
        self.assertEqual(2, self.lines["publish of {stream} by {peer} refused: {reason}"])
        self.edge.authenticator.answer = Verdict(allowed=True)
        self.assertFalse(self.guess(host="192.0.2.2").is_closed, "another address is not concerned")
        self.edge.wait(6)
        self.assertFalse(self.guess("other?token=right").is_closed)

    def test_publisher_comes_back(self) -> None:
        """A publisher can come back to its address, however much is guessed there."""
        publisher = self.guess("mine?token=right")
        self.edge.authenticator.answer = NO
        for _ in range(20):
            self.guess()
        self.assertFalse(publisher.is_closed)
        publisher.leave()
        self.edge.authenticator.answer = Verdict(allowed=True)
        self.assertTrue(self.guess("theirs?token=right").is_closed)
        self.assertFalse(self.guess("mine?token=right").is_closed)


class LeakTests(HostileCase):
    """What stays of connections that are gone: nothing."""

    def visit(self, number: int) -> None:
        """One of each kind of visitor, gone again."""
        self.edge.peer().leave()
        halfway = self.edge.peer()
        halfway.say(HANDSHAKE[:2000])
        halfway.leave()
        self.edge.peer().connect().leave()
        junk = self.edge.peer()
        junk.say(b"GET / HTTP/1.1\r\n\r\n")
        junk.leave()
        publisher = self.edge.peer().connect().publish(f"k{number % 10}?token=secret")
        publisher.say(*self.media)
        publisher.leave()
        self.edge.wait(1)
        self.edge.collectors.clear()
        self.edge.authenticator.requests.clear()

    @slow
    def test_no_object_stays(self) -> None:
        """After dozens of visits there are as many objects as after a few, and no timer but the coarse one."""
        self.media = list(media(seconds=1))
        for number_ in range(10):
            self.visit(number_)
        self.edge.wait(100)
        before = self.count_objects()
        for number_ in range(10, 60):
            self.visit(number_)
        self.edge.wait(100)
        grown = {name: count for name, count in (self.count_objects() - before).items() if count > 20}
        self.assertEqual({}, grown)
        self.assertEqual(1, len(self.edge.clock.getDelayedCalls()))
        self.assertEqual(0, len(list(self.edge.registry)))

    def count_objects(self) -> Counter[str]:
        gc.collect()
        return Counter(
            f"{type(each).__module__}.{type(each).__name__}"
            for each in gc.get_objects()
            if str(type(each).__module__).startswith(("rapidrtmp", "twisted.internet"))
        )
