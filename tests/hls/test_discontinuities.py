"""Where discontinuity sequence numbers begin."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.hls.discontinuities import LARGEST, MOST_STREAMS, DiscontinuityNumbers
from rapidrtmp.names import StreamName

STREAM = StreamName("live", "test")


class DiscontinuityNumbersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.numbers = DiscontinuityNumbers()

    def test_first_number_is_zero(self) -> None:
        """A stream begins at 0, each later presentation of it above the one before, and other streams do not care."""
        self.assertEqual(0, self.numbers.first(STREAM))
        for number in (0, 1, 5, 3):
            self.numbers.reached(STREAM, number)
        self.assertEqual(6, self.numbers.first(STREAM))
        self.assertEqual(0, self.numbers.first(StreamName("live", "other")))

    def test_numbers_stay_small_enough(self) -> None:
        """Behind a number that is too large for players the next presentation begins at 0 again."""
        self.numbers.reached(STREAM, LARGEST - 1)
        self.assertEqual(LARGEST, self.numbers.first(STREAM))
        self.numbers.reached(STREAM, LARGEST)
        self.assertEqual(0, self.numbers.first(STREAM))

    def test_bounded_memory_of_streams(self) -> None:
        """The streams that were heard of longest ago are forgotten."""
        self.numbers.reached(STREAM, 5)
        for number in range(MOST_STREAMS):
            self.numbers.reached(StreamName("live", str(number)), 1)
        self.assertEqual(0, self.numbers.first(STREAM))
        self.assertEqual(2, self.numbers.first(StreamName("live", "0")))
