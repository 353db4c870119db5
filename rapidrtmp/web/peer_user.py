"""
Which user of this machine is at the other end of a connection, as the kernel knows it.

What ident (RFC 1413) asks a daemon for, this asks the kernel: the socket at the other end of a local TCP connection is
in the same table as ours, with its owner. One look-up by ``sock_diag`` takes a tenth of a millisecond however many
sockets there are; where that is not to be had, ``/proc/net/tcp`` and ``tcp6`` say the same, and take longer the more
there are. Of a UNIX socket ``SO_PEERCRED`` tells it. Whatever cannot be known is ``None``.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, NamedTuple

from twisted.protocols.policies import ProtocolWrapper

__all__ = ["LocalPeer", "find_local_peer", "find_owner"]

Address = IPv4Address | IPv6Address
#: An end of a connection: address, never an IPv4 one mapped into IPv6, and port.
End = tuple[Address, int]

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_ALL_USERS = ["0", "0", "4294967295"]
_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _ERROR = 4, 20, 2
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_ENDS = struct.Struct("!HH16s16s")
#: No interface, and no cookie: any socket between the two ends.
_ANY = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_OWNER = struct.Struct("=II")
_ENDS_AT = _HEADER.size + 4
_OWNER_AT = _ENDS_AT + _ENDS.size + len(_ANY) + 12


class LocalPeer(NamedTuple):
    """
    Who is at the other end.

    :ivar uid: the user whose socket it is.
    :ivar address: the address of this machine that it is connected to; ``None`` of a UNIX socket.
    """

    uid: int
    address: Address | None


def find_local_peer(transport: Any) -> LocalPeer | None:
    """
    Find out who is at the other end of a connection.

    :param transport: Twisted's, of a connection that was accepted; with TLS on top or without.
    :returns: ``None`` if the other end is on another machine or in another network namespace, if a protocol says that
        another client is behind it (PROXY), or if the kernel does not tell.
    """
    bottom = transport
    while isinstance(bottom, ProtocolWrapper):
        bottom = bottom.transport
    sock = bottom.getHandle() if hasattr(bottom, "getHandle") else None
    if not isinstance(sock, socket.socket):
        return None
    try:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return _unix_peer(sock)
        ours, theirs = _end(sock.getsockname()), _end(sock.getpeername())
        peer = transport.getPeer()
        if theirs != _end((peer.host, peer.port)) or not (theirs[0].is_loopback or theirs[0] == ours[0]):
            return None
        uid = find_owner(theirs, ours)
    except (AttributeError, ValueError, OSError):  # it is closed, or of a kind that has no such addresses
        return None
    return None if uid is None or not _is_distinct(uid) else LocalPeer(uid, ours[0])


def find_owner(local: End, remote: End) -> int | None:
    """
    The user who holds the socket of this machine that is bound to ``local`` and connected to ``remote``.

    :returns: ``None`` if there is none, or its process has closed it: the kernel then says 0 for want of an owner.
    """
    with suppress(OSError):
        return _ask_kernel(local, remote)
    for table in _TABLES:
        with suppress(OSError):
            for line in Path(table).read_text("ascii").splitlines()[1:]:
                if any(ends in line for ends in _rendered(local, remote)):
                    fields = line.split()
                    if fields[9] != "0":
                        return int(fields[7])
    return None


def _unix_peer(sock: socket.socket) -> LocalPeer | None:
    if sock.family != getattr(socket, "AF_UNIX", None) or not hasattr(socket, "SO_PEERCRED"):
        return None
    _pid, uid, _gid = struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return LocalPeer(uid, None) if _is_distinct(uid) else None


def _end(address: tuple[Any, ...]) -> End:
    parsed = ip_address(str(address[0]).partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed, int(address[1])


def _is_distinct(uid: int) -> bool:
    """Whether a number means one user: in a user namespace all that are not mapped there share one."""
    with suppress(OSError, ValueError):
        if uid == int(Path("/proc/sys/kernel/overflowuid").read_text("ascii")):
            return Path("/proc/self/uid_map").read_text("ascii").split() == _ALL_USERS
    return True


# ── sock_diag(7) ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _ask_kernel(local: End, remote: End) -> int | None:
    """
    Look one socket up.

    :raises OSError: there is no such interface, or it knows no such socket.
    """
    family = socket.AF_INET if local[0].version == 4 else socket.AF_INET6
    ends = _ENDS.pack(local[1], remote[1], local[0].packed, remote[0].packed)
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + ends + _ANY
    if not hasattr(socket, "AF_NETLINK"):
        raise OSError("no netlink here")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as netlink:
        netlink.setblocking(False)
        netlink.send(_HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, 1, 1, 0) + request)
        answer = netlink.recv(8192)
    if len(answer) < _OWNER_AT + _OWNER.size or _HEADER.unpack_from(answer)[1] == _ERROR:
        raise OSError("no such socket")
    uid, inode = _OWNER.unpack_from(answer, _OWNER_AT)
    # Where no connection fits, it answers with the socket that listens at the port: that one has no other end.
    is_found = answer[_ENDS_AT : _ENDS_AT + 4] == ends[:4]
    return int(uid) if inode and is_found else None


# ── proc(5) ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rendered(local: End, remote: End) -> Iterator[str]:
    """Two ends as the tables write them: words of 32 bits in the order of this machine's bytes."""
    yield f" {_hexadecimal(local)} {_hexadecimal(remote)} "
    if local[0].version == 4:  # of a socket that speaks both
        yield f" {_hexadecimal(local, mapped=True)} {_hexadecimal(remote, mapped=True)} "


def _hexadecimal(end: End, *, mapped: bool = False) -> str:
    packed = bytes(10) + b"\xff\xff" + end[0].packed if mapped else end[0].packed
    words = struct.unpack(f"!{len(packed) // 4}I", packed)
    ours = "<" if sys.byteorder == "little" else ">"
    return f"{struct.pack(f'{ours}{len(words)}I', *words).hex().upper()}:{end[1]:04X}"
