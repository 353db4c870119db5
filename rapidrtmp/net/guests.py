"""
Guests: connections that have not been admitted to publish, and what becomes of them when there are too many.

A limit that refuses whoever comes next is a gift to a flood: it fills the house once and keeps every publisher out. So
the newcomer is let in, and a guest must go: of the origin that has most of them the one that has waited longest. A
publisher needs a second or less from its connection to its admission; a flood from few addresses evicts itself, and one
from many must be faster than all guests together have patience for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

__all__ = ["Guest", "Guests"]


class Guest(Protocol):
    """
    A connection that is not admitted yet.

    :ivar origin: where it comes from, as :func:`~rapidrtmp.net.origin.origin_of` says.
    :ivar opened_ms: since when it is there, in milliseconds of the reactor's clock.
    """

    origin: str
    opened_ms: int


G = TypeVar("G", bound=Guest)


class Guests(Generic[G]):
    """All guests of a server, by origin and in the order they came."""

    def __init__(self) -> None:
        self._by_origin: dict[str, dict[G, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[G]:
        for guests in list(self._by_origin.values()):
            yield from list(guests)

    def add(self, guest: G) -> None:
        """A guest has come."""
        guests = self._by_origin.setdefault(guest.origin, {})
        if guest not in guests:
            guests[guest] = None
            self._count += 1

    def remove(self, guest: G) -> None:
        """A guest has left, or is a publisher now; one that is no guest changes nothing."""
        guests = self._by_origin.get(guest.origin, {})
        if guest in guests:
            del guests[guest]
            self._count -= 1
            if not guests:
                del self._by_origin[guest.origin]

    def first_to_go(self, origin: str = "") -> G | None:
        """
        The guest that makes room for another, or ``None`` if there is none.

        :param origin: look only among those from there; empty to look at all.
        """
        if origin:
            return next(iter(self._by_origin.get(origin, {})), None)
        if not self._by_origin:
            return None
        guests = max(self._by_origin.values(), key=lambda each: (len(each), -next(iter(each)).opened_ms))
        return next(iter(guests))
