"""What is said once and counted often."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.episodes import Episodes


class EpisodesTests(SynchronousTestCase):
    """News, and more of the same."""

    def test_once_per_episode(self) -> None:
        """Of a thing that goes on happening only the first is news, however long it goes on."""
        episodes = Episodes(quiet_ms=1000)
        self.assertEqual([True, *[False] * 9], [episodes.is_news("flood", "a", at) for at in range(0, 10_000, 1000)])

    def test_after_quiet(self) -> None:
        """After more than the quiet time the same thing is news again."""
        episodes = Episodes(quiet_ms=1000)
        self.assertTrue(episodes.is_news("flood", "a", 0))
        self.assertTrue(episodes.is_news("flood", "a", 1001))

    def test_sources_and_kinds(self) -> None:
        """Another source, and another kind of thing, are episodes of their own."""
        episodes = Episodes()
        happened = (("flood", "a"), ("flood", "b"), ("junk", "a"), ("flood", "a"))
        self.assertEqual([True, True, True, False], [episodes.is_news(kind, source, 0) for kind, source in happened])

    def test_many_sources(self) -> None:
        """Of a flood from everywhere a few sources are named, and others when those have been quiet for long."""
        episodes = Episodes(quiet_ms=1000, max_sources=3)
        named = [number for number in range(100) if episodes.is_news("flood", str(number), number)]
        self.assertEqual([0, 1, 2], named)
        self.assertTrue(episodes.is_news("flood", "another", 1003))
