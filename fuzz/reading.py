"""How targets take an input apart: little pieces off its front, and never an error, for every input means something."""

from __future__ import annotations

__all__ = ["Input"]


class Input:
    """The bytes of one input; where they have run out there are zeros, and at last nothing."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bool__(self) -> bool:
        return bool(self._data)

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, or as many as are left."""
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def number(self, size: int = 1) -> int:
        """The next ``size`` bytes as an unsigned number."""
        return int.from_bytes(self.take(size), "big")

    def sized(self) -> bytes:
        """As many bytes as the next two of them say."""
        return self.take(self.number(2))

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))
