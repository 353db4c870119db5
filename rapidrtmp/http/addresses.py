"""The addresses of clients: what a ``Host`` field names, and who is behind the proxies that are trusted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from rapidrtmp.errors import ConfigurationError

__all__ = ["UNIX_PEER", "TrustedProxies", "forwarded_hops", "host_name", "is_local", "read_address"]

#: The "address" of a peer on a UNIX socket.
UNIX_PEER = "unix"
#: How proxies write an address with a port, or an IPv6 one so that it could have a port.
_HOP = re.compile(r"\[([^]]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}", re.ASCII)
#: The parameter of an element of ``Forwarded`` that names the client (RFC 7239, 5.2).
_FORWARDED_FOR = re.compile(r"""(?:^|;)\s*for\s*=\s*("?)([^";,]*)\1\s*(?:;|$)""", re.IGNORECASE)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::[0-9]{1,5})?", re.ASCII)


def host_name(host: str) -> str:
    """The name in a ``Host`` field, without the port, an IPv6 address in its brackets; ``""`` if it is malformed."""
    match = _HOST.fullmatch(host)
    return match[1] if match else ""


@lru_cache(maxsize=4096)
def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, in brackets or bare, never an IPv4 one mapped into IPv6; ``None`` if it is none."""
    try:
        address = ip_address(text.strip().strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_local(peer: str) -> bool:
    """Whether a peer is on this machine: by a loopback address, or on a UNIX socket."""
    address = read_address(peer)
    return peer == UNIX_PEER or (address is not None and address.is_loopback)


def _read_hop(text: str) -> IPv4Address | IPv6Address | None:
    """An address in ``X-Forwarded-For``: bare, in brackets, in quotes, with a port; ``None`` if it is none."""
    text = text.strip().strip('"')
    match = _HOP.fullmatch(text)
    return read_address((match[1] or match[2]) if match else text)


def forwarded_hops(forwarded_for: str, forwarded: str) -> str:
    """
    What proxies say of whom they ask for, as ``X-Forwarded-For`` has it.

    :param forwarded_for: that field; if it is there it is taken alone, because the proxies that set it hand on the
        other one as clients made it up.
    :param forwarded: the field ``Forwarded`` (RFC 7239). An element that names no client becomes ``unknown``. It is
        split at every comma: none belongs into an address, and so a quote that a client left open spoils nothing of
        what proxies have added.
    """
    if forwarded_for or not forwarded:
        return forwarded_for
    found = (_FORWARDED_FOR.search(element) for element in forwarded.split(","))
    return ",".join(match[2].strip() if match else "unknown" for match in found)


class TrustedProxies:
    """
    The proxies whose word on a client's address is taken.

    :param proxies: addresses, networks, or ``unix`` for clients of a UNIX socket.
    :raises ConfigurationError: one is none of these.
    """

    def __init__(self, proxies: Iterable[str]) -> None:
        self._networks = []
        self._unix = False
        for proxy in proxies:
            if proxy == UNIX_PEER:
                self._unix = True
                continue
            try:
                self._networks.append(ip_network(proxy, strict=False))
            except ValueError as error:
                raise ConfigurationError(f"trusted proxy {proxy!r} is not an address or a network: {error}") from error

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def __contains__(self, peer: str) -> bool:
        if peer == UNIX_PEER:
            return self._unix
        address = read_address(peer) if self._networks else None
        return address is not None and any(address in network for network in self._networks)

    def client(self, peer: str, forwarded_for: str) -> str:
        """
        The address of the client: the last one in ``X-Forwarded-For`` that no trusted proxy has.

        :param peer: who is connected to us.
        :param forwarded_for: the field, each proxy having appended who was connected to it; see
            :func:`forwarded_hops`.
        """
        client = peer
        for hop in reversed(forwarded_for.split(",")):
            if client not in self:
                break
            address = _read_hop(hop)
            if address is None:
                break
            client = str(address)
        return client
