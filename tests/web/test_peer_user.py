"""Which user is at the other end of a connection, asked of the kernel with real sockets."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from rapidrtmp.web import peer_user
from rapidrtmp.web.peer_user import _end as end
from rapidrtmp.web.peer_user import find_local_peer, find_owner

NOBODY = 65534


class Transport:
    """A transport of Twisted around a socket, as far as the look-up cares."""

    def __init__(self, sock: socket.socket, peer: Any = None) -> None:
        self.sock = sock
        self.peer = peer

    def getHandle(self) -> socket.socket:
        return self.sock

    def getPeer(self) -> Any:
        return self.peer or IPv4Address("TCP", *self.sock.getpeername()[:2])


@contextmanager
def user(uid: int) -> Iterator[None]:
    """Make sockets as another user for a while."""
    if os.geteuid() != 0:
        raise SkipTest("only root can be another user")
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


class LookUpCase(SynchronousTestCase):
    def setUp(self) -> None:
        if not sys.platform.startswith("linux"):
            raise SkipTest("only Linux tells the owner of a socket")

    def connect(self, host: str = "127.0.0.1", listen: str = "") -> tuple[socket.socket, socket.socket]:
        """A connection: our end, and the one that is asked about."""
        family = socket.AF_INET6 if ":" in (listen or host) else socket.AF_INET
        try:
            listener = socket.create_server((listen or host, 0), family=family, dualstack_ipv6=listen == "::")
        except OSError as error:
            raise SkipTest(f"no such address: {error}") from error
        self.addCleanup(listener.close)
        client = socket.create_connection((host, listener.getsockname()[1]))
        self.addCleanup(client.close)
        server, _ = listener.accept()
        self.addCleanup(server.close)
        return server, client

    def owner(self, server: socket.socket) -> int | None:
        return find_owner(end(server.getpeername()), end(server.getsockname()))


class OwnerTests(LookUpCase):
    """The owner of one socket."""

    def test_own_user_is_known(self) -> None:
        """Our own user is known, over IPv4, IPv6, and IPv4 to a socket that speaks both."""
        for host, listen in (("127.0.0.1", ""), ("127.0.0.5", ""), ("::1", ""), ("127.0.0.1", "::")):
            self.assertEqual(os.geteuid(), self.owner(self.connect(host, listen)[0]), (host, listen))

    def test_mapped_address_is_known(self) -> None:
        """A client whose own socket is one of IPv6 with a mapped address is known too."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        client = socket.socket(socket.AF_INET6)
        self.addCleanup(client.close)
        client.connect(("::ffff:127.0.0.1", listener.getsockname()[1]))
        server, _ = listener.accept()
        self.addCleanup(server.close)
        self.assertEqual(os.geteuid(), self.owner(server))

    def test_other_user_is_known(self) -> None:
        """Another user's socket is that user's."""
        with user(NOBODY):
            server, _ = self.connect()
        self.assertEqual(NOBODY, self.owner(server))

    def test_closed_socket_has_no_owner(self) -> None:
        """What its process has closed is no one's, not root's, though the kernel writes 0."""
        server, client = self.connect()
        client.close()
        self.assertIsNone(self.owner(server))

    def test_half_closed_socket_has_its_owner(self) -> None:
        """A client that has said all and waits for the answer still has its socket."""
        server, client = self.connect()
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(os.geteuid(), self.owner(server))

    def test_listener_is_not_the_client(self) -> None:
        """A socket that listens at the port is not the one that is connected."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        here = end(listener.getsockname())
        self.assertIsNone(find_owner(here, (here[0], 1)))


class TableTests(OwnerTests):
    """The same where the kernel only has the tables in /proc."""

    def setUp(self) -> None:
        super().setUp()

        def no_such_interface(*_ends: object) -> None:
            raise OSError("no such interface")

        self.patch(peer_user, "_ask_kernel", no_such_interface)


class LocalPeerTests(LookUpCase):
    """Who is at the other end of a transport."""

    def test_tcp_peer_is_known(self) -> None:
        """Of a connection within this machine, user and own address are known."""
        server, _ = self.connect()
        found = find_local_peer(Transport(server))
        assert found is not None
        self.assertEqual((os.geteuid(), "127.0.0.1"), (found.uid, str(found.address)))

    def test_unix_peer_is_known(self) -> None:
        """Of a UNIX socket the user is known."""
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        found = find_local_peer(Transport(ours))
        assert found is not None
        self.assertEqual((os.geteuid(), None), found)

    def test_in_the_name_of_another(self) -> None:
        """Where a protocol tells another peer than the socket has, who that is is not known."""
        server, _ = self.connect()
        other, _ = self.connect()
        claimed = IPv4Address("TCP", *other.getpeername()[:2])
        self.assertIsNone(find_local_peer(Transport(server, claimed)))

    def test_unknown_peers_stay_unknown(self) -> None:
        """A connection that is gone, one in memory, and users that a namespace does not tell apart are not known."""
        server, _ = self.connect()
        told = Transport(server).getPeer()
        server.close()
        self.assertIsNone(find_local_peer(Transport(server, told)))
        self.assertIsNone(find_local_peer(object()))
        self.patch(peer_user, "_is_distinct", lambda _uid: False)
        self.assertIsNone(find_local_peer(Transport(self.connect()[0])))
