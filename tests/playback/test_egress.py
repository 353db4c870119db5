"""How much an application sends, and what becomes of one viewer more."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.playback.egress import Egress
from tests.web.kit import MP4, Server, playlist


class MeasureTests(SynchronousTestCase):
    def test_rate_over_five_seconds(self) -> None:
        """It is the mean of the last five whole seconds, and forgets what came before."""
        egress = Egress()
        for second in range(5):
            egress.add(1000, second * 1000 + 900)
            egress.add(250, second * 1000 + 950)
        self.assertEqual(8 * 1000, egress.bits_per_second(4_999))
        self.assertEqual(8 * 1250, egress.bits_per_second(5_000))
        self.assertEqual(8 * 250, egress.bits_per_second(9_000))
        self.assertEqual(0, egress.bits_per_second(10_000))
        egress.add(5, 1_000_000)
        self.assertEqual(0, egress.bits_per_second(1_000_500))


class LimitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.stream = self.server.live()
        self.stream.shelf.put("part.m4s", [bytes(1000)], MP4)
        self.stream.shelf.put_playlist("index.m3u8", playlist())

    def limit(self, bits_per_second: int) -> None:
        app = self.server.apps["live"]
        app.limits = replace(app.limits, max_egress_bps=bits_per_second)

    def watch(self, seconds: int = 5) -> None:
        """A viewer that is sent 8000 bits in each second."""
        for _ in range(seconds):
            self.assertEqual(200, self.server.get("/live/k/part.m4s", peer="192.0.2.1").status)
            self.server.clock.advance(1)

    def test_edge_of_the_limit(self) -> None:
        """At the limit a new viewer is refused in words, below it is not, and one that watches continues watching."""
        for limit, status in ((8_000, 503), (8_001, 200)):
            self.setUp()
            self.limit(limit)
            self.watch()
            reply = self.server.get("/live/k/part.m4s", peer="192.0.2.99")
            self.assertEqual(status, reply.status)
            if status == 503:
                self.assertIn("as much is sent", reply.json()["error"])
                self.assertEqual("10", reply.headers["retry-after"])
            self.assertEqual(200, self.server.get("/live/k/part.m4s", peer="192.0.2.1").status)

    def test_recovers_when_less_is_sent(self) -> None:
        """When less is sent again a new viewer is let in."""
        self.limit(8_000)
        self.watch()
        self.server.clock.advance(5)
        self.assertEqual(200, self.server.get("/live/k/part.m4s", peer="192.0.2.99").status)
