"""
Which HTTP a connection speaks: HTTP/1.1, until TLS says that the client wants HTTP/2 (RFC 9113, 3.2).

``twisted.web`` changes over to an HTTP/2 of its own, and offers no way to choose another. All its private names that
this takes are used here, and a test says which they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.web.http import HTTPChannel, _GenericHTTPChannelProtocol

__all__ = ["NegotiatedChannel"]


class NegotiatedChannel(_GenericHTTPChannelProtocol):
    """
    Stands between a transport and the channel that speaks its protocol.

    :param channel: speaks HTTP/1.1.
    :param make_http2: makes what speaks HTTP/2 instead, for the site's factory of requests, the site and the factory of
        the connection; ``None`` if TLS does not offer it.
    """

    def __init__(self, channel: HTTPChannel, make_http2: Callable[[Any, Any, Any], Protocol] | None) -> None:
        super().__init__(channel)
        self._make_http2 = make_http2
        channel.negotiated = self  # type: ignore[attr-defined]

    def dataReceived(self, data: bytes) -> None:
        """Change over if the client wants it, with the first bytes after the handshake."""
        if self._negotiatedProtocol is not None:  # nearly always
            self._channel.dataReceived(data)
            return
        transport = self._channel.transport
        if getattr(transport, "negotiatedProtocol", None) == b"h2" and self._make_http2:
            self._change_over(transport, self._make_http2)
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def _change_over(self, transport: Any, make_http2: Callable[[Any, Any, Any], Protocol]) -> None:
        was: Any = self._channel
        was._networkProducer.unregisterProducer()
        was.setTimeout(None)
        channel: Any = make_http2(self._requestFactory, self._site, self._factory)
        self._channel = channel
        channel.makeConnection(transport)
        was._networkProducer.registerProducer(channel, True)
        self._negotiatedProtocol: Any = b"h2"

    def take_over(self, protocol: Any, head: bytes) -> None:
        """
        Have another protocol speak from here on, behind the header of the answer to the request that is in progress.

        :param protocol: is connected to the transport, and notified when that is gone; it has what a channel is asked
            for here, ``has_asked`` and ``is_idle``.
        :param head: the header, which goes out first.
        """
        was: Any = self._channel
        transport = was.transport
        was._networkProducer.unregisterProducer()
        was.setTimeout(None)
        self._channel = protocol
        self._negotiatedProtocol = b"other"
        transport.resumeProducing()
        transport.write(head)
        protocol.makeConnection(transport)
