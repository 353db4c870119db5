"""
How much must have arrived before a publisher's socket is worth reading (``SO_RCVLOWAT``).

An encoder sends a picture every 16 to 40 ms, and between two of them one or two audio frames of a few hundred bytes.
To wake up for each of these costs as much as for a picture. So the system is asked to wait until there is as much as
the smallest picture of late: then audio is read together with the picture behind it, and no picture waits for anything.
What that buys stands in ``benchmarks/RESULTS.md``.

The mark goes as soon as it could hold something up: where pictures are further apart than audio may wait, where they
are hardly larger than audio, where they cease, and from when a part of one has been read until all of it has.
"""

from __future__ import annotations

from collections import deque

__all__ = ["NO_MARK", "LowWater"]

#: No mark: whatever arrives is read.
NO_MARK = 1
#: Marks of less than this would let audio through anyhow; more than this is never asked for.
LEAST_MARK, LARGEST_MARK = 1024, 16_384
#: For so many looks pictures must have come regularly, and been larger than the mark.
LOOKS = 8
#: With fewer pictures than this from one look to the next (a quarter of a second) audio would wait for too long.
PICTURES_A_LOOK = 5


class LowWater:
    """
    Decides the mark of one publisher.

    :ivar mark: in bytes; 1 for none.
    :ivar pictures: the sizes of those that have come since the last look, in bytes; the caller adds each.
    """

    def __init__(self) -> None:
        self.mark = NO_MARK
        self.pictures: list[int] = []
        self._smallest_pictures: deque[int] = deque([0] * LOOKS, LOOKS)

    def update(self) -> bool:
        """Look at what has come since the last look; tell whether the mark is another now."""
        is_regular = len(self.pictures) >= PICTURES_A_LOOK
        self._smallest_pictures.append(min(LARGEST_MARK, *self.pictures) if is_regular else 0)
        self.pictures.clear()
        smallest = min(self._smallest_pictures)
        # A power of two: small changes of the smallest picture leave the socket alone.
        mark = 1 << smallest.bit_length() - 1 if smallest >= LEAST_MARK else NO_MARK
        has_changed = mark != self.mark
        self.mark = mark
        return has_changed
