"""When audio may wait for the picture behind it, and when nothing waits."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.net.low_water import LARGEST_MARK, LowWater
from tests.codec.builders import picture, video_config
from tests.net.edge import Edge, Peer, TcpTransport
from tests.rtmp.client import command, message


def looked(water: LowWater, looks: int, pictures: Iterable[int]) -> int:
    """The mark after so many looks, before each of which these pictures came."""
    for _ in range(looks):
        for size in pictures:
            water.pictures.append(size)
        water.update()
    return water.mark


class LowWaterTests(SynchronousTestCase):
    def test_mark_is_the_smallest_picture(self) -> None:
        """After two seconds of regular pictures the mark is no more than the smallest of them."""
        water = LowWater()
        self.assertEqual(1, looked(water, 7, [9000, 5000, 4200, 7000, 5000, 5000]))
        self.assertEqual(4096, looked(water, 1, [9000, 5000, 4200, 7000, 5000, 5000]))
        self.assertEqual(2048, looked(water, 1, [9000, 5000, 4095, 7000, 5000, 5000]))

    def test_only_a_change_is_news(self) -> None:
        """Only a new mark is news."""
        water, news = LowWater(), []
        for _ in range(10):
            for _ in range(6):
                water.pictures.append(5000)
            news.append(water.update())
        self.assertEqual([7], [look for look, is_news in enumerate(news) if is_news])

    def test_bounds_of_the_mark(self) -> None:
        """Large pictures ask for no more than the largest mark, pictures like audio for none."""
        self.assertEqual(LARGEST_MARK, looked(LowWater(), 8, [100_000] * 6))
        self.assertEqual(1, looked(LowWater(), 8, [1023] * 6))

    def test_few_pictures_lift_the_mark(self) -> None:
        """Where pictures are rare, or cease, nothing waits for them; the mark returns two seconds after they do."""
        self.assertEqual(1, looked(LowWater(), 20, [9000] * 4))
        water = LowWater()
        looked(water, 8, [5000] * 6)
        self.assertEqual(1, looked(water, 1, []))
        self.assertEqual(1, looked(water, 7, [5000] * 6))
        self.assertEqual(4096, looked(water, 1, [5000] * 6))


class SocketTests(SynchronousTestCase):
    """The mark of a real socket, over a whole publish."""

    def setUp(self) -> None:
        self.edge = Edge()
        self.addCleanup(self.edge.close)
        self.transport = TcpTransport()
        self.addCleanup(self.transport.socket.close)
        self.peer = Peer(self.edge.factory, IPv4Address("TCP", "192.0.2.1", 50_000), self.transport)
        self.peer.connect().publish()
        self.peer.say(message(9, video_config(), timestamp=0))

    @property
    def mark(self) -> int:
        return self.transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)

    def send_pictures(self, seconds: int) -> None:
        """25 pictures of some 3000 bytes a second, for so long."""
        for _ in range(seconds * 25):
            time_ms = round(self.edge.clock.seconds() * 1000)
            header, nal = picture(time_ms == 0)[:5], picture(time_ms == 0)[9:] + b"\x80" * 3000
            self.peer.say(message(9, header + struct.pack(">I", len(nal)) + nal, timestamp=time_ms))
            self.edge.clock.advance(0.04)

    def test_publish_sets_the_socket_mark(self) -> None:
        """The socket has a mark while pictures come, none when they pause, and none when the publish is over."""
        self.assertEqual(1, self.mark)
        self.send_pictures(4)
        self.assertEqual(2048, self.mark)
        self.edge.wait(0.5)
        self.assertEqual(1, self.mark)
        self.send_pictures(4)
        self.assertEqual(2048, self.mark)
        self.peer.say(command("FCUnpublish", 6))
        self.assertEqual(1, self.mark)

    def test_picture_in_pieces(self) -> None:
        """What is left of a picture, or of a header, does not wait for the picture behind it."""
        self.send_pictures(4)
        header, nal = picture(False)[:5], picture(False)[9:] + b"\x80" * 3000
        data = message(9, header + struct.pack(">I", len(nal)) + nal, timestamp=4_000)
        for cuts in ([2_100], [4], [12], [2_100, 2_200], [len(data) - 1]):
            self.assertEqual(2048, self.mark)
            begin = 0
            for end in cuts:
                self.peer.say(data[begin:end])
                self.assertEqual(1, self.mark, cuts)
                begin = end
            self.peer.say(data[begin:])
        self.assertEqual(2048, self.mark)

    def test_segments_bound_the_mark(self) -> None:
        """A mark that one TCP segment cannot fill is never set: an encoder's Nagle would hold back what fills none."""
        for largest, mark in ((0, 1), (1448, 2048)):  # loopback has segments of 64 KB unless it is set otherwise
            with socket.create_server(("127.0.0.1", 0)) as port, socket.socket() as encoder:
                if largest:
                    encoder.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, largest)
                encoder.connect(port.getsockname())
                self.transport.socket.close()
                self.transport.socket = port.accept()[0]
                self.send_pictures(4)
                self.assertEqual(mark, self.mark)
                self.edge.wait(0.5)

    def test_end_with_a_mark(self) -> None:
        """A connection that ends while it has a mark ends like any other."""
        self.send_pictures(4)
        self.transport.socket.close()
        del self.transport.socket  # as Twisted does before it tells of the end
        self.peer.leave()
        self.assertEqual([], self.flushLoggedErrors())
