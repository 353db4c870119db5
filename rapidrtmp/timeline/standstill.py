"""Times for frames whose timestamps stand still: cameras and drones do that, and keep sending."""

from __future__ import annotations

__all__ = ["Standstill"]


class Standstill:
    """
    Watches one track for a timestamp that is repeated for long, and makes times from arrivals instead.

    Two frames with one timestamp, or a handful, mean nothing: the pieces of a picture, or sound sent in lumps.

    :param patience_ms: for how long a timestamp may be repeated, by the server's clock.
    """

    __slots__ = ("_latest_ms", "_patience_ms", "_raw_ms", "_since_ms")

    def __init__(self, patience_ms: int) -> None:
        self._patience_ms = patience_ms
        self._raw_ms: int | None = None  # where the timestamps stand still
        self._since_ms = 0
        self._latest_ms = 0  # the time that the latest of them was given

    def made_time_ms(self, time_ms: int, now_ms: int, latest_ms: int, arrived_ms: int) -> int | None:
        """
        The time to use for a frame in place of the one it came with.

        :param time_ms: the time it came with, ``now_ms`` when it arrived.
        :param latest_ms: the time used for the frame before, ``arrived_ms`` when that arrived.
        :returns: ``None`` if its own time is as good as any: it moves, or has not stood still for long.
        """
        if self._raw_ms is None or latest_ms != self._latest_ms:
            self._raw_ms, self._since_ms, self._latest_ms = latest_ms, arrived_ms, latest_ms
        if time_ms != self._raw_ms:
            self._raw_ms = None
            return None
        still_ms = now_ms - self._since_ms
        if still_ms < self._patience_ms:
            return None
        self._latest_ms = time_ms + still_ms
        return self._latest_ms
