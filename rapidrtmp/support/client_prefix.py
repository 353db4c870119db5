"""Whom an address stands for, when something is counted by address."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

__all__ = ["origin_of"]

#: What a household or a rented server is given at least (RFC 6177): so many are one stranger's to choose from.
_PREFIX = 64


def origin_of(host: str) -> str:
    """
    The part of an address that its owner cannot choose.

    :param host: a textual address without a port, or any other name of a peer.
    :returns: an IPv4 address as it is, also where it is written as a mapped IPv6 one; of any other IPv6 address its /64
        network; anything else unchanged.
    """
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((address, _PREFIX), strict=False))
