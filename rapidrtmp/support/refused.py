"""A connection that is closed as soon as it is there."""

from __future__ import annotations

from twisted.internet.protocol import Protocol

__all__ = ["Refused"]


class Refused(Protocol):
    """
    What a factory makes of a connection that it refuses.

    ``None``, by which Twisted's factories say so, closes a bare socket; but what wraps a factory in TLS takes it for a
    protocol, and fails.
    """

    def connectionMade(self) -> None:
        """Close the connection at once."""
        self.transport.abortConnection()  # type: ignore[union-attr]
