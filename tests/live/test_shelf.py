"""The shelf: what is up, and who waits for what."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from rapidrtmp.interfaces import IShelf, Playlist
from rapidrtmp.live.shelf import SLICE, Shelf, ShelfObject, TooManyWaitersError, contains


def playlist(
    last: int = 9, parts: int = 0, of_last: int = 6, *, ended: bool = False, delta: bytes | None = None
) -> Playlist:
    """A playlist that reaches up to a position."""
    return Playlist(b"#EXTM3U\n", delta, last, parts, of_last, 2_000, 333, ended)


class ObjectTests(SynchronousTestCase):
    def test_bytes_are_the_pieces(self) -> None:
        """An object is its pieces, in order; one piece is not copied."""
        stored = ShelfObject([b"ab", b"c"], "video/mp4", "no-store")
        self.assertEqual(
            (3, b"abc", "video/mp4", "no-store"), (stored.size, stored.body, stored.content_type, stored.cache_control)
        )
        piece = b"whole"
        self.assertIs(piece, ShelfObject([piece], "", "").body)
        self.assertEqual((0, b""), (ShelfObject([], "", "").size, ShelfObject([], "", "").body))

    def test_forms_and_tags_are_stable(self) -> None:
        """Its compressed form and its tag are the same each time; the tag tells bytes apart."""
        stored, other = ShelfObject([b"text" * 50], "", ""), ShelfObject([b"other"], "", "")
        self.assertEqual(stored.body, gzip.decompress(stored.gzipped))
        self.assertIs(stored.gzipped, stored.gzipped)
        self.assertRegex(stored.etag, r'^"[0-9a-f]+"$')
        self.assertNotEqual(stored.etag, other.etag)
        self.assertEqual(stored.etag, ShelfObject([b"text" * 25, b"text" * 25], "", "").etag)


class ContainsTests(SynchronousTestCase):
    def test_positions_that_are_reached(self) -> None:
        """A position is reached when it, or anything later, is listed; a part too many is the next segment's first."""
        for position, reached in (
            ((8, None), True),
            ((9, None), True),
            ((10, None), False),
            ((3, 99), True),
            ((9, 5), True),
            ((9, 6), True),
            ((10, 1), True),
            ((10, 2), False),
            ((11, 0), False),
            ((-1, None), True),
        ):
            self.assertEqual(reached, contains(playlist(9, 2), *position), position)
        self.assertFalse(contains(playlist(9, 0), 9, 6))
        self.assertTrue(contains(playlist(ended=True), 99, 99))


class ShelfTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.shelf = Shelf(max_waiters=5)

    def test_shelf_provides_the_interface(self) -> None:
        """It is what sinks are promised."""
        verifyObject(IShelf, self.shelf)

    def test_objects_are_put_and_withdrawn(self) -> None:
        """What is put can be found, replaced and withdrawn; withdrawing the unknown is no error."""
        self.shelf.put("a", [b"1"], "video/mp4")
        first = self.shelf.find("a")
        assert first is not None
        self.assertEqual((b"1", "public, max-age=31536000, immutable"), (first.body, first.cache_control))
        self.shelf.put("a", [b"2"], "video/mp4", "no-store")
        second = self.shelf.find("a")
        assert second is not None
        self.assertEqual(b"2", second.body)
        self.shelf.withdraw("a")
        self.shelf.withdraw("a")
        self.assertIsNone(self.shelf.find("a"))

    def test_size_of_all_objects(self) -> None:
        """It tells how many bytes its objects take, as they are put, replaced and withdrawn."""
        sizes = [self.shelf.size]
        for name, pieces in (("a", [b"123"]), ("b", [b"12", b"345"]), ("a", [b"1"]), ("a", None), ("a", None)):
            if pieces is None:
                self.shelf.withdraw(name)
            else:
                self.shelf.put(name, pieces, "video/mp4")
            sizes.append(self.shelf.size)
        self.shelf.put_playlist("index.m3u8", playlist())
        self.shelf.clear()
        self.assertEqual([0, 3, 8, 6, 5, 5, 0], [*sizes, self.shelf.size])

    def test_playlists_whole_and_delta(self) -> None:
        """The newest version of a playlist can be found, whole and as a delta update."""
        self.assertIsNone(self.shelf.find_playlist("index.m3u8"))
        self.assertEqual(0, self.shelf.target_ms)
        self.shelf.put_playlist("index.m3u8", playlist())
        version = self.shelf.find_playlist("index.m3u8")
        assert version is not None
        self.assertIs(version.full, version.delta)
        self.shelf.put_playlist("index.m3u8", playlist(delta=b"#delta"))
        version = self.shelf.find_playlist("index.m3u8")
        assert version is not None
        self.assertEqual(b"#delta", version.delta.body)
        self.assertEqual(2_000, self.shelf.target_ms)

    def test_target_found_by_a_listener(self) -> None:
        """A listener gets the longest target duration when it is first known and when it grows."""
        told: list[int] = []
        self.shelf.target_found = told.append
        for name, target_ms in (("a", 2_000), ("a", 2_000), ("b", 8_000), ("c", 6_000)):
            self.shelf.put_playlist(name, replace(playlist(), target_ms=target_ms))
        self.assertEqual([2_000, 8_000], told)

    def test_promise_kept_to_each_waiter(self) -> None:
        """Who waits for an announced name gets it when it is put, each with a Deferred of its own."""
        self.shelf.announce("p")
        self.assertTrue(self.shelf.is_announced("p"))
        waiters = [self.shelf.wait_for("p") for _ in range(3)]
        self.assertEqual(3, self.shelf.waiting)
        self.shelf.put("p", [b"x"], "")
        found = self.shelf.find("p")
        self.assertEqual([found] * 3, [self.successResultOf(waiter) for waiter in waiters])
        self.assertEqual((0, False), (self.shelf.waiting, self.shelf.is_announced("p")))
        self.shelf.announce("p")
        self.assertFalse(self.shelf.is_announced("p"), "it is up already")

    def test_promise_taken_back(self) -> None:
        """Who waits for a name that is withdrawn gets nothing, at once; of a playlist likewise."""
        self.shelf.announce("p")
        waiter = self.shelf.wait_for("p")
        self.shelf.withdraw("p")
        self.assertIsNone(self.successResultOf(waiter))
        reload = self.shelf.wait_for_playlist("index.m3u8", -1, None)
        self.shelf.withdraw("index.m3u8")
        self.assertIsNone(self.successResultOf(reload))
        self.assertEqual(0, self.shelf.waiting)

    def test_playlist_by_name(self) -> None:
        """Who waits for a playlist by its name alone gets its text."""
        self.shelf.announce("index.m3u8")
        waiter = self.shelf.wait_for("index.m3u8")
        self.shelf.put_playlist("index.m3u8", playlist())
        stored = self.successResultOf(waiter)
        assert stored is not None
        self.assertEqual(b"#EXTM3U\n", stored.body)
        self.shelf.announce("index.m3u8")
        self.assertFalse(self.shelf.is_announced("index.m3u8"))

    def test_blocking_until_the_position(self) -> None:
        """Who waits for a position gets the first version that reaches it; the playlist need not exist yet."""
        early = self.shelf.wait_for_playlist("index.m3u8", -1, None)
        segment = self.shelf.wait_for_playlist("index.m3u8", 10, None)
        part = self.shelf.wait_for_playlist("index.m3u8", 10, 1)
        same = self.shelf.wait_for_playlist("index.m3u8", 10, 1)
        self.shelf.put_playlist("index.m3u8", playlist(9, 1))
        self.assertIsNotNone(self.successResultOf(early))
        self.assertNoResult(part)
        self.shelf.put_playlist("other.m3u8", playlist(20))
        self.assertNoResult(part)
        self.shelf.put_playlist("index.m3u8", playlist(9, 2))
        version = self.shelf.find_playlist("index.m3u8")
        self.assertEqual([version] * 2, [self.successResultOf(waiter) for waiter in (part, same)])
        self.assertNoResult(segment)
        self.shelf.put_playlist("index.m3u8", playlist(9, 2, ended=True))
        self.assertTrue(self.successResultOf(segment).facts.ended)
        self.assertEqual(0, self.shelf.waiting)

    def test_leaving_waiter_is_forgotten(self) -> None:
        """One who stops waiting is forgotten, and the others never notice."""
        self.shelf.announce("p")
        one, other = self.shelf.wait_for("p"), self.shelf.wait_for("p")
        three, four = (self.shelf.wait_for_playlist("index.m3u8", 3, None) for _ in range(2))
        for waiter in (one, three):
            waiter.cancel()
            self.failureResultOf(waiter, CancelledError)
        self.assertEqual(2, self.shelf.waiting)
        self.shelf.put("p", [b""], "")
        self.shelf.put_playlist("index.m3u8", playlist())
        self.assertIsNotNone(self.successResultOf(other))
        self.assertIsNotNone(self.successResultOf(four))
        self.assertEqual(0, self.shelf.waiting)

    def test_leaving_while_others_are_answered(self) -> None:
        """An answer to one that makes another leave leaves the count right."""
        self.shelf.announce("p")
        waiters = [self.shelf.wait_for("p") for _ in range(3)]
        for index, waiter in enumerate(waiters):
            waiter.addCallback(
                lambda _, index=index: [other.cancel() for other in waiters[:index] + waiters[index + 1 :]]
            )
            waiter.addErrback(lambda failure: failure.trap(CancelledError))
        self.shelf.put("p", [b""], "")
        self.assertEqual(0, self.shelf.waiting)

    def test_bound_turns_waiters_away(self) -> None:
        """One more than the bound is turned away, and leaves nothing behind; when one leaves there is room again."""
        self.shelf.announce("p")
        waiters = [self.shelf.wait_for("p") for _ in range(5)]
        self.assertRaises(TooManyWaitersError, self.shelf.wait_for, "p")
        self.assertRaises(TooManyWaitersError, self.shelf.wait_for_playlist, "index.m3u8", 1, None)
        self.assertEqual({}, self.shelf._blocked)
        waiters[0].addErrback(lambda failure: failure.trap(CancelledError))
        waiters[0].cancel()
        self.shelf.wait_for_playlist("index.m3u8", 1, None)

    def test_clear_answers_all_waiters(self) -> None:
        """Clearing takes everything down and answers all requests that wait."""
        self.shelf.put("a", [b""], "")
        self.shelf.put_playlist("index.m3u8", playlist())
        self.shelf.announce("p")
        waiters: list[Deferred[object]] = [
            self.shelf.wait_for("p"),
            self.shelf.wait_for_playlist("index.m3u8", 12, None),
            self.shelf.wait_for_playlist("never.m3u8", 12, None),
        ]  # type: ignore[list-item]
        self.shelf.clear()
        self.assertEqual([None] * 3, [self.successResultOf(waiter) for waiter in waiters])
        self.assertIsNone(self.shelf.find("a") or self.shelf.find_playlist("index.m3u8"))
        self.assertEqual((0, False), (self.shelf.waiting, self.shelf.is_announced("p")))

    def test_stop_holding_any_request(self) -> None:
        """For all that wait the time is over, whatever they wait for, and no request waits any more."""
        self.shelf.announce("p")
        waiters: list[Deferred[Any]] = [self.shelf.wait_for("p"), self.shelf.wait_for("p")]
        waiters += [self.shelf.wait_for_playlist("index.m3u8", 7, part) for part in (None, 1, 1)]
        self.shelf.stop_holding()
        for waiter in waiters:
            self.failureResultOf(waiter, TimeoutError)
        self.assertEqual(0, self.shelf.waiting)
        self.assertRaises(TooManyWaitersError, self.shelf.wait_for, "p")
        self.assertRaises(TooManyWaitersError, self.shelf.wait_for_playlist, "index.m3u8", 7, None)
        self.shelf.clear()

    def test_parts_go_before_reloads(self) -> None:
        """Where many wait for a part, and many for the playlist with it, all of the former are answered first."""
        clock = Clock()
        shelf = Shelf(clock=clock)
        shelf.announce("p")
        shelf.put_playlist("index.m3u8", playlist(parts=1))
        answered: list[str] = []
        for _ in range(2 * SLICE):
            shelf.wait_for_playlist("index.m3u8", 10, 1).addCallback(lambda _: answered.append("playlist"))
            shelf.wait_for("p").addCallback(lambda _: answered.append("part"))
        shelf.put("p", [b"part"], "video/mp4")
        shelf.put_playlist("index.m3u8", playlist(parts=2))
        self.assertEqual(["part"] * SLICE, answered)
        clock.advance(0)
        self.assertEqual(["part"] * 2 * SLICE + ["playlist"] * 2 * SLICE, answered)
        self.assertEqual(0, shelf.waiting)

    def test_slices_of_many_waiters(self) -> None:
        """Waiters so many that frames would have to wait are answered in slices, even if some leave meanwhile."""
        clock = Clock()
        shelf = Shelf(clock=clock)
        shelf.announce("p")
        waiters = [shelf.wait_for("p") for _ in range(3 * SLICE)]
        shelf.put("p", [b"part"], "")
        answered = [waiter for waiter in waiters if waiter.called]
        self.assertEqual((SLICE, 2 * SLICE), (len(answered), shelf.waiting))
        leaver = next(waiter for waiter in waiters if not waiter.called)
        leaver.cancel()
        self.failureResultOf(leaver, CancelledError)
        clock.pump([0, 0])
        waiters.remove(leaver)
        self.assertEqual({b"part"}, {self.successResultOf(waiter).body for waiter in waiters})
        self.assertEqual((0, []), (shelf.waiting, clock.getDelayedCalls()))

    @given(
        st.lists(
            st.tuples(st.sampled_from(["wait", "reload", "put", "playlist", "withdraw", "cancel"]), st.integers(0, 4))
        )
    )
    def test_count_of_waiters_holds(self, steps: list[tuple[str, int]]) -> None:
        """Whatever happens, as many wait as have not been answered, and none is answered twice."""
        shelf, waiters = Shelf(), []
        for step, number in steps:
            name = f"n{number % 2}"
            if step == "wait":
                shelf.withdraw(name)
                shelf.announce(name)
                waiters.append(shelf.wait_for(name))
            elif step == "reload":
                waiters.append(shelf.wait_for_playlist(name, number, None))
            elif step == "put":
                shelf.put(name, [b""], "")
            elif step == "playlist":
                shelf.put_playlist(name, playlist(number))
            elif step == "withdraw":
                shelf.withdraw(name)
            elif waiters:
                waiter = waiters[number % len(waiters)]
                waiter.addErrback(lambda failure: failure.trap(CancelledError))
                waiter.cancel()
            assert shelf.waiting == sum(not waiter.called for waiter in waiters)
        shelf.clear()
        assert all(waiter.called for waiter in waiters)
