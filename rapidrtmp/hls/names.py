"""
What the objects of one stream are called, on its shelf and in the storage.

Each name holds a media sequence number, and those are never used twice; so no name ever stands for other bytes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rapidrtmp.names import MULTIVARIANT_PLAYLIST

__all__ = [
    "MEDIA_PLAYLIST",
    "MULTIVARIANT_PLAYLIST",
    "PAGES",
    "REWIND_I_FRAMES",
    "REWIND_MULTIVARIANT",
    "REWIND_PLAYLIST",
    "STATE",
    "PageName",
    "first_number",
    "init_name",
    "init_number",
    "is_init",
    "is_media",
    "is_page",
    "part_name",
    "running_key",
    "running_prefix",
    "segment_name",
]

MEDIA_PLAYLIST, REWIND_PLAYLIST = "index.m3u8", "dvr.m3u8"
#: Beside the long playlist: what lists a picture of each of its segments, and what names both.
REWIND_I_FRAMES, REWIND_MULTIVARIANT = "dvr_iframes.m3u8", "dvr_master.m3u8"
#: What a server that starts again must know and no playlist says; in the storage alone.
STATE = "state.json"
#: The names of the pages of a rewind journal begin with this.
PAGES = "dvr_"
_INIT = re.compile(r"init_\d{1,20}\.mp4", re.ASCII)
_SEGMENT = re.compile(r"segment_\d{1,20}\.m4s", re.ASCII)
_NUMBER = re.compile(r"\d{1,20}", re.ASCII)
_PAGE = re.compile(r"dvr_(\d{1,20})_(\d{1,20})_(\d{1,20})_(\d{1,20})\.jsonl", re.ASCII)


def running_prefix(app: str) -> str:
    """
    What begins the keys of the objects, one for each stream of ``app`` that is running, by which a server that starts
    again finds what its predecessor left without listing all segments there are.
    """
    return f"{app}/.running/"


def running_key(app: str, key: str) -> str:
    """The object that says that a stream is running."""
    return f"{running_prefix(app)}{key}"


def init_name(sequence: int) -> str:
    """The init segment that the segment ``sequence`` is the first to need."""
    return f"init_{sequence}.mp4"


def init_number(name: str) -> int:
    """The number in the name of an init segment."""
    return int(name[len("init_") : -len(".mp4")])


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
    """Whether this is the name of an init segment or a segment: what is of no use unless some playlist names it."""
    return is_init(name) or _SEGMENT.fullmatch(name) is not None


def first_number(name: str) -> int:
    """The first number in the name of media or of a page; -1 if there is none."""
    found = _NUMBER.search(name)
    return int(found[0]) if found else -1


class PageName(NamedTuple):
    """
    The name of a page of the rewind journal; in the storage alone. They sort as what they describe.

    :ivar first: the media sequence number of its first segment.
    :ivar discontinuities: the discontinuity sequence number of a playlist that begins with it.
    :ivar init: the number of the init segment that all of its segments need.
    :ivar utc_ms: the wall-clock time at which it begins, in milliseconds since 1970.
    """

    first: int
    discontinuities: int
    init: int
    utc_ms: int

    def __str__(self) -> str:
        return f"dvr_{self.first}_{self.discontinuities}_{self.init}_{self.utc_ms}.jsonl"

    @classmethod
    def parse(cls, name: str) -> PageName | None:
        """Read it; ``None`` if it is the name of something else."""
        match = _PAGE.fullmatch(name)
        return cls(*map(int, match.groups())) if match else None


def is_page(name: str) -> bool:
    """Whether this is the name of a page of the rewind journal."""
    return _PAGE.fullmatch(name) is not None
