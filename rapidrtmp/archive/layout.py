"""
Where the objects of a recording lie, and what they are called (``docs/recording-format.md``).

Names sort in the order in which their objects follow one another, so that the media of a recording is the init segment
and all of its parts in the order of a listing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import count
from typing import NamedTuple

from rapidrtmp.errors import NotFoundError
from rapidrtmp.names import RENDITION_PATTERN, BadNameError, StreamName

__all__ = [
    "CATALOGUE",
    "INIT_NAME",
    "MEDIA_TYPE",
    "NAMES",
    "ROOT",
    "SEGMENT_TYPE",
    "RecordingId",
    "StartNames",
    "page_name",
    "part_name",
    "read_page_name",
    "read_part_name",
    "read_segment_name",
    "segment_name",
]

ROOT = "recordings"
#: One small object for each recording, so that finding recordings does not mean listing their media. No application
#: can be called so: names do not begin with a dot.
CATALOGUE = f"{ROOT}/.catalogue"
INIT_NAME = "init.mp4"
MEDIA_TYPE, SEGMENT_TYPE, JOURNAL_TYPE = "video/mp4", "video/iso.segment", "application/jsonl"

_START = re.compile(r"\d{8}T\d{6}Z")
_START_FORMAT = "%Y%m%dT%H%M%SZ"
_PART = re.compile(r"part_(\d{8,12})_(\d{3,6})\.m4s", re.ASCII)
_SEGMENT = re.compile(r"segment_(\d{8,12})\.m4s", re.ASCII)
_RENDITION = re.compile(RENDITION_PATTERN, re.ASCII)
_PAGE = re.compile(r"journal_(\d{6,12})\.jsonl", re.ASCII)


class RecordingId(NamedTuple):
    """
    Which recording: of the stream ``app/key``, and named for the UTC second in which it began.

    :ivar rendition: the folder of one of its other renditions, as in ``720p``; empty for the recording itself.
    """

    app: str
    key: str
    start: str
    rendition: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, self))

    def of(self, rendition: str) -> RecordingId:
        """
        One of its other renditions; empty for the recording itself.

        :raises NotFoundError: no rendition can be called so.
        """
        if rendition and not _RENDITION.fullmatch(rendition):
            raise NotFoundError(f"there is no rendition {rendition!r} of {self}")
        return self._replace(rendition=rendition)

    @classmethod
    def checked(cls, app: str, key: str, start: str, rendition: str = "") -> RecordingId:
        """
        Make one from what a stranger sent.

        :raises NotFoundError: nothing can be recorded under such a name.
        """
        try:
            StreamName.checked(app, key)
        except BadNameError as error:
            raise NotFoundError(f"there is no recording of {app!r}/{key!r}: {error}") from error
        if not _START.fullmatch(start) or not start.isascii():
            raise NotFoundError(f"there is no recording {start!r}: its name would be a time such as 20261122T134500Z")
        try:
            datetime.strptime(start, _START_FORMAT)
        except ValueError as error:
            raise NotFoundError(f"there is no recording {start!r}: there is no such day or time") from error
        return cls(app, key, start).of(rendition)

    @property
    def folder(self) -> str:
        """What the keys of its objects begin with; without a slash at the end."""
        return f"{ROOT}/{self}"

    @property
    def catalogue_key(self) -> str:
        """The key of its entry in the catalogue, which is that of all renditions."""
        return f"{CATALOGUE}/{self.of('')}.json"

    @property
    def protection_key(self) -> str:
        """The key of the empty object that is there while it must not be deleted."""
        return f"{CATALOGUE}/{self.of('')}.protected"

    @property
    def start_ms(self) -> int:
        """The second it is named for, in milliseconds since 1970."""
        return int(datetime.strptime(self.start, _START_FORMAT).replace(tzinfo=UTC).timestamp()) * 1000


class StartNames:
    """
    Names for recordings that begin now: the UTC second, or the next one of the same stream that is not taken.

    Recordings of one stream can begin in one second: two recorders, a publisher that comes with another codec, a server
    that is killed and started again at once, or one whose clock was set back.
    """

    def __init__(self) -> None:
        self._taken: dict[StreamName, set[int]] = {}

    def learn(self, ids: Iterable[RecordingId]) -> None:
        """These exist."""
        for id in ids:
            self._taken.setdefault(StreamName(id.app, id.key), set()).add(id.start_ms // 1000)

    def __contains__(self, id: RecordingId) -> bool:
        """Whether a recording of that name was ever known."""
        taken = self._taken.get(StreamName(id.app, id.key), ())
        return bool(taken) and id.start_ms // 1000 in taken

    def take(self, stream: StreamName, utc_ms: int) -> RecordingId:
        """
        Name a recording of ``stream``.

        :param utc_ms: when it begins, in milliseconds since 1970.
        """
        taken = self._taken.setdefault(stream, set())
        second = next(second for second in count(utc_ms // 1000) if second not in taken)
        taken.add(second)
        return RecordingId(stream.app, stream.key, f"{datetime.fromtimestamp(second, UTC):%Y%m%dT%H%M%SZ}")


#: One process never gives two recordings of a stream the same name.
NAMES = StartNames()


def part_name(segment: int, index: int) -> str:
    """The name of a part: the number of its segment and its place in it, both from 0."""
    return f"part_{segment:08d}_{index:03d}.m4s"


def read_part_name(name: str) -> tuple[int, int] | None:
    """Segment and place of a part; ``None`` if the name is not a part's."""
    match = _PART.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def segment_name(number: int) -> str:
    """The name by which playlists call the parts of a segment together; no object is called so."""
    return f"segment_{number:08d}.m4s"


def read_segment_name(name: str) -> int | None:
    """The number of a segment; ``None`` if the name is not a segment's."""
    match = _SEGMENT.fullmatch(name)
    return int(match[1]) if match else None


def page_name(number: int) -> str:
    """The name of a page of the journal, from 0."""
    return f"journal_{number:06d}.jsonl"


def read_page_name(name: str) -> int | None:
    """The number of a page of the journal; ``None`` if the name is not one's."""
    match = _PAGE.fullmatch(name)
    return int(match[1]) if match else None
