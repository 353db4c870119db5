"""How targets take an input apart: little pieces off its front, and never an error, for every input means something."""

from __future__ import annotations

__all__ = ["Input"]


class Input:
    """The octets of one input; where they have run out there are zeros, and at last nothing."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def __bool__(self) -> bool:
        return bool(self._octets)

    def take(self, size: int) -> bytes:
        """The next ``size`` octets, or as many as are left."""
        taken, self._octets = self._octets[:size], self._octets[size:]
        return taken

    def number(self, size: int = 1) -> int:
        """The next ``size`` octets as an unsigned number."""
        return int.from_bytes(self.take(size), "big")

    def sized(self) -> bytes:
        """As many octets as the next two of them say."""
        return self.take(self.number(2))

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._octets))
