"""What is said once and counted often."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.support.log_throttle import OTHERS, Episodes


class EpisodesTests(SynchronousTestCase):
    """News, and more of the same."""

    def test_once_per_episode(self) -> None:
        """Of a thing that keeps happening only the first is news, however long it lasts."""
        episodes = Episodes(quiet_ms=1000)
        self.assertEqual([True, *[False] * 9], [episodes.is_news("flood", "a", at) for at in range(0, 10_000, 1000)])

    def test_after_quiet_it_is_news(self) -> None:
        """After more than the quiet time the same thing is news again."""
        episodes = Episodes(quiet_ms=1000)
        self.assertTrue(episodes.is_news("flood", "a", 0))
        self.assertTrue(episodes.is_news("flood", "a", 1001))

    def test_sources_and_kinds(self) -> None:
        """Another source, and another kind of thing, are episodes of their own."""
        episodes = Episodes()
        happened = (("flood", "a"), ("flood", "b"), ("junk", "a"), ("flood", "a"))
        self.assertEqual([True, True, True, False], [episodes.is_news(kind, source, 0) for kind, source in happened])

    def test_many_sources_are_few_lines(self) -> None:
        """Of a flood from everywhere a few sources are named, and others when those have been quiet for long."""
        episodes = Episodes(quiet_ms=1000, max_sources=3)
        named = [number for number in range(100) if episodes.is_news("flood", str(number), number)]
        self.assertEqual([0, 1, 2], named)
        self.assertTrue(episodes.is_news("flood", "another", 1003))

    def test_over_after_the_quiet_time(self) -> None:
        """What has been quiet for long is over, with how often and how long it was; the others continue."""
        ended: list[tuple[str, str, int, int]] = []
        episodes = Episodes(1000, ended=lambda kind, source, it: ended.append((kind, source, it.count, it.last_ms)))
        for at in (0, 500, 900):
            episodes.is_news("flood", "a", at)
        episodes.is_news("junk", "b", 1500)
        episodes.end_quiet(1900)
        self.assertEqual([], ended)
        episodes.end_quiet(1901)
        self.assertEqual([("flood", "a", 3, 900)], ended)
        self.assertTrue(episodes)
        episodes.end_quiet(2501)
        self.assertEqual([("junk", "b", 1, 1500)], ended[1:])
        self.assertFalse(episodes)

    def test_other_sources_share_an_episode(self) -> None:
        """Sources beyond those counted separately share one episode without a beginning."""
        ended: list[tuple[str, int]] = []
        episodes = Episodes(1000, max_sources=2, ended=lambda _, source, it: ended.append((source, it.count)))
        named = [source for source in "abcdea" if episodes.is_news("flood", source, 0)]
        self.assertEqual(["a", "b"], named)
        episodes.end_quiet(1001)
        self.assertEqual([("a", 2), ("b", 1), (OTHERS, 3)], sorted(ended, key=lambda each: each[0] or "z"))
