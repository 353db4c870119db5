"""The servers that a stream has come through."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.rtmp.via import MAX_HOPS, VIA, find_loop, read_via, write_via


class ViaTests(SynchronousTestCase):
    def test_ids_are_read_as_written(self) -> None:
        """What one server says another one reads; nonsense says nothing."""
        self.assertEqual(("a1", "b2"), read_via({VIA: write_via(["a1", "b2"])}))
        for nonsense in (None, 5.0, "", ["a"], "\0, ,a b"):
            self.assertEqual((), read_via({VIA: nonsense}))  # type: ignore[dict-item]
        self.assertEqual((), read_via({}))

    def test_loops_are_found(self) -> None:
        """A stream that has come through this server, or through too many, is a loop."""
        self.assertEqual("", find_loop(("a", "b"), "c"))
        self.assertIn("relay loop", find_loop(("a", "b"), "a"))
        ids = [f"{number}" for number in range(MAX_HOPS + 1)]
        self.assertIn("relay loop", find_loop(ids, "me"))
        self.assertEqual("", find_loop(ids[1:], "me"))
