"""
What is used of Twisted's TCP transport without being promised: to offer bytes to the socket itself.

All names that this takes are used here and nowhere else, and a test says which they are: a release of Twisted that
lacks one of them needs another way here.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.tcp import Connection

__all__ = ["TRANSPORT_NAMES", "bare_socket", "offer", "offer_all", "offer_one"]

TRANSPORT_NAMES = ("_tempDataLen", "_writeDisconnected", "dataBuffer")

#: Not every system can gather what it sends; there the transport does it all.
_GATHERS = hasattr(socket.socket, "sendmsg")


def bare_socket(transport: Any) -> socket.socket | None:
    """The socket of a transport that has one, with nothing between it and us such as TLS; else ``None``."""
    if not _GATHERS or not isinstance(transport, Connection) or transport.TLS:
        return None
    handle = transport.getHandle()
    return handle if isinstance(handle, socket.socket) else None


def offer(transport: Any, *pieces: bytes | memoryview) -> int:
    """
    Offer bytes to the socket itself, at once, if nothing waits before them.

    :returns: how many it took; 0 if there is no bare socket (TLS, HTTP/2), or it is not writable now.
    """
    if not _GATHERS or not isinstance(transport, Connection) or transport.TLS:
        return 0
    return offer_all(transport, pieces)


def offer_all(transport: Any, pieces: Sequence[bytes | memoryview]) -> int:
    """As :func:`offer`, for a transport of which it is known that it has a bare socket."""
    if not _is_free(transport):
        return 0
    try:
        sent: int = transport.socket.sendmsg(pieces)
    except OSError:  # full, or broken: the transport finds out which, and knows what is to be done
        return 0
    return sent


def offer_one(transport: Any, data: bytes) -> int:
    """As :func:`offer_all`, for one piece: that takes less time."""
    if not _is_free(transport):
        return 0
    try:
        sent: int = transport.socket.send(data)
    except OSError:
        return 0
    return sent


def _is_free(transport: Any) -> bool:
    """Whether nothing waits in a transport, and it takes more."""
    waits = transport.dataBuffer or transport._tempDataLen or transport._writeDisconnected
    return not waits and transport.connected and not transport.disconnecting
