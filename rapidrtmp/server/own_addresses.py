"""By which addresses other machines reach this one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address

__all__ = ["find_own_addresses"]

#: Addresses that nothing has (RFC 5737, RFC 3849): where a packet to them would leave this machine says its own.
_ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
_DISCARD_PORT = 9


def find_own_addresses() -> Iterator[str]:
    """
    The addresses that this machine speaks to others from, IPv4 first; none where no interface leads anywhere.

    Nothing is sent.
    """
    for family, target in _ELSEWHERE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, _DISCARD_PORT))
            address = ip_address(probe.getsockname()[0].partition("%")[0])
            if not (address.is_loopback or address.is_link_local or address.is_unspecified):
                yield str(address)
