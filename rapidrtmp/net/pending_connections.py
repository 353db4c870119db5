"""
Pending connections: those that have not been admitted to publish, and which of them is closed when there are too many.

A limit that refuses the next connection helps a flood: the flood fills it once and keeps every publisher out. So the
new connection is accepted, and a pending one is closed. Where one client has more than a few, it is one of its own;
else one that has got least far: a connection that has sent nothing goes before one that shakes hands, and that before
one that is ready for commands. Of several the oldest goes. So a flood from few addresses evicts itself, and one from
many must do all that a publisher does, and as fast, before it can push one out.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Generic, TypeVar

__all__ = ["PendingConnection", "PendingConnections", "Stage"]

#: So many pending connections of one client are no crowd: a studio whose encoders reconnect all at once.
A_FEW = 4


class Stage(IntEnum):
    """How far a pending connection has got."""

    SILENT = 0
    HANDSHAKING = 1
    READY = 2  # for commands


class PendingConnection:
    """
    The base of connections that begin as pending ones.

    :ivar client_prefix: where it comes from: the part of the address by which clients are counted.
    :ivar stage: how far it has got; changed by ``PendingConnections`` alone.
    """

    client_prefix: str
    stage: Stage


C = TypeVar("C", bound=PendingConnection)


class PendingConnections(Generic[C]):
    """All pending connections of a server, by client and by stage, in the order they came there."""

    def __init__(self) -> None:
        self._by_client: dict[str, dict[C, None]] = {}
        self._by_stage: dict[Stage, dict[C, None]] = {stage: {} for stage in Stage}

    def __len__(self) -> int:
        return sum(map(len, self._by_stage.values()))

    def __iter__(self) -> Iterator[C]:
        for connections in self._by_stage.values():
            yield from list(connections)

    def __contains__(self, connection: C) -> bool:
        return connection in self._by_stage[connection.stage]

    def add(self, connection: C) -> None:
        """Add a connection; adding it twice counts once."""
        self._by_client.setdefault(connection.client_prefix, {})[connection] = None
        self._by_stage[connection.stage][connection] = None

    def remove(self, connection: C) -> None:
        """Remove a connection that is closed or admitted; one that is not pending changes nothing."""
        if connection in self:
            del self._by_stage[connection.stage][connection]
            of_client = self._by_client[connection.client_prefix]
            del of_client[connection]
            if not of_client:
                del self._by_client[connection.client_prefix]

    def reached(self, connection: C, stage: Stage) -> None:
        """Note how far a connection has got, whether it is pending or not."""
        if connection in self:
            del self._by_stage[connection.stage][connection]
            self._by_stage[stage][connection] = None
        connection.stage = stage

    def first_to_close(self, client_prefix: str = "") -> C | None:
        """
        Find the connection to close so that another can be accepted, or ``None`` if none is pending.

        :param client_prefix: look only among those from there; empty to look at all.
        """
        if not client_prefix:
            crowd = max(self._by_client.values(), key=len, default={})
            if len(crowd) <= A_FEW:
                return next(iter(self), None)
        else:
            crowd = self._by_client.get(client_prefix, {})
        return min(crowd, key=lambda connection: connection.stage, default=None)
