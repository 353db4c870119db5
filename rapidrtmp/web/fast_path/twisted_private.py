"""
What is used of Twisted's HTTP/1 channel without being promised, under names of our own.

Twisted has no public way to see whether a channel is busy, or to hold a request that never became one of its own. All
names that this takes are used here and nowhere else, and a test says which they are: a release of Twisted that lacks
one of them needs another way here. Those for HTTP/2 are in :mod:`rapidrtmp.web.http2.negotiation`, those of a transport
in :mod:`rapidrtmp.support.twisted_transport`. Properties read without a Python function behind them, which would cost
each request a call.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from twisted.web.http import HTTPChannel

__all__ = ["CHANNEL_NAMES", "OpenChannel"]

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
