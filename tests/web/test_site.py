from typing import Any

from twisted.internet import reactor as real_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, HTTPConnectionPool, readBody

from tests.slow import slow
from tests.web.kit import Server, playlist

PATH = "/live/k/index.m3u8"


class ConnectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server(idle_timeout_ms=30_000)
        self.server.live().shelf.put_playlist("index.m3u8", playlist())
        self.clock: Clock = self.server.clock

    def test_keep_alive_serves_several(self) -> None:
        """One connection serves one request after another."""
        wire = self.server.connect()
        for _ in range(3):
            wire.request("GET", PATH)
            self.assertEqual(200, wire.reply().status)
        self.assertFalse(wire.transport.disconnecting)

    def test_pipelined_requests_in_order(self) -> None:
        """Requests sent at once are answered in order, held ones too."""
        wire = self.server.connect()
        wire.send(
            b"GET %s?_HLS_msn=10 HTTP/1.1\r\nHost: a\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n" % PATH.encode()
        )
        self.assertFalse(wire.is_answered)
        stream = next(iter(self.server.registry))
        stream.shelf.put_playlist("index.m3u8", playlist(10))
        self.assertIn("# 10.0", wire.reply().text())
        self.clock.advance(0)
        self.assertEqual({"status": "ok"}, wire.reply().json())

    def test_same_answer_at_every_cut(self) -> None:
        """However a request is cut on its way, it is answered the same."""
        request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        wire = self.server.connect()
        for position in range(len(request)):
            wire.send(request[position : position + 1])
        self.assertEqual({"status": "ok"}, wire.reply().json())

    def test_close_is_done_when_asked(self) -> None:
        """A client that wants the connection closed has it closed behind the answer."""
        wire = self.server.connect()
        wire.request("GET", PATH, Connection="close")
        self.assertEqual(200, wire.reply().status)
        self.assertTrue(wire.transport.disconnecting)

    def test_http_1_0(self) -> None:
        """A client of the old protocol, without a host, is served."""
        wire = self.server.connect()
        wire.send(b"GET /health HTTP/1.0\r\n\r\n")
        self.assertEqual({"status": "ok"}, wire.reply().json())

    def test_idle_connection_is_closed(self) -> None:
        """A connection that says nothing is closed after a while, before or after a request."""
        for asks_first in (False, True):
            wire = self.server.connect()
            if asks_first:
                wire.request("GET", PATH)
            self.clock.advance(29)
            self.assertFalse(wire.transport.disconnecting)
            self.clock.advance(2)
            self.assertTrue(wire.transport.disconnecting)

    def test_dripping_request_must_end(self) -> None:
        """A request must be whole in time, however steadily its bytes drip in."""
        for dripping in (
            b"G",
            b"GET / HTTP/1.1\r\nX: y",
            b"POST /api/v1/publish HTTP/1.1\r\nContent-Length: 99\r\n\r\n",
        ):
            wire = self.server.connect()
            wire.send(dripping)
            for _ in range(15):
                self.clock.advance(2.1)
                if not wire.transport.disconnecting:
                    wire.send(b"x")
            self.assertTrue(wire.transport.disconnecting, dripping)

    def test_held_request_is_not_idle(self) -> None:
        """A request that is held as long as it may be is not taken for an idle connection."""
        server = Server(idle_timeout_ms=2_000)
        stream = server.live()
        stream.shelf.put_playlist("index.m3u8", playlist())
        wire = server.connect()
        wire.request("GET", f"{PATH}?_HLS_msn=10")
        server.clock.advance(5)
        stream.shelf.put_playlist("index.m3u8", playlist(10))
        self.assertEqual(200, wire.reply().status)

    @slow
    def test_header_limits_close_the_connection(self) -> None:
        """Too many header fields, or too long ones, are refused, and the connection is closed."""
        for fields in (
            b"X: y\r\n" * 101,
            b"X: " + b"y" * 16_000 + b"\r\nZ: " + b"y" * 1000 + b"\r\n",
            b"X: " + b"y" * 20_000,
        ):
            wire = self.server.connect()
            wire.send(b"GET /health HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
            self.assertEqual(431, wire.reply().status)
            self.assertTrue(wire.transport.disconnecting)

    def test_long_request_line(self) -> None:
        """A request line beyond the limit is refused, whole or not, and the connection is closed."""
        for size in (16_385, 70_000):
            for rest in (b"", b" HTTP/1.1\r\nHost: a\r\n\r\n"):
                wire = self.server.connect()
                wire.send(b"GET /" + b"y" * size + rest)
                reply = wire.reply()
                self.assertEqual((414, "close"), (reply.status, reply.headers["connection"]))
                self.assertIn("16384 bytes", reply.json()["error"])
                self.assertTrue(wire.transport.disconnecting)

    def test_dripping_header_must_end(self) -> None:
        """A header that is not whole within 15 s closes the connection, also behind another request."""
        for first in (b"", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"):
            wire = self.server.connect()
            wire.send(first + b"GET /health HTTP/1.1\r\n")
            for _ in range(14):
                self.clock.advance(1)
                wire.send(b"X: y\r\n")
            self.assertFalse(wire.transport.disconnecting)
            self.clock.advance(2)
            self.assertTrue(wire.transport.disconnecting)

    def test_slow_body_has_the_idle_timeout(self) -> None:
        """A body has the idle timeout to arrive, and so has the next request after a slow header."""
        wire = self.server.connect()
        wire.send(b"POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\n")
        self.clock.advance(10)
        wire.send(b"Content-Length: 20\r\n\r\n")
        self.clock.advance(20)
        wire.send(b'{"streamKey": "abc"}')
        self.assertEqual(200, wire.reply().status)
        self.clock.advance(29)
        self.assertFalse(wire.transport.disconnecting)
        self.clock.advance(2)
        self.assertTrue(wire.transport.disconnecting)

    def test_endless_body_is_not_kept(self) -> None:
        """Of a body that is too long, no more is kept than shows it, and the connection stays usable."""
        server = Server(max_body_bytes=100)
        wire = server.connect()
        wire.send(b"POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(50):
            wire.send(b"1000\r\n" + bytes(4096) + b"\r\n")
        kept = wire.protocol._channel.requests[0].content.getvalue()
        self.assertEqual(101, len(kept))
        wire.send(b"0\r\n\r\n")
        self.assertEqual(413, wire.reply().status)
        wire.request("GET", "/health")
        self.assertEqual(200, wire.reply().status)

    def test_server_field_has_no_version(self) -> None:
        """The answer names the product and no version."""
        self.assertEqual("RapidRTMP", self.server.get("/health").headers["server"])


class AccessLogTests(SynchronousTestCase):
    def lines(self, **policy: Any) -> list[dict[str, Any]]:
        server = Server(**policy)
        server.live().shelf.put_playlist("index.m3u8", playlist())
        with capturedLogs() as events:
            server.get(f"{PATH}?token=secret", peer="192.0.2.1")
        return [event for event in events if event.get("path") == PATH]

    def test_access_log_is_off_by_default(self) -> None:
        """Requests are not logged unless that is asked for."""
        self.assertEqual([], self.lines())

    def test_access_log_has_no_query(self) -> None:
        """If it is, a line tells who asked for what with which outcome, without the query."""
        (event,) = self.lines(access_log=True)
        self.assertEqual(("192.0.2.1", "GET", 200), (event["client"], event["method"], event["status"]))
        self.assertNotIn("secret", repr(event))

    def test_token_in_path(self) -> None:
        """A token in a path is not logged, however it is written, whether there is such a path or not."""
        server = Server(access_log=True)
        server.live().shelf.put_playlist("index.m3u8", playlist())
        with capturedLogs() as events:
            for path in ("~secret/index.m3u8", "%7Esecret/index.m3u8", "~secret/none.m4s", "~secret", "~secret/a/b"):
                server.get(f"/live/k/{path}")
        logged = [event["path"] for event in events if "path" in event]
        self.assertEqual([f"/live/k/~{end}" for end in ("/index.m3u8", "/index.m3u8", "/none.m4s", "", "/a/b")], logged)
        self.assertNotIn("secret", repr(events))


class LoopbackTests(TestCase):
    """The site on a real port, asked by a real client."""

    @slow
    async def test_held_and_left(self) -> None:
        """Over real sockets, requests are held, woken together, kept alive and dropped when their client leaves."""
        reactor: Any = real_reactor
        server = Server()
        stream = server.live()
        stream.shelf.put_playlist("index.m3u8", playlist())
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(server.site)
        pool = HTTPConnectionPool(reactor, persistent=True)
        agent = Agent(reactor, pool=pool)
        base = f"http://127.0.0.1:{port.getHost().port}{PATH}".encode()
        try:
            held = [agent.request(b"GET", base + b"?_HLS_msn=10") for _ in range(4)]
            leaving = agent.request(b"GET", base + b"?_HLS_msn=10")
            while stream.shelf.waiting < 5:
                await _turn(reactor)
            leaving.addErrback(lambda _: None)
            leaving.cancel()
            while stream.shelf.waiting > 4:
                await _turn(reactor)
            stream.shelf.put_playlist("index.m3u8", playlist(10))
            bodies = [await readBody(response) for response in await gatherResults(held)]
            self.assertEqual([playlist(10).body] * 4, bodies)
            again = await readBody(await agent.request(b"GET", base))
            self.assertEqual(playlist(10).body, again)
        finally:
            await pool.closeCachedConnections()
            await port.stopListening()

    async def test_long_line_is_answered(self) -> None:
        """Over a real socket, the refusal of an endless request line arrives although the client sends on."""
        reactor: Any = real_reactor
        server = Server()
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(server.site)
        try:
            client = clientFromString(reactor, f"tcp:127.0.0.1:{port.getHost().port}")
            talker = await connectProtocol(client, _Talker())
            talker.transport.write(b"GET /" + b"y" * 500_000)
            self.assertTrue((await talker.ended).startswith(b"HTTP/1.1 414 "))
            while server.metric("http_connections"):
                await _turn(reactor)
        finally:
            await port.stopListening()


class _Talker(Protocol):
    """Keeps what it receives until the other side has ended."""

    def __init__(self) -> None:
        self.ended: Deferred[bytes] = Deferred()
        self._received = b""

    def dataReceived(self, data: bytes) -> None:
        self._received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(self._received)


def _turn(reactor: Any) -> Deferred[None]:
    return deferLater(reactor, 0)
