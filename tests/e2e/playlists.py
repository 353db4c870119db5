"""
Playlists read back, strictly and by the specification's own words: a witness that has not seen how they are written.

Whatever a live, muxed, low-latency playlist has no use for is an error here (RFC 8216 bis).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

__all__ = ["MediaPlaylist", "Part", "Segment", "merge_delta", "parse_media_playlist", "parse_variant"]

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"\r\n]*"|[^",\s]+)(,|$)')
#: Tags that say something of the whole playlist: once each, and before the first segment.
_HEADER_TAGS = {
    "VERSION",
    "TARGETDURATION",
    "SERVER-CONTROL",
    "PART-INF",
    "INDEPENDENT-SEGMENTS",
    "MEDIA-SEQUENCE",
    "DISCONTINUITY-SEQUENCE",
}


@dataclass(frozen=True)
class Part:
    """One EXT-X-PART; ``duration`` in seconds."""

    uri: str
    duration: Decimal
    independent: bool


@dataclass(frozen=True)
class Segment:
    """
    One segment.

    :ivar uri: empty while it is open; its duration in seconds is 0 then.
    :ivar map_uri: the init segment that holds for it.
    :ivar date: when it begins.
    """

    sequence: int
    map_uri: str
    date: datetime | None
    discontinuity: bool
    parts: Sequence[Part] = ()
    uri: str = ""
    duration: Decimal = Decimal(0)
    gap: bool = False


@dataclass(frozen=True)
class MediaPlaylist:
    """
    One version of a media playlist.

    :ivar header: what must never change: version, target duration, server control and part target, as written.
    :ivar segments: oldest first; the last one may be open.
    :ivar hint: the part that comes next, or "".
    :ivar skipped: how many segments a delta update leaves out; ``segments`` begins behind them.
    """

    header: dict[str, str]
    sequence: int
    discontinuity_sequence: int
    independent: bool
    segments: Sequence[Segment] = field(repr=False)
    hint: str = ""
    ended: bool = False
    skipped: int = 0

    @property
    def complete(self) -> list[Segment]:
        """The segments that are whole."""
        return [segment for segment in self.segments if segment.uri]

    @property
    def edge(self) -> tuple[int, int]:
        """The sequence number of the segment, and the index in it of the part, that come next."""
        last = self.segments[-1]
        return (last.sequence + 1, 0) if last.uri else (last.sequence, len(last.parts))

    @property
    def control(self) -> dict[str, str]:
        """The attributes of EXT-X-SERVER-CONTROL."""
        return attributes(self.header["SERVER-CONTROL"])

    @property
    def part_target(self) -> Decimal:
        """PART-TARGET in seconds."""
        return Decimal(attributes(self.header["PART-INF"])["PART-TARGET"])

    @property
    def target(self) -> int:
        """EXT-X-TARGETDURATION in seconds."""
        return int(self.header["TARGETDURATION"])


def attributes(text: str) -> dict[str, str]:
    """An attribute list (4.2), quotes taken off. :raises AssertionError: it is none, or a name is there twice."""
    found = list(_ATTRIBUTE.finditer(text))
    if "".join(match[0] for match in found) != text or text.endswith(","):
        raise AssertionError(f"not an attribute list: {text}")
    if len({match[1] for match in found}) != len(found):
        raise AssertionError(f"an attribute is there twice: {text}")
    return {match[1]: match[2].strip('"') for match in found}


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    if lines[0] != "#EXTM3U" or lines[-1] != "" or "" in lines[1:-1]:
        raise AssertionError(f"not a playlist, or empty lines in it: {text!r}")
    return lines[1:-1]


def parse_media_playlist(text: str) -> MediaPlaylist:
    """
    Read a media playlist or a delta update.

    :raises AssertionError: a tag that is unknown, repeated, misplaced or malformed.
    """
    reading = _Reading()
    for line in _lines(text):
        reading.take(line)
    return reading.playlist()


def parse_variant(text: str) -> tuple[dict[str, str], str]:
    """The attributes and the URI of the one variant of a multivariant playlist, which may have I-frames beside it."""
    lines = [line for line in _lines(text) if not line.startswith("#EXT-X-I-FRAME-STREAM-INF:")]
    streams = [at for at, line in enumerate(lines) if line.startswith("#EXT-X-STREAM-INF:")]
    if len(streams) != 1 or any(not line.startswith(("#EXT-X-VERSION:", "#EXT-X-STREAM-INF:")) for line in lines[:-1]):
        raise AssertionError(f"not a multivariant playlist with one variant: {text!r}")
    return attributes(lines[streams[0]].partition(":")[2]), lines[streams[0] + 1]


def merge_delta(known: Sequence[Segment], delta: MediaPlaylist) -> MediaPlaylist:
    """
    The full playlist that a delta update stands for (6.3.7).

    :param known: the segments of the playlist it is merged into.
    :raises AssertionError: it skips a segment that is not known.
    """
    by_sequence = {segment.sequence: segment for segment in known if segment.uri}
    skipped = range(delta.sequence, delta.sequence + delta.skipped)
    if not by_sequence.keys() >= set(skipped):
        raise AssertionError(f"the delta update skips {list(skipped)}, known are {sorted(by_sequence)}")
    return replace(delta, segments=(*(by_sequence[number] for number in skipped), *delta.segments), skipped=0)


class _Reading:
    """One playlist, line by line."""

    def __init__(self) -> None:
        self._header: dict[str, str] = {}
        self._segments: list[Segment] = []
        self._skipped = 0
        self._map = ""
        self._hint = ""
        self._ended = False
        self._begin()

    def _begin(self) -> None:
        self._date: datetime | None = None
        self._discontinuity = self._gap = False
        self._duration: Decimal | None = None
        self._parts: list[Part] = []

    def take(self, line: str) -> None:
        """Read one line."""
        if self._ended or (self._hint and line.startswith("#EXT-X-PART:")):
            raise AssertionError(f"after the end: {line}")
        if not line.startswith("#"):
            self._end_segment(line)
            return
        tag, _, value = line.removeprefix("#EXT").removeprefix("-X-").partition(":")
        if tag in _HEADER_TAGS:
            self._take_header(tag, value)
        else:
            self._take_segment_tag(tag, value)

    def _take_header(self, tag: str, value: str) -> None:
        if tag in self._header or self._segments or self._map:
            raise AssertionError(f"EXT-X-{tag} is there twice, or too late")
        self._header[tag] = value

    def _take_segment_tag(self, tag: str, value: str) -> None:
        match tag:
            case "SKIP":
                self._skipped = int(attributes(value)["SKIPPED-SEGMENTS"])
            case "MAP":
                self._map = attributes(value)["URI"]
            case "PROGRAM-DATE-TIME":
                self._date = datetime.fromisoformat(value)
            case "DISCONTINUITY":
                self._discontinuity = True
            case "GAP":
                self._gap = True
            case "PART":
                self._parts.append(_part(attributes(value)))
            case "INF":
                self._duration = Decimal(value.removesuffix(","))
            case "PRELOAD-HINT":
                hint = attributes(value)
                self._hint = {"PART": hint["URI"]}[hint["TYPE"]]
            case "RENDITION-REPORT":
                _only(attributes(value), ("URI", "LAST-MSN", "LAST-PART"))
            case "ENDLIST":
                self._ended = True
            case _:
                raise AssertionError(f"unknown: EXT-X-{tag}:{value}")

    def _end_segment(self, uri: str) -> None:
        sequence = int(self._header["MEDIA-SEQUENCE"]) + self._skipped + len(self._segments)
        if uri and self._duration is None:
            raise AssertionError(f"{uri} has no EXTINF")
        if not self._map:
            raise AssertionError(f"segment {sequence} has no EXT-X-MAP")
        parts = tuple(self._parts)
        duration = self._duration or Decimal(0)
        segment = Segment(sequence, self._map, self._date, self._discontinuity, parts, uri, duration, self._gap)
        self._segments.append(segment)
        self._begin()

    def playlist(self) -> MediaPlaylist:
        """What has been read."""
        if self._parts:
            self._end_segment("")
        elif self._date or self._discontinuity or self._duration is not None:
            raise AssertionError("tags of a segment that is not there")
        header = dict(self._header)
        return MediaPlaylist(
            sequence=int(header.pop("MEDIA-SEQUENCE")),
            discontinuity_sequence=int(header.pop("DISCONTINUITY-SEQUENCE")),
            independent=header.pop("INDEPENDENT-SEGMENTS", None) is not None,
            header=header,
            segments=tuple(self._segments),
            hint=self._hint,
            ended=self._ended,
            skipped=self._skipped,
        )


def _part(values: dict[str, str]) -> Part:
    _only(values, ("DURATION", "URI", "INDEPENDENT", "GAP"))
    return Part(values["URI"], Decimal(values["DURATION"]), values.get("INDEPENDENT") == "YES")


def _only(values: Iterable[str], known: Sequence[str]) -> None:
    unknown = set(values) - set(known)
    if unknown:
        raise AssertionError(f"unknown attributes: {unknown}")
