"""
Which servers a stream has come through: a loop is refused by the first one that it would come back to.

Every server has an id. One that publishes on another, or plays from it, says in ``connect``, and in the metadata of
what it publishes, through which servers the stream has come: the ids of all, its own last. A server that finds its own
among them refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from rapidrtmp.rtmp.amf import Value

__all__ = ["MAX_HOPS", "VIA", "find_loop", "read_via", "write_via"]

#: Its name among the properties of connect, and in metadata.
VIA = "rapidrtmpVia"
MAX_HOPS = 8
_ID = re.compile(r"[0-9A-Za-z-]{1,32}")


def read_via(properties: Mapping[str, Value]) -> tuple[str, ...]:
    """The ids in what another server says of itself, or of a stream; none if it says nothing, or nonsense."""
    value = properties.get(VIA)
    if not isinstance(value, str):
        return ()
    return tuple(filter(_ID.fullmatch, value[:1024].split(",")))


def write_via(ids: Iterable[str]) -> str:
    """What to say."""
    return ",".join(ids)


def find_loop(ids: Sequence[str], own: str) -> str:
    """Why a stream that came through those servers is refused by the one with the id ``own``; ``""`` if it is not."""
    if own in ids:
        return "relay loop: the stream has come through this server already"
    if len(ids) > MAX_HOPS:
        return f"relay loop: the stream has come through {len(ids)} servers, {MAX_HOPS} are the most"
    return ""
