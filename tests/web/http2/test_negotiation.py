import inspect
from typing import Any

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import http

from tests.web.http2.kit import Http2Wire
from tests.web.kit import Server


class NegotiatedChannelTests(SynchronousTestCase):
    def test_agreed_connection_speaks_http2(self) -> None:
        """A connection for which TLS agreed on HTTP/2 speaks it, and the timers of HTTP/1 are gone."""
        server = Server(idle_timeout_ms=30_000)
        timers = len(server.clock.getDelayedCalls())
        wire = Http2Wire(server)
        self.assertEqual(200, wire.get("/health").status)
        wire.leave()
        server.clock.advance(0)
        self.assertEqual(timers, len(server.clock.getDelayedCalls()))

    def test_other_connections_speak_http1(self) -> None:
        """Any other connection speaks HTTP/1.1, even if the client would begin with HTTP/2."""
        for protocol in (None, b"http/1.1"):
            server = Server()
            wire = server.connect()
            wire.transport.negotiatedProtocol = protocol  # type: ignore[attr-defined]
            wire.request("GET", "/health")
            self.assertEqual(200, wire.reply().status)
            wire = server.connect()
            wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            self.assertFalse(wire.transport.value().startswith(b"\0"))


class PrivateNamesTests(SynchronousTestCase):
    """What is used of Twisted without being promised: a release that lacks one of these names needs another way."""

    def setUp(self) -> None:
        self.wrapper: Any = http._GenericHTTPChannelProtocol(http.HTTPChannel())

    def test_wrapper_keeps_what_was_agreed(self) -> None:
        """The wrapper that changes over keeps the channel, what was agreed, and what the factory set."""
        for name in ("_channel", "_negotiatedProtocol", "_requestFactory", "_site", "_factory"):
            self.assertTrue(hasattr(self.wrapper, name), name)
        self.assertIsNone(self.wrapper._negotiatedProtocol)

    def test_setters_keep_their_names(self) -> None:
        """What the factory sets is kept under those names."""
        for name in ("requestFactory", "site", "factory"):
            setattr(self.wrapper, name, self)
            self.assertIs(self, getattr(self.wrapper, f"_{name}"))

    def test_network_producer_is_the_transport(self) -> None:
        """The HTTP/1 channel keeps the transport that it is registered with as a producer."""
        self.wrapper.makeConnection(StringTransport())
        self.assertTrue(callable(self.wrapper._channel._networkProducer.unregisterProducer))
        self.wrapper._channel.setTimeout(None)

    def test_request_takes_a_channel(self) -> None:
        """A request takes the channel and does not want to be queued."""
        self.assertIn("queued", inspect.signature(http.Request.__init__).parameters)
