"""Whom an address stands for."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.support.client_prefix import origin_of


class OriginTests(SynchronousTestCase):
    """Addresses that one stranger can choose from are one."""

    def test_ipv4_stands_for_itself(self) -> None:
        """An IPv4 address stands for itself, however it is written."""
        self.assertEqual("192.0.2.7", origin_of("192.0.2.7"))
        self.assertEqual("192.0.2.7", origin_of("::ffff:192.0.2.7"))

    def test_ipv6_network_is_one_origin(self) -> None:
        """All addresses of one /64 are one origin, and those of another are not."""
        self.assertEqual(origin_of("2001:db8:1:2::7"), origin_of("2001:db8:1:2:ffff::1"))
        self.assertNotEqual(origin_of("2001:db8:1:2::7"), origin_of("2001:db8:1:3::7"))
        self.assertEqual("fe80::/64", origin_of("fe80::1%eth0"))

    def test_no_address_stays_itself(self) -> None:
        """What is no address stays what it is."""
        self.assertEqual(["local", "a:b", ""], [origin_of(name) for name in ("local", "a:b", "")])
