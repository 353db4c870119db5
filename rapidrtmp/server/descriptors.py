"""
The descriptors that the process may have, and how many connections of each kind they are enough for.

Where descriptors run out, a file of a recording cannot be opened and a publisher cannot be accepted, whichever clients
have taken them. So some are kept back for files, and RTMP and HTTP have shares of the rest that neither can take from
the other.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DescriptorShares", "raise_descriptor_limit", "share_descriptors"]

#: What is kept back for storages, logs, listening sockets and child processes.
RESERVED = 128
#: The limit that is asked for where there is none, and taken to hold where the system knows no such limit.
MOST = 1 << 20
#: So many HTTP connections are enough for one process, if the operator does not say another number.
MAX_HTTP_CONNECTIONS = 20_000
#: With fewer HTTP connections than this the operator gets a log line.
FEW_HTTP_CONNECTIONS = 2_000


class DescriptorShares(NamedTuple):
    """
    How many connections there may be.

    :ivar rtmp: RTMP connections; likewise ``http``.
    :ivar is_low: whether the limit allows fewer than the settings, or than is usual.
    """

    rtmp: int
    http: int
    is_low: bool


def raise_descriptor_limit() -> int:
    """
    Raise the soft limit of open files to the hard one.

    :returns: how many files the process may have open.
    """
    try:
        import resource
    except ImportError:  # Windows, where a process can have millions
        return MOST
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS allows less than it says
            return soft
    return max(soft, wanted)


def share_descriptors(limit: int, max_rtmp: int, max_http: int | None) -> DescriptorShares:
    """
    Share descriptors out.

    :param limit: how many files the process may have open.
    :param max_rtmp: how many RTMP connections the operator allows.
    :param max_http: how many HTTP connections; ``None`` for as many as is sensible.
    """
    left = limit - min(RESERVED, limit // 2)
    rtmp = max(1, min(max_rtmp, left // 3))
    http = max(1, min(max_http or MAX_HTTP_CONNECTIONS, left - rtmp))
    return DescriptorShares(rtmp, http, rtmp < max_rtmp or http < (max_http or FEW_HTTP_CONNECTIONS))
