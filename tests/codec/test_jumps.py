from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.jumps import JumpGuard, Step
from rapidrtmp.codec.policy import TimelinePolicy
from rapidrtmp.media import MediaKind

VIDEO, AUDIO = MediaKind.VIDEO, MediaKind.AUDIO
CONTINUES, JUMPED, STRAGGLES = Step.CONTINUES, Step.JUMPED, Step.STRAGGLES


class JumpGuardTests(SynchronousTestCase):
    def judge(self, *steps: tuple[MediaKind, int, int]) -> list[Step]:
        guard = JumpGuard(TimelinePolicy())
        return [guard.judge(*step) for step in steps]

    def test_jitter_and_gaps(self) -> None:
        """Steps of up to ten seconds forward and half a second back are no jumps."""
        self.assertEqual(
            [CONTINUES] * 4, self.judge((VIDEO, 0, 0), (VIDEO, 10_000, 0), (VIDEO, 9_500, 0), (VIDEO, 9_501, 0))
        )

    def test_jumps(self) -> None:
        """Anything beyond is one."""
        self.assertEqual([CONTINUES, JUMPED], self.judge((VIDEO, 0, 0), (VIDEO, 10_001, 0)))
        self.assertEqual([CONTINUES, JUMPED], self.judge((VIDEO, 9_000, 0), (VIDEO, 8_499, 0)))
        self.assertEqual([CONTINUES, JUMPED], self.judge((VIDEO, 0, 0), (AUDIO, 3_600_000, 0)))

    def test_lagging_track(self) -> None:
        """A track that lags behind the other by seconds is as good as any."""
        lag = [
            (kind, 40 * index - (8_000 if kind is AUDIO else 0), 0) for index in range(50) for kind in (VIDEO, AUDIO)
        ]
        self.assertEqual({CONTINUES}, set(self.judge(*lag)))

    def test_pause_of_one_track(self) -> None:
        """A track may pause for a minute while the other goes on."""
        video = [(VIDEO, time, 0) for time in range(0, 60_000, 1000)]
        self.assertEqual({CONTINUES}, set(self.judge((AUDIO, 0, 0), *video, (AUDIO, 60_000, 0))))

    def test_stragglers(self) -> None:
        """After a jump, frames still on the old clock are known as such; the new clock goes on."""
        self.assertEqual(
            [CONTINUES, CONTINUES, JUMPED, STRAGGLES, CONTINUES, CONTINUES],
            self.judge(
                (VIDEO, 0, 0),
                (AUDIO, 5, 5),
                (VIDEO, 900_000, 40),
                (AUDIO, 26, 41),
                (VIDEO, 900_040, 80),
                (AUDIO, 900_047, 81),
            ),
        )

    def test_jump_back(self) -> None:
        """Whoever is on the old clock for longer has jumped back to it."""
        self.assertEqual(
            [CONTINUES, JUMPED, STRAGGLES, JUMPED],
            self.judge((VIDEO, 0, 0), (VIDEO, 900_000, 40), (VIDEO, 2_000, 2_040), (VIDEO, 2_040, 2_041)),
        )
