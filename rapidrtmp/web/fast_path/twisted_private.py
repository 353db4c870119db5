"""
What is used of Twisted's HTTP/1 channel and TCP transport without being promised, under names of our own.

Twisted has no public way to see whether a channel is busy, to hold a request that never became one of its own, or to
offer a socket bytes without a copy. All names that this takes are used here and nowhere else (those for HTTP/2 are in
:mod:`rapidrtmp.web.http2.negotiation`), and a test says which they are: a release of Twisted that lacks one of them
needs another way here. Properties read without a Python function behind them, which would cost each request a call.
"""

from __future__ import annotations

import socket
from operator import attrgetter
from typing import Any

from twisted.internet.tcp import Connection
from twisted.web.http import HTTPChannel

__all__ = ["CHANNEL_NAMES", "TRANSPORT_NAMES", "OpenChannel", "offer"]

CHANNEL_NAMES = (
    "_abortingCall",
    "_buffer",
    "_handlingRequest",
    "_networkProducer",
    "_receivedHeaderCount",
    "_receivedHeaderSize",
    "_respondToBadRequestAndDisconnect",
    "_savedTimeOut",
    "_waitingForTransport",
)
TRANSPORT_NAMES = ("_tempDataLen", "_writeDisconnected", "dataBuffer")

#: Not every system can gather what it sends; there the transport does it all.
_GATHERS = hasattr(socket.socket, "sendmsg")


class OpenChannel(HTTPChannel):
    """
    Twisted's HTTP/1 channel with names for its states.

    :ivar is_answering: a request is being answered; what is received meanwhile waits.
    :ivar is_full: the transport holds enough: the client must read before it is read from.
    :ivar network: the transport, to be paused and resumed.
    :ivar arrived: what was received and not read yet.
    :ivar is_header_long: the header that is being received has more fields, or bytes, than it may have.
    """

    is_answering = property(attrgetter("_handlingRequest"))
    is_full = property(attrgetter("_waitingForTransport"))
    network = property(attrgetter("_networkProducer"))

    def _set_arrived(self, data: bytes) -> None:
        self._buffer = data

    arrived = property(attrgetter("_buffer"), _set_arrived)

    @property
    def is_header_long(self) -> bool:
        """See the class."""
        return bool(self._receivedHeaderCount > self.maxHeaders or self._receivedHeaderSize > self.totalHeadersSize)

    def begin_answering(self, request: Any) -> None:
        """Be busy with a request of ours, until ``requestDone``: what is received waits, and no time limit runs."""
        self.requests.append(request)
        if self.timeOut:
            self._savedTimeOut = self.setTimeout(None)  # type: ignore[no-untyped-call]
        self._handlingRequest = True
        self.paused = True
        self.setRawMode()  # type: ignore[no-untyped-call]

    def restore_timeout(self) -> None:
        """Have the time limit run that was taken off when the answering began."""
        if self.timeOut is None:
            self.setTimeout(self._savedTimeOut)  # type: ignore[no-untyped-call]

    def abort_later(self) -> None:
        """Call ``forceAbortClient`` if the connection is still there a while after it was closed."""
        if self.abortTimeout is not None:
            self._abortingCall = self.callLater(  # type: ignore[no-untyped-call]
                self.abortTimeout, self.forceAbortClient
            )

    def forceAbortClient(self) -> None:
        """It was closed a while ago and is still there."""
        self._abortingCall = None
        self.transport.abortConnection()  # type: ignore[union-attr]

    def _respondToBadRequestAndDisconnect(self) -> None:
        """What arrives is no request, or too much of one; all ways to find that out lead here."""
        self.request_refused()

    def request_refused(self) -> None:
        """Refuse what arrives, which is no request, and close the connection."""
        super()._respondToBadRequestAndDisconnect()  # type: ignore[no-untyped-call]


def offer(transport: Any, *pieces: bytes | memoryview) -> int:
    """
    Offer bytes to the socket itself, at once, if nothing waits before them.

    :returns: how many it took; 0 if there is no bare socket (TLS, HTTP/2), or it is not writable now.
    """
    if not _GATHERS or not isinstance(transport, Connection) or transport.TLS:
        return 0
    if transport.dataBuffer or transport._tempDataLen or transport._writeDisconnected:
        return 0
    if not transport.connected or transport.disconnecting:
        return 0
    try:
        return transport.socket.sendmsg(pieces)
    except OSError:  # full, or broken: the transport finds out which, and knows what is to be done
        return 0
