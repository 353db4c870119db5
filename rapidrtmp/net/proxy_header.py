"""
The PROXY protocol, versions 1 and 2: what a proxy says, ahead of all else, of the client that a connection stands for.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt; the sections named here are that document's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from rapidrtmp.errors import PeerProtocolError

__all__ = ["SIGNATURE", "ProxyHeader", "read_proxy_header"]

#: What version 2 begins with.
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_WORD = b"PROXY "
#: The longest line of version 1, its end included (2.1).
_LONGEST_LINE = 107
#: The fixed part of version 2; behind it addresses, and whatever else the proxy has to say, up to so many bytes.
_FIXED = struct.Struct("!12sBBH")
_LONGEST_REST = 4096
_LOCAL, _PROXY = 0x20, 0x21
#: Protocol family and transport of TCP over IPv4 and IPv6, and how their addresses are laid out (2.2).
_FAMILIES = {0x11: struct.Struct("!4s4sHH"), 0x21: struct.Struct("!16s16sHH")}


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """
    A header.

    :ivar client: address and port of the client; ``None`` if the proxy speaks for itself, or for a client of which it
        knows no such address.
    :ivar size: in bytes; the client's own follow.
    """

    client: tuple[IPv4Address | IPv6Address, int] | None
    size: int


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """
    Read the header at the beginning of a connection.

    :param data: all that has come so far.
    :returns: ``None`` if there is more to come; with a ``size`` of 0 if these are the client's own bytes already.
    :raises PeerProtocolError: it begins as a header, and is none.
    """
    if data.startswith(SIGNATURE):
        return _read_binary(data)
    if data.startswith(_WORD):
        return _read_line(data)
    begins = SIGNATURE.startswith(data) or _WORD.startswith(data)
    return None if begins else ProxyHeader(None, 0)


def _read_line(data: bytes) -> ProxyHeader | None:
    """Version 1: ``PROXY TCP4 192.0.2.7 192.0.2.1 50000 1935``."""
    line, end, _ = data[:_LONGEST_LINE].partition(b"\r\n")
    if not end:
        if len(data) >= _LONGEST_LINE:
            raise PeerProtocolError(f"a PROXY header without an end in {_LONGEST_LINE} bytes")
        return None
    size = len(line) + len(end)
    _, family, *fields = line.split(b" ")
    if family == b"UNKNOWN":
        return ProxyHeader(None, size)
    try:
        source, _destination, port, _own_port = (field.decode("ascii") for field in fields)
        address = ip_address(source)
        number = int(port) if port.isdecimal() else -1
    except ValueError as error:
        raise PeerProtocolError(f"a PROXY header that cannot be read: {line!r}") from error
    if family != b"TCP%d" % address.version or not 0 <= number <= 0xFFFF:
        raise PeerProtocolError(f"a PROXY header that cannot be read: {line!r}")
    return ProxyHeader((_unmapped(address), number), size)


def _read_binary(data: bytes) -> ProxyHeader | None:
    """Version 2: twelve bytes of signature, command, family and length, then the addresses."""
    if len(data) < _FIXED.size:
        return None
    _signature, command, family, length = _FIXED.unpack_from(data)
    if command not in (_LOCAL, _PROXY):
        raise PeerProtocolError(f"a PROXY header of version and command 0x{command:02x}")
    if length > _LONGEST_REST:
        raise PeerProtocolError(f"a PROXY header of {length} bytes, limit {_LONGEST_REST}")
    size = _FIXED.size + length
    if len(data) < size:
        return None
    layout = _FAMILIES.get(family)
    if command == _LOCAL or layout is None:
        return ProxyHeader(None, size)
    if length < layout.size:
        raise PeerProtocolError(f"a PROXY header of family 0x{family:02x} with {length} bytes of addresses")
    source, _destination, port, _own_port = layout.unpack_from(data, _FIXED.size)
    return ProxyHeader((_unmapped(ip_address(source)), port), size)


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Never an IPv4 address mapped into IPv6."""
    return getattr(address, "ipv4_mapped", None) or address
