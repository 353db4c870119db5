from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.viewers import MAX_REMEMBERED, Viewers
from tests.slow import slow

WINDOW_MS = 12_000


class ViewersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.viewers = Viewers(b"salt", WINDOW_MS)

    def test_clients_by_address_and_agent(self) -> None:
        """Each address with each user agent is a viewer, however often it asks."""
        for _ in range(3):
            for address in ("192.0.2.1", "192.0.2.2"):
                for agent in ("Safari", "Firefox"):
                    self.viewers.saw(address, agent, "", 1000)
        self.assertEqual(4, self.viewers.count(1000))

    def test_shared_client_is_several_viewers(self) -> None:
        """Viewers behind one address are distinguished by how often the same piece is asked for."""
        for number in range(5):
            self.viewers.saw("192.0.2.1", "Safari", "segment_1.m4s", 1000 + number)
        self.viewers.saw("192.0.2.1", "Safari", "segment_2.m4s", 1010)
        self.assertEqual(5, self.viewers.count(1010))

    def test_places_distinguish_viewers(self) -> None:
        """Viewers behind one address who watch different moments are distinguished by what they ask for in turn."""
        for number in range(5):
            for first in (100, 40, 7):
                self.viewers.saw("192.0.2.1", "Safari", f"segment_{first + number}.m4s", 1000 + 2000 * number)
        self.assertEqual(3, self.viewers.count(9000))
        for number in range(5, 12):
            self.viewers.saw("192.0.2.1", "Safari", f"segment_{100 + number}.m4s", 1000 + 2000 * number)
        self.assertEqual(1, self.viewers.count(23_000))

    def test_places_shared_by_two(self) -> None:
        """Two at the end of the stream and one an hour behind are three."""
        for number in range(3):
            for first in (2_000, 200, 2_000):
                self.viewers.saw("192.0.2.1", "Safari", f"part_{first + number}.0.m4s", 1000 + number)
        self.assertEqual(3, self.viewers.count(1010))

    def test_seeking_viewer_is_one(self) -> None:
        """One viewer who seeks here and there, and catches up while playlists are waited for, is one."""
        for at, first in enumerate((100, 40, 7, 70)):
            for number in range(first, first + 6):
                self.viewers.saw("192.0.2.1", "Safari", f"segment_{number}.m4s", 1000 + at)
                self.viewers.saw("192.0.2.1", "Safari", f"index.m3u8?{106 + at}.{number}", 1000 + at)
        self.assertEqual(1, self.viewers.count(1010))

    def test_blocked_reloads_count_viewers(self) -> None:
        """Viewers behind one address who wait for the same version are as many as wait."""
        for _ in range(3):
            self.viewers.saw("192.0.2.1", "Safari", "index.m3u8?7.2", 1000)
        self.assertEqual(3, self.viewers.count(1010))

    def test_recordings_count_viewers_too(self) -> None:
        """So are those who watch recordings, each at another moment."""
        for number in range(3):
            for first in (30, 5):
                self.viewers.saw("192.0.2.1", "Safari", f"20261130T190000Z/segment_{first + number}.m4s?", 1000)
        self.assertEqual(2, self.viewers.count(1010))

    def test_playlists_do_not_count(self) -> None:
        """A playlist that every player reloads all the time tells of one viewer only."""
        for number in range(50):
            self.viewers.saw("192.0.2.1", "Safari", "", number)
        self.assertEqual(1, self.viewers.count(50))

    def test_leaving_after_the_window(self) -> None:
        """A client that is not heard of for the window has left."""
        self.viewers.saw("192.0.2.1", "Safari", "a", 1000)
        self.viewers.saw("192.0.2.2", "Safari", "a", 9000)
        self.assertEqual(2, self.viewers.count(1000 + WINDOW_MS))
        self.assertEqual(1, self.viewers.count(1001 + WINDOW_MS))
        self.assertEqual(0, self.viewers.count(9001 + WINDOW_MS))

    def test_long_segments_keep_viewers(self) -> None:
        """A client that fetches a segment of 20 s now and then is a viewer all the time; short ones change nothing."""
        self.viewers.allow_for(6_000)
        self.assertEqual(WINDOW_MS, self.viewers.window_ms)
        self.viewers.saw("192.0.2.1", "Safari", "segment_1.m4s", 1000)
        self.viewers.allow_for(20_000)
        self.viewers.allow_for(2_000)
        self.assertTrue(self.viewers.knows("192.0.2.1", "Safari", 41_000))
        self.assertEqual(1, self.viewers.count(41_000))
        self.assertEqual(0, self.viewers.count(41_001))

    def test_fewer_behind_one_address(self) -> None:
        """When some of those behind one address have left, fewer are counted after the window."""
        for _ in range(5):
            self.viewers.saw("192.0.2.1", "Safari", "a", 1000)
        for _ in range(2):
            self.viewers.saw("192.0.2.1", "Safari", "b", 1000 + WINDOW_MS)
        self.assertEqual(5, self.viewers.count(1000 + WINDOW_MS))
        self.viewers.saw("192.0.2.1", "Safari", "", 1001 + WINDOW_MS)
        self.assertEqual(2, self.viewers.count(1001 + WINDOW_MS))

    def test_known_while_it_counts(self) -> None:
        """A client is known while it counts, and no longer."""
        self.viewers.saw("192.0.2.1", "Safari", "a", 1000)
        self.assertTrue(self.viewers.knows("192.0.2.1", "Safari", 1000 + WINDOW_MS))
        self.assertFalse(self.viewers.knows("192.0.2.1", "Safari", 1001 + WINDOW_MS))
        self.assertFalse(self.viewers.knows("192.0.2.1", "Firefox", 1000))
        self.assertFalse(self.viewers.knows("192.0.2.9", "Safari", 1000))

    def test_bounded_memory_of_requests(self) -> None:
        """A client that asks for ever new things is remembered by the latest of them."""
        for number in range(10 * MAX_REMEMBERED):
            self.viewers.saw("192.0.2.1", "Safari", f"thing {number}", 1000)
        (client,) = self.viewers._clients.values()
        self.assertEqual(MAX_REMEMBERED, len(client.asked))

    def test_nothing_that_names_anyone(self) -> None:
        """Addresses and user agents are kept as hashes under a salt, never as they are."""
        self.viewers.saw("192.0.2.1", "Safari", "a", 1000)
        other = Viewers(b"pepper", WINDOW_MS)
        other.saw("192.0.2.1", "Safari", "a", 1000)
        kept = set(self.viewers._clients)
        self.assertFalse(kept & set(other._clients))
        self.assertNotIn(b"192.0.2.1", b"".join(kept))

    def test_client_of_two_processes_is_one(self) -> None:
        """A player whose connections end at two processes is one viewer at both, known at both, and comes but once."""
        other = Viewers(b"salt", WINDOW_MS, of="other")
        came: list[tuple[str, str]] = []
        self.viewers.came = lambda *of: came.append(of)
        other.saw("192.0.2.1", "Safari", "a", 1000)
        seen = {viewer: each._replace(address="192.0.2.1") for viewer, each in other.seen(1000).items()}
        self.viewers.reported("other", seen)
        self.assertTrue(self.viewers.knows("192.0.2.1", "Safari", 1000))
        self.assertFalse(self.viewers.knows("192.0.2.2", "Safari", 1000))
        self.viewers.saw("192.0.2.1", "Safari", "a", 1001)
        self.assertEqual(1, self.viewers.count(1001))
        self.assertEqual(1, self.viewers.count_of("192.0.2.1", 1001))
        other.reported("one", self.viewers.seen(1001, "other"))
        self.assertEqual(1, other.count(1001))
        self.assertEqual(["192.0.2.1"], [address for address, _ in came])

    def test_most_that_any_process_has_seen(self) -> None:
        """Of those behind one address the most counts that any process has seen, and of each connection one."""
        other, third = Viewers(b"salt", WINDOW_MS, of="other"), Viewers(b"salt", WINDOW_MS, of="third")
        for viewers, times in ((self.viewers, 2), (other, 3), (third, 1)):
            for _ in range(times):
                viewers.saw("192.0.2.1", "Safari", "a", 1000)
        leave = other.enter("192.0.2.9", "VLC")
        for source, viewers in (("other", other), ("third", third)):
            self.viewers.reported(source, viewers.seen(1000))
        self.assertEqual(4, self.viewers.count(1000))
        third.reported("one", self.viewers.seen(1000, "third"))
        self.assertEqual(4, third.count(1000))
        leave()
        self.viewers.reported("other", other.seen(1000))
        self.assertEqual(3, self.viewers.count(1000))

    def test_leaves_when_gone_everywhere(self) -> None:
        """A client has left when no process sees it any more, or that one is no more; it is said once."""
        left: list[str] = []
        self.viewers.left = left.append
        other = Viewers(b"salt", 2 * WINDOW_MS, of="other")
        for viewers in (self.viewers, other):
            viewers.saw("192.0.2.1", "Safari", "a", 1000)
        self.viewers.reported("other", other.seen(1000))
        self.assertEqual(1, self.viewers.count(1001 + WINDOW_MS))
        self.assertEqual([], left)
        self.viewers.reported("other", {})
        self.assertEqual(0, self.viewers.count(1001 + WINDOW_MS))
        self.assertEqual(1, len(left))

    @slow
    @given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["", "a", "b", "c"]), st.integers(0, 9000))))
    def test_total_is_that_of_clients(self, requests: list[tuple[int, str, int]]) -> None:
        """The count kept on the way is that of all clients who asked within the window, each by its own requests."""
        viewers, now_ms = Viewers(b"salt", WINDOW_MS), 0
        seen: dict[int, list[tuple[str, int]]] = {}
        for client, thing, pause_ms in requests:
            now_ms += pause_ms
            viewers.saw(f"192.0.2.{client}", "Safari", thing, now_ms)
            seen.setdefault(client, []).append((thing, now_ms))
        here = [asked for asked in seen.values() if asked[-1][1] >= now_ms - WINDOW_MS]
        self.assertEqual(sum(map(_stands_for, here)), viewers.count(now_ms))


def _stands_for(asked: list[tuple[str, int]]) -> int:
    """The most often that one thing was asked for, with never more than the window between one time and the next."""
    counts: dict[str, tuple[int, int]] = {}
    latest_ms = 0
    for thing, at_ms in asked:
        if at_ms - latest_ms > WINDOW_MS:  # it had left
            counts = {}
        latest_ms = at_ms
        counts = {each: (n, last) for each, (n, last) in counts.items() if last >= at_ms - WINDOW_MS}
        if thing:
            counts[thing] = counts.get(thing, (0, 0))[0] + 1, at_ms
    return max((count for count, _ in counts.values()), default=1)
