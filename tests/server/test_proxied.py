"""PROXY headers at real doors: plain, encrypted, and such that need one."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from rapidrtmp.net.proxy_header import SIGNATURE
from rapidrtmp.web.abuse import Abuse
from rapidrtmp.web.policy import HttpLimits
from tests.serving import LOOPBACK, ServerCase, loopback_settings
from tests.web.http2.test_tls import write_certificate

ASK = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def line(client: str) -> bytes:
    """A header of version 1."""
    return f"PROXY TCP4 {client} 127.0.0.1 50000 80\r\n".encode()


def binary(client: str) -> bytes:
    """A header of version 2."""
    addresses = socket.inet_aton(client) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 50_000, 80)
    return SIGNATURE + struct.pack("!BBH", 0x21, 0x11, len(addresses)) + addresses


def is_served(client: socket.socket) -> bool:
    """Whether a request is answered, and not refused."""
    try:
        client.sendall(ASK)
        return client.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


class DoorTests(ServerCase):
    def serve(self, *networks: str, http: tuple[str, ...] = LOOPBACK) -> int:
        """A server at which one client may have one connection; returns the HTTP door's port."""
        self.patch(Abuse, "_look_later", lambda _self: None)  # its timer outlives a server by a minute
        settings = loopback_settings()
        served = self.start(
            replace(
                settings,
                server=replace(settings.server, http=http, proxy_protocol=networks),
                http=replace(settings.http, limits=HttpLimits(max_connections_per_client=1)),
            )
        )
        return served.http.number

    def run_blocking(self, conversation: Callable[[], Any]) -> Deferred[Any]:
        return deferToThread(conversation)

    def connect(self, port: int, header: bytes) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", port), 20)
        client.sendall(header)
        return client

    def limits(self, port: int, header: Callable[[str], bytes]) -> list[bool]:
        """Who of three connections, two of them of one client, is served at last."""
        clients = [self.connect(port, header(host)) for host in ("192.0.2.1", "192.0.2.2", "192.0.2.1")]
        try:
            for client in clients:
                is_served(client)
            return [is_served(client) for client in clients]
        finally:
            for client in clients:
                client.close()

    async def test_counted_for_each_client(self) -> None:
        """Behind a proxy that is trusted each client is counted for itself, in either version."""
        port = self.serve("127.0.0.0/8")
        for header in (line, binary):
            served = await self.run_blocking(lambda header=header: self.limits(port, header))
            self.assertEqual([False, True, True], served)

    async def test_needs_header_at_its_endpoint(self) -> None:
        """At a ``haproxy:`` endpoint it is the same, and one without a header is closed."""
        port = self.serve(http=(f"haproxy:{LOOPBACK[0]}",))
        self.assertEqual([False, True, True], await self.run_blocking(lambda: self.limits(port, line)))
        self.assertFalse(await self.run_blocking(lambda: is_served(self.connect(port, b""))))

    async def test_plain_connection_is_itself(self) -> None:
        """Without a header a connection from such a network is taken as itself."""
        port = self.serve("127.0.0.1")
        self.assertTrue(await self.run_blocking(lambda: is_served(self.connect(port, b""))))

    async def test_header_from_elsewhere_is_refused(self) -> None:
        """A header from elsewhere closes the connection, and nothing behind it is answered."""

        def answers(header: bytes) -> bytes:
            with self.connect(port, header + ASK) as client:
                received = b""
                while data := client.recv(4096):
                    received += data
                return received

        for networks in ((), ("192.0.2.0/24",)):
            port = self.serve(*networks)
            for header in (line("192.0.2.1"), binary("192.0.2.1")):
                self.assertNotIn(b" 200 ", await self.run_blocking(lambda header=header: answers(header)))

    async def test_encrypted_behind_the_header(self) -> None:
        """The header comes before TLS, and before HTTP/2 within it."""
        path = Path(self.mktemp())
        write_certificate(path)
        port = self.serve("127.0.0.1", http=(f"ssl:0:interface=127.0.0.1:privateKey={path}:certKey={path}",))

        def encrypted(header: bytes) -> bool:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(self.connect(port, header)) as client:
                return is_served(client)

        for header in (binary("192.0.2.1"), line("192.0.2.1"), b""):
            self.assertTrue(await self.run_blocking(lambda header=header: encrypted(header)), header)
