"""
Answers on their way out: no faster than the client reads, and without a copy where the socket takes them.

A transport keeps whatever it is given until the client has read it, in a copy for each client. So of a large body it
is given a piece at a time, the next when it has sent the last: a client that stalls costs a piece, not a segment. And
while the transport holds nothing, the socket is offered all there is, as it is: mostly it takes all of it, and the
transport need not copy it, nor wait for the socket to become writable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from rapidrtmp.support.twisted_transport import offer

__all__ = ["PIECE_BYTES", "SMALL_BYTES", "BodyProducer"]

#: A body up to this size is sent in one piece with its header.
SMALL_BYTES = 16 << 10
#: What a transport is given at a time: just more than what makes it ask us to pause.
PIECE_BYTES = 65 << 10


@implementer(IPushProducer)
class BodyProducer:
    """
    Gives a large body to whatever sends it, as fast as that asks for it.

    :param consumer: a ``twisted.web`` request or channel: has ``write``, ``registerProducer``, ``unregisterProducer``.
    :param done: called when all has been given, and not if the client leaves before.
    :param transport: where to offer the body first, if there is nothing between the consumer and it.
    """

    def __init__(
        self, consumer: Any, body: bytes | memoryview, done: Callable[[], object], transport: Any = None
    ) -> None:
        self._consumer = consumer
        self._rest = memoryview(body)
        self._done = done
        self._transport = transport
        self._is_paused = self._is_stopped = False

    def start(self) -> None:
        """Begin, unless the consumer has no room yet; may be done when this returns."""
        self._consumer.registerProducer(self, True)
        if not self._is_paused:
            self.resumeProducing()

    def pauseProducing(self) -> None:
        """Enough is held now."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """Give what is asked for."""
        self._is_paused = False
        while self._rest and not self._is_stopped:
            taken = offer(self._transport, self._rest)
            if not taken:
                piece = self._rest[:PIECE_BYTES]
                taken = len(piece)
                self._consumer.write(bytes(piece))
            self._rest = self._rest[taken:]
            if self._is_paused:
                return
        if not self._is_stopped:
            self._consumer.unregisterProducer()
            self._done()

    def stopProducing(self) -> None:
        """The client has left."""
        self._is_stopped = True
