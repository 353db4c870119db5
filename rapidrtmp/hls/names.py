"""
What the objects of one stream are called, on its shelf and in the storage.

Each name holds a media sequence number, and those are never used twice; so no name ever stands for other bytes.
"""

from __future__ import annotations

import re

__all__ = [
    "MEDIA_PLAYLIST",
    "MULTIVARIANT_PLAYLIST",
    "STATE",
    "init_name",
    "is_init",
    "is_media",
    "part_name",
    "segment_name",
]

MEDIA_PLAYLIST, MULTIVARIANT_PLAYLIST = "index.m3u8", "master.m3u8"
#: What a server that starts again must know and no playlist says; in the storage alone.
STATE = "state.json"
_INIT = re.compile(r"init_\d+\.mp4", re.ASCII)
_SEGMENT = re.compile(r"segment_\d+\.m4s", re.ASCII)


def init_name(sequence: int) -> str:
    """The init segment that the segment ``sequence`` is the first to need."""
    return f"init_{sequence}.mp4"


def segment_name(sequence: int) -> str:
    """A segment."""
    return f"segment_{sequence}.m4s"


def part_name(sequence: int, index: int) -> str:
    """A part; ``index`` counts from 0 in its segment."""
    return f"part_{sequence}.{index}.m4s"


def is_init(name: str) -> bool:
    """Whether this is the name of an init segment."""
    return _INIT.fullmatch(name) is not None


def is_media(name: str) -> bool:
    """Whether this is the name of an init segment or a segment: what some playlist must name, or nobody needs it."""
    return is_init(name) or _SEGMENT.fullmatch(name) is not None
