"""Which addresses of this machine others can reach."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.server import own_addresses
from rapidrtmp.server.own_addresses import find_own_addresses


class OwnAddressTests(SynchronousTestCase):
    def test_reachable_addresses_are_named(self) -> None:
        """They are addresses of an interface that leads somewhere."""
        for address in find_own_addresses():
            self.assertFalse(ip_address(address).is_loopback)

    def test_no_network_means_none(self) -> None:
        """A machine without a network has none, and that is no error."""

        class Unreachable(socket.socket):
            def connect(self, address: object) -> None:
                raise OSError(101, "Network is unreachable")

        self.patch(own_addresses.socket, "socket", Unreachable)
        self.assertEqual([], list(find_own_addresses()))

    def test_loopback_alone_means_none(self) -> None:
        """Where the way leads to this machine itself no other one can take it."""
        self.patch(own_addresses, "_ELSEWHERE", ((socket.AF_INET, "127.0.0.1"),))
        self.assertEqual([], list(find_own_addresses()))
