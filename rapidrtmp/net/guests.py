"""
Guests: connections that have not been admitted to publish, and what becomes of them when there are too many.

A limit that refuses whoever comes next is a gift to a flood: it fills the house once and keeps every publisher out. So
the newcomer is let in, and a guest must go. Where one origin has more than a few, it is one of its own; else one that
has got least far: those who have said nothing go before those who shake hands, and these before those who are
connected. Of several the one that has waited longest goes. So a flood from few addresses evicts itself, and one from
many must do all that a publisher does, and as fast, before it can push one out.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

__all__ = ["Guest", "Guests", "Stage"]

#: So many guests of one origin are no crowd: a studio whose encoders reconnect all at once.
A_FEW = 4


class Stage(IntEnum):
    """How far a guest has got."""

    SILENT = 0
    HANDSHAKING = 1
    READY = 2  # for commands


class Guest(Protocol):
    """
    A connection that is not admitted yet.

    :ivar origin: where it comes from, as :func:`~rapidrtmp.origin.origin_of` says.
    :ivar stage: how far it has got; changed by ``Guests`` alone.
    """

    origin: str
    stage: Stage


G = TypeVar("G", bound=Guest)


class Guests(Generic[G]):
    """All guests of a server, by origin and by stage, in the order they came there."""

    def __init__(self) -> None:
        self._by_origin: dict[str, dict[G, None]] = {}
        self._by_stage: dict[Stage, dict[G, None]] = {stage: {} for stage in Stage}

    def __len__(self) -> int:
        return sum(map(len, self._by_stage.values()))

    def __iter__(self) -> Iterator[G]:
        for guests in self._by_stage.values():
            yield from list(guests)

    def __contains__(self, guest: G) -> bool:
        return guest in self._by_stage[guest.stage]

    def add(self, guest: G) -> None:
        """A guest has come."""
        self._by_origin.setdefault(guest.origin, {})[guest] = None
        self._by_stage[guest.stage][guest] = None

    def remove(self, guest: G) -> None:
        """A guest has left, or is a publisher now; one that is no guest changes nothing."""
        if guest in self:
            del self._by_stage[guest.stage][guest]
            guests = self._by_origin[guest.origin]
            del guests[guest]
            if not guests:
                del self._by_origin[guest.origin]

    def reached(self, guest: G, stage: Stage) -> None:
        """A guest, or one that is none now, has got so far."""
        if guest in self:
            del self._by_stage[guest.stage][guest]
            self._by_stage[stage][guest] = None
        guest.stage = stage

    def first_to_go(self, origin: str = "") -> G | None:
        """
        The guest that makes room for another, or ``None`` if there is none.

        :param origin: look only among those from there; empty to look at all.
        """
        if not origin:
            crowd = max(self._by_origin.values(), key=len, default={})
            if len(crowd) <= A_FEW:
                return next(iter(self), None)
        else:
            crowd = self._by_origin.get(origin, {})
        return min(crowd, key=lambda guest: guest.stage, default=None)
