"""
RTMP's 32-bit millisecond clock, unwrapped into one that never ends (RTMP 1.0, 5.3.1: serial number arithmetic).

Publishers wrap where their own counters do: at 2^32 by the specification, at 2^31 when the timestamp has gone through
an FLV tag that masks its top bit (OBS does), at 2^24 when a small encoder forgets the extended timestamp.
"""

from __future__ import annotations

__all__ = ["WireClock", "clock_step"]

#: How close to either side of 2^31 both timestamps must be for a wrap there: twenty-four days are far less likely.
_NEAR_MS = 60_000
_SMALL_STEP_MS = 0x00F0_0000  # below every wrap: nothing special about it
_SMALL_STEP_BACK_MS = -_SMALL_STEP_MS


def clock_step(before: int, after: int, wrap_24_ms: int = 1_000) -> int:
    """
    The signed distance in milliseconds from one timestamp to the next on the same connection, both 0..2^32-1.

    :param wrap_24_ms: how closely it must miss 2^24 to be the wrap of a 24-bit counter.
    """
    step = (after - before) & 0xFFFF_FFFF
    if step >= 0x8000_0000:
        step -= 0x1_0000_0000
    if -_SMALL_STEP_MS < step < _SMALL_STEP_MS:
        return step
    # Each wrap also backwards: audio and video interleave, so one may still be on the far side.
    if 0x8000_0000 - _NEAR_MS <= before < 0x8000_0000 and after < _NEAR_MS:
        return after + 0x8000_0000 - before
    if 0x8000_0000 - _NEAR_MS <= after < 0x8000_0000 and before < _NEAR_MS:
        return after - 0x8000_0000 - before
    if before < 0x0100_0000 and after < 0x0100_0000:
        if abs(step + 0x0100_0000) < wrap_24_ms:
            return step + 0x0100_0000
        if abs(step - 0x0100_0000) < wrap_24_ms:
            return step - 0x0100_0000
    return step


class WireClock:
    """
    The clock of one publishing connection, shared by its tracks.

    Show it only the timestamps of coded frames: configs, ends of sequences and metadata carry 0 at any time.
    """

    def __init__(self, wrap_24_ms: int = 1_000) -> None:
        self._wrap_24_ms = wrap_24_ms
        self._wire: int | None = None
        self._unwrapped = 0

    def unwrap(self, timestamp: int) -> int:
        """
        Milliseconds on the endless clock for the ``timestamp`` of a message, 0..2^32-1.

        The first is taken as it is; later ones may be less than those before, and than 0: this judges no jumps.
        """
        wire = self._wire
        if wire is None:
            self._unwrapped = timestamp
        elif _SMALL_STEP_BACK_MS < (step := timestamp - wire) < _SMALL_STEP_MS:  # nearly always
            self._unwrapped += step
        else:
            self._unwrapped += clock_step(wire, timestamp, self._wrap_24_ms)
        self._wire = timestamp
        return self._unwrapped
