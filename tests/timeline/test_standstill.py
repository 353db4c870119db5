from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.timeline.standstill import Standstill


class StandstillTests(SynchronousTestCase):
    def made(self, *arrivals: tuple[int, int]) -> list[int | None]:
        """The times made for frames of these times that arrived then, the first of them as it is."""
        watch, made = Standstill(patience_ms=500), []
        latest_ms, arrived_ms = arrivals[0]
        for time_ms, now_ms in arrivals[1:]:
            made.append(watch.made_time_ms(time_ms, now_ms, latest_ms, arrived_ms))
            latest_ms, arrived_ms = time_ms if made[-1] is None else made[-1], now_ms
        return made

    def test_moving_timestamps_are_good(self) -> None:
        """Timestamps that move are as good as any, pairs and handfuls of the same one too."""
        self.assertEqual([None] * 5, self.made((0, 0), (0, 40), (0, 499), (40, 500), (40, 999), (80, 2_000)))

    def test_standing_still_follows_arrivals(self) -> None:
        """After half a second of the same timestamp, times continue as frames arrive."""
        self.assertEqual(
            [None, 600, 633, 633, 5_100], self.made(*((100, now) for now in (10, 499, 510, 543, 543, 5_010)))
        )

    def test_moving_again_is_used_again(self) -> None:
        """Timestamps that move again are used again, even if they are the old one later."""
        self.assertEqual([600, None, None, None], self.made((0, 0), (0, 600), (640, 640), (0, 680), (0, 720)))

    def test_two_in_a_row(self) -> None:
        """The next standstill has its own patience."""
        self.assertEqual([600, None, None, 1_240], self.made((0, 0), (0, 600), (640, 640), (640, 1_100), (640, 1_240)))
