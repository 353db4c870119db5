"""The bit rate that one publisher may send, measured over some seconds so that bursts after a pause pass."""

from __future__ import annotations

__all__ = ["BitrateLimit"]

#: An encoder that was held up sends what it has kept; so much of the time's worth may come at once.
WINDOW_S = 10


class BitrateLimit:
    """
    A leaky bucket of received bytes.

    :param bits_per_second: 0 for no limit.
    :param received_bytes: how much the connection had received at ``time_ms``, when the publish began.
    """

    def __init__(self, bits_per_second: int, received_bytes: int, time_ms: int) -> None:
        self.bits_per_second = bits_per_second
        self._received_bytes = received_bytes
        self._updated_ms = time_ms
        self._excess_bits = 0

    def is_exceeded(self, received_bytes: int, time_ms: int) -> bool:
        """
        Look again.

        :param received_bytes: how much the connection has received in all.
        :param time_ms: the server's clock.
        """
        passed_ms = time_ms - self._updated_ms
        sent_bits = 8 * (received_bytes - self._received_bytes)
        self._excess_bits = max(0, self._excess_bits + sent_bits - self.bits_per_second * passed_ms // 1000)
        self._received_bytes, self._updated_ms = received_bytes, time_ms
        return 0 < self.bits_per_second * WINDOW_S < self._excess_bits

    @property
    def is_near(self) -> bool:
        """Whether half of what may come at once has come beyond the rate."""
        return 0 < self.bits_per_second * WINDOW_S <= 2 * self._excess_bits
