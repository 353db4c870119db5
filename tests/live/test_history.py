"""What streams did lately."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.history import POINTS, STEP_MS, Histories
from rapidrtmp.timeline.health import PublishHealth
from tests.web.kit import Server

HEALTH = PublishHealth(**{each.name: False for each in fields(PublishHealth)})


class HistoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.stream = self.server.live()
        self.histories = Histories()

    def look(self) -> None:
        self.histories.look(self.server.registry, int(self.server.clock.seconds() * 1000))

    def test_point_every_five_seconds(self) -> None:
        """There is a point every five seconds, and none from before the last ten minutes."""
        for _ in range(700):
            self.look()
            self.server.clock.advance(1)
        points = self.histories.of(self.stream)
        self.assertEqual(POINTS, len(points))
        self.assertEqual({STEP_MS}, {later.at_ms - point.at_ms for point, later in pairwise(points)})

    def test_point_says_how_it_was(self) -> None:
        """A point holds the rates, the viewers, and by how much media came later than the earliest did."""
        now_ms = int(self.server.clock.seconds() * 1000)
        self.stream.viewers.saw("192.0.2.1", "a", "", now_ms)
        for lead_ms in (200, -100):
            self.stream.health = replace(HEALTH, lead_ms=lead_ms)
            self.look()
            self.server.clock.advance(5)
        first, second = self.histories.of(self.stream)
        self.assertEqual((1, 0, 300), (first.viewers, first.late_ms, second.late_ms))
        self.assertGreater(first.bitrate, 0)
        self.assertGreater(first.frame_rate, 0)

    def test_streams_that_end_are_let_go(self) -> None:
        """A stream that has ended gets no more points, and one that was never looked at has none."""
        self.look()
        self.server.registry.end(self.stream)
        self.server.clock.advance(60)
        self.look()
        self.assertEqual(1, len(self.histories.of(self.stream)))
        self.assertEqual([], Histories().of(self.stream))
