"""
A strict reader of live media playlists that knows nothing of the writer: RFC 8216 bis, as players take it.

:func:`read_playlist` turns text into facts and raises :class:`RuleBroken` over anything out of order;
:func:`check_successor` compares two versions of one playlist; :func:`merge_delta` does what a player does with a delta
update; :class:`Follower` is a player that looks at each version as it comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

__all__ = [
    "Follower",
    "ReadPart",
    "ReadPlaylist",
    "ReadSegment",
    "RuleBroken",
    "check_successor",
    "merge_delta",
    "read_playlist",
]


class RuleBroken(AssertionError):
    """The playlist breaks a rule."""


def require(condition: object, rule: str) -> None:
    """Raise unless the rule is kept."""
    if not condition:
        raise RuleBroken(rule)


@dataclass(frozen=True)
class ReadPart:
    """One EXT-X-PART."""

    uri: str
    duration: Decimal
    independent: bool
    gap: bool


@dataclass(frozen=True)
class ReadSegment:
    """
    One media segment.

    :ivar map_uri: the EXT-X-MAP in force; ``has_map`` says whether it stands at this very segment.
    :ivar duration: ``None`` while it is open; likewise ``uri``.
    """

    sequence: int
    map_uri: str
    has_map: bool
    discontinuity: bool
    starts: datetime | None
    parts: tuple[ReadPart, ...]
    duration: Decimal | None = None
    uri: str | None = None
    gap: bool = False


@dataclass(frozen=True)
class ReadPlaylist:
    """A playlist that breaks no rule by itself."""

    target: int
    part_target: Decimal | None
    control: dict[str, str]
    sequence: int
    discontinuity_sequence: int
    independent: bool
    skipped: int
    segments: tuple[ReadSegment, ...]
    open: ReadSegment | None
    hint: str | None
    ended: bool
    header: tuple[str, ...] = field(repr=False)

    @property
    def last_sequence(self) -> int:
        """The media sequence number of the last complete segment."""
        return self.sequence + self.skipped + len(self.segments) - 1

    def position(self) -> tuple[int, int]:
        """How far it reaches: the open segment and its parts."""
        return self.last_sequence + 1, len(self.open.parts) if self.open else 0

    def all_segments(self) -> Iterator[ReadSegment]:
        """The complete ones, and the open one if there is one."""
        yield from self.segments
        if self.open is not None:
            yield self.open

    def uris(self) -> set[str]:
        """Everything it names and that must be there: init segments, segments, parts; nothing that is a gap."""
        named = {segment.map_uri for segment in self.all_segments()}
        named |= {segment.uri for segment in self.segments if segment.uri and not segment.gap}
        return named | {part.uri for segment in self.all_segments() for part in segment.parts if not part.gap}


_ONCE = (
    "EXT-X-VERSION",
    "EXT-X-TARGETDURATION",
    "EXT-X-SERVER-CONTROL",
    "EXT-X-PART-INF",
    "EXT-X-INDEPENDENT-SEGMENTS",
    "EXT-X-MEDIA-SEQUENCE",
    "EXT-X-DISCONTINUITY-SEQUENCE",
)
_LINE = re.compile(r"#(EXT[A-Z0-9-]*)(?::(.*))?")
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"\r\n]*"|[^",\s]+)(?:,|$)')
_SECONDS = re.compile(r"[0-9]+\.[0-9]{5}")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def read_attributes(text: str) -> dict[str, str]:
    """An attribute list; quoted strings keep their quotes."""
    attributes, at = {}, 0
    while at < len(text):
        found = _ATTRIBUTE.match(text, at)
        require(found, f"attribute list {text!r}")
        assert found is not None
        require(found[1] not in attributes, f"{found[1]} twice in {text!r}")
        attributes[found[1]] = found[2]
        at = found.end()
    require(not text.endswith(","), f"attribute list {text!r}")
    return attributes


def quoted(value: str) -> str:
    """A quoted string without its quotes."""
    require(value[:1] == value[-1:] == '"', f"{value} is no quoted string")
    return value[1:-1]


def seconds(text: str) -> Decimal:
    """A duration with the five decimals that all have."""
    require(_SECONDS.fullmatch(text), f"duration {text!r}")
    return Decimal(text)


class _Reader:
    """Reads line by line."""

    def __init__(self, text: str) -> None:
        require(text.startswith("#EXTM3U\n"), "the first line is #EXTM3U")
        require(text.endswith("\n") and "\r" not in text and "\ufeff" not in text, "lines end in LF, no BOM")
        self.lines = text.splitlines()[1:]
        self.once: dict[str, str] = {}
        self.segments: list[ReadSegment] = []
        self.skipped = 0
        self.hint: str | None = None
        self.reports: list[str] = []
        self.ended = False
        self.map_uri = ""
        self._fresh()

    def _fresh(self) -> None:
        self.has_map = self.discontinuity = self.gap = False
        self.starts: datetime | None = None
        self.duration: Decimal | None = None
        self.parts: list[ReadPart] = []

    def read(self) -> ReadPlaylist:
        for line in self.lines:
            require(line == line.strip() and line, f"line {line!r}")
            require(not self.ended, "nothing follows EXT-X-ENDLIST")
            if line.startswith("#"):
                found = _LINE.fullmatch(line)
                require(found, f"line {line!r}")
                assert found is not None
                self._tag(found[1], found[2] or "")
            else:
                self._uri(line)
        return self._playlist()

    def _tag(self, name: str, value: str) -> None:
        is_last = name in ("EXT-X-ENDLIST", "EXT-X-RENDITION-REPORT")
        require(self.hint is None or is_last, "nothing follows the preload hint but reports")
        require(not self.reports or is_last, "nothing follows reports")
        if name in _ONCE:
            require(name not in self.once, f"{name} twice")
            require(not self.segments and not self.parts, f"{name} behind a segment")
            self.once[name] = value
            return
        method = getattr(self, "_" + name.lower().replace("-", "_"), None)
        require(method, f"unknown tag {name}")
        assert method is not None
        method(value)

    def _ext_x_map(self, value: str) -> None:
        require(not self.parts and self.duration is None, "EXT-X-MAP within a segment")
        attributes = read_attributes(value)
        require(set(attributes) == {"URI"}, f"EXT-X-MAP:{value}")
        self.map_uri, self.has_map = quoted(attributes["URI"]), True

    def _ext_x_program_date_time(self, value: str) -> None:
        require(not self.parts, "EXT-X-PROGRAM-DATE-TIME behind a part of its segment")
        require(_DATE.fullmatch(value), f"EXT-X-PROGRAM-DATE-TIME:{value}")
        self.starts = datetime.fromisoformat(value)

    def _ext_x_daterange(self, value: str) -> None:
        attributes = read_attributes(value)
        require({"ID", "START-DATE"} <= set(attributes), f"EXT-X-DATERANGE:{value}")
        require(_DATE.fullmatch(quoted(attributes["START-DATE"])), f"EXT-X-DATERANGE:{value}")

    def _ext_x_discontinuity(self, value: str) -> None:
        require(not value and not self.parts and not self.discontinuity, "EXT-X-DISCONTINUITY within a segment")
        require(not self.has_map, "EXT-X-MAP before the discontinuity that it belongs behind")
        self.discontinuity = True

    def _ext_x_gap(self, value: str) -> None:
        require(not value and not self.gap, "EXT-X-GAP")
        self.gap = True

    def _ext_x_part(self, value: str) -> None:
        attributes = read_attributes(value)
        require("EXT-X-PART-INF" in self.once, "parts need EXT-X-PART-INF")
        require(set(attributes) <= {"DURATION", "URI", "INDEPENDENT", "GAP"}, f"EXT-X-PART:{value}")
        require({attributes.get(flag, "YES") for flag in ("INDEPENDENT", "GAP")} == {"YES"}, f"EXT-X-PART:{value}")
        require(self.map_uri, "EXT-X-MAP comes before the first part")
        part = ReadPart(
            quoted(attributes["URI"]), seconds(attributes["DURATION"]), "INDEPENDENT" in attributes, "GAP" in attributes
        )
        self.parts.append(part)

    def _extinf(self, value: str) -> None:
        require(value.endswith(",") and self.duration is None, f"EXTINF:{value}")
        self.duration = seconds(value[:-1])

    def _ext_x_skip(self, value: str) -> None:
        attributes = read_attributes(value)
        require(set(attributes) == {"SKIPPED-SEGMENTS"}, f"EXT-X-SKIP:{value}")
        require(not self.skipped and not self.segments and not self.map_uri, "EXT-X-SKIP comes first, once")
        self.skipped = int(attributes["SKIPPED-SEGMENTS"])
        require(self.skipped > 0, "EXT-X-SKIP of nothing")

    def _ext_x_preload_hint(self, value: str) -> None:
        attributes = read_attributes(value)
        require(set(attributes) == {"TYPE", "URI"} and attributes["TYPE"] == "PART", f"EXT-X-PRELOAD-HINT:{value}")
        self.hint = quoted(attributes["URI"])

    def _ext_x_rendition_report(self, value: str) -> None:
        attributes = read_attributes(value)
        require({"URI", "LAST-MSN"} <= set(attributes) <= {"URI", "LAST-MSN", "LAST-PART"}, f"report {value}")
        require(all(attributes[name].isdigit() for name in attributes if name != "URI"), f"report {value}")
        uri = quoted(attributes["URI"])
        require(uri not in self.reports, f"{uri} is reported on twice")
        self.reports.append(uri)

    def _ext_x_endlist(self, value: str) -> None:
        require(not value, "EXT-X-ENDLIST has no value")
        self.ended = True

    def _uri(self, uri: str) -> None:
        require(self.duration is not None, f"{uri} without EXTINF")
        require(self.map_uri, "EXT-X-MAP comes before the first segment")
        self.segments.append(self._segment(uri))
        self._fresh()

    def _segment(self, uri: str | None) -> ReadSegment:
        sequence = int(self.once.get("EXT-X-MEDIA-SEQUENCE", "0")) + self.skipped + len(self.segments)
        return ReadSegment(
            sequence,
            self.map_uri,
            self.has_map,
            self.discontinuity,
            self.starts,
            tuple(self.parts),
            self.duration,
            uri,
            self.gap,
        )

    def _playlist(self) -> ReadPlaylist:
        require(self.duration is None, "EXTINF without its segment")
        opened = self._segment(None) if self.parts else None
        require(opened or not (self.has_map or self.discontinuity or self.starts or self.gap), "tags of no segment")
        for name in ("EXT-X-VERSION", "EXT-X-TARGETDURATION", "EXT-X-MEDIA-SEQUENCE", "EXT-X-DISCONTINUITY-SEQUENCE"):
            require(self.once.get(name, "").isdecimal(), f"{name} is there, a decimal integer")
        part_inf = read_attributes(self.once.get("EXT-X-PART-INF", ""))
        require(not part_inf or set(part_inf) == {"PART-TARGET"}, f"EXT-X-PART-INF {part_inf}")
        return ReadPlaylist(
            target=int(self.once["EXT-X-TARGETDURATION"]),
            part_target=Decimal(part_inf["PART-TARGET"]) if part_inf else None,
            control=read_attributes(self.once.get("EXT-X-SERVER-CONTROL", "")),
            sequence=int(self.once["EXT-X-MEDIA-SEQUENCE"]),
            discontinuity_sequence=int(self.once["EXT-X-DISCONTINUITY-SEQUENCE"]),
            independent="EXT-X-INDEPENDENT-SEGMENTS" in self.once,
            skipped=self.skipped,
            segments=tuple(self.segments),
            open=opened,
            hint=self.hint,
            ended=self.ended,
            header=tuple(f"{name}:{self.once[name]}" for name in sorted(self.once) if "SEQUENCE" not in name),
        )


def read_playlist(body: bytes) -> ReadPlaylist:
    """
    Read one version of a playlist.

    :raises RuleBroken: it breaks a rule that can be seen from it alone.
    """
    text = body.decode("utf-8")
    playlist = _Reader(text).read()
    _check_header(playlist, int(re.findall(r"#EXT-X-VERSION:(\d+)", text)[0]))
    _check_durations(playlist)
    _check_dates(playlist)
    _check_live_edge(playlist)
    for segment in playlist.segments:
        require(segment.map_uri and segment.starts, f"segment {segment.sequence} without EXT-X-MAP or a date")
        require(segment.has_map or not segment.discontinuity, "EXT-X-MAP is repeated behind a discontinuity")
    return playlist


def _check_header(playlist: ReadPlaylist, version: int) -> None:
    control = playlist.control
    require(version >= (9 if playlist.skipped or "CAN-SKIP-UNTIL" in control else 6), "EXT-X-VERSION")
    require(playlist.target >= 1, "a target duration of one second at least")
    if "CAN-SKIP-UNTIL" in control:
        require(Decimal(control["CAN-SKIP-UNTIL"]) >= 6 * playlist.target, "CAN-SKIP-UNTIL of six targets at least")
    if "HOLD-BACK" in control:
        require(Decimal(control["HOLD-BACK"]) >= 3 * playlist.target, "HOLD-BACK of three targets at least")
    if playlist.part_target is None:
        require("PART-HOLD-BACK" not in control, "PART-HOLD-BACK without parts")
    else:
        require(control.get("CAN-BLOCK-RELOAD") == "YES", "parts go with blocking reloads")
        require(Decimal(control["PART-HOLD-BACK"]) >= 3 * playlist.part_target, "PART-HOLD-BACK of three part targets")


def _check_durations(playlist: ReadPlaylist) -> None:
    for segment in playlist.segments:
        duration = segment.duration
        assert duration is not None
        require(duration > 0, f"segment {segment.sequence} of no time")
        require(
            int(duration + Decimal("0.5")) <= playlist.target, f"{duration} s is above the target {playlist.target}"
        )
        if segment.parts:
            total = sum(part.duration for part in segment.parts)
            require(abs(total - duration) < Decimal("0.00002"), f"{total} s in parts of a segment of {duration} s")
    if playlist.part_target is None:
        return
    for segment in playlist.all_segments():
        for index, part in enumerate(segment.parts):
            require(0 < part.duration <= playlist.part_target, f"{part.uri} of {part.duration} s")
            is_last = segment.uri is not None and index == len(segment.parts) - 1
            followed_by_gap = index + 1 < len(segment.parts) and segment.parts[index + 1].gap
            may_be_short = is_last or part.gap or part.independent or followed_by_gap
            require(may_be_short or part.duration >= playlist.part_target * 85 / 100, f"{part.uri} is too short")


def _check_dates(playlist: ReadPlaylist) -> None:
    """Dates go with durations, to a millisecond and what the clock's correction may add, but for discontinuities."""
    before: ReadSegment | None = None
    for segment in playlist.all_segments():
        require(segment.starts, f"segment {segment.sequence} has no date")
        if before is not None and not segment.discontinuity:
            assert before.starts is not None and segment.starts is not None and before.duration is not None
            apart = Decimal((segment.starts - before.starts).total_seconds()) - before.duration
            require(abs(apart) < Decimal("0.0025"), f"the date of segment {segment.sequence} is off by {apart} s")
        before = segment


def _check_live_edge(playlist: ReadPlaylist) -> None:
    if playlist.ended:
        require(playlist.open is None and playlist.hint is None, "a final playlist has nothing open")
    elif playlist.part_target is not None:
        require(playlist.hint, "a preload hint is always there")
        require(playlist.hint not in playlist.uris(), "the preload hint is for what is not yet listed")
    names = [part.uri for segment in playlist.all_segments() for part in segment.parts]
    names += [segment.uri for segment in playlist.segments if segment.uri]
    require(len(set(names)) == len(names), "every name is used once")
    require(all(name.endswith((".m4s", ".mp4")) for name in names), "names end in what players accept")


def check_successor(old: ReadPlaylist, new: ReadPlaylist, *, adjacent: bool = True) -> None:
    """
    Compare two versions of one playlist, whole ones.

    :param adjacent: whether no segment can have come and gone between them.
    :raises RuleBroken: something changed that may not change (6.2.1, 6.2.2).
    """
    require(not old.ended or old == new, "a final playlist does not change")
    _check_frozen(old, new)
    known = {segment.sequence: segment for segment in old.segments}
    require(new.sequence >= old.sequence, "EXT-X-MEDIA-SEQUENCE went back")
    require(new.position() >= old.position() or new.ended, "it lost a part")
    gone = [segment for segment in old.segments if segment.sequence < new.sequence]
    passed = sum(segment.discontinuity for segment in gone)
    require(not adjacent or new.sequence <= old.last_sequence + 1, "a segment came and went between two versions")
    require(new.discontinuity_sequence >= old.discontinuity_sequence + passed, "EXT-X-DISCONTINUITY-SEQUENCE went back")
    require(
        not adjacent or new.discontinuity_sequence == old.discontinuity_sequence + passed,
        f"discontinuity sequence {old.discontinuity_sequence}, {passed} went, now {new.discontinuity_sequence}",
    )
    for segment in new.segments:
        before = known.get(segment.sequence)
        if before is not None:
            _check_same(before, segment)
            if before.parts and not segment.parts:
                behind = sum(each.duration or 0 for each in new.segments if each.sequence > segment.sequence)
                require(behind >= 3 * new.target, f"parts of segment {segment.sequence} went early")
    if old.open is not None:
        closed = [segment for segment in new.all_segments() if segment.sequence == old.open.sequence]
        require(closed, "the open segment vanished")
        _check_grown(old.open, closed[0])
    if gone:
        kept = sum(segment.duration for segment in new.segments if segment.duration)
        require(kept >= 3 * new.target, f"only {kept} s left after a removal")
    _check_hint(old, new)


def _check_frozen(old: ReadPlaylist, new: ReadPlaylist) -> None:
    for name in ("target", "part_target", "control"):
        require(getattr(old, name) == getattr(new, name), f"{name} changed")
    require(old.independent or not new.independent, "EXT-X-INDEPENDENT-SEGMENTS was claimed late")


def _check_same(before: ReadSegment, after: ReadSegment) -> None:
    """A listed segment stays as it is; its parts may go, all at once, and EXT-X-MAP comes to the first of the list."""
    bare = replace(before, parts=(), has_map=False)
    require(bare == replace(after, parts=(), has_map=False), f"segment {after.sequence} changed: {before} to {after}")
    require(after.parts in ((), before.parts), f"parts of segment {after.sequence} changed")


def _check_grown(before: ReadSegment, after: ReadSegment) -> None:
    for name in ("map_uri", "discontinuity", "starts"):
        require(getattr(before, name) == getattr(after, name), f"{name} of open segment {before.sequence} changed")
    require(after.parts[: len(before.parts)] == before.parts, f"parts of segment {before.sequence} changed")


def _check_hint(old: ReadPlaylist, new: ReadPlaylist) -> None:
    """What was hinted at is what came next, unless the stream broke off there, or the segment was just completed."""
    sequence, parts = old.position()
    if old.hint is None or new.position() in (old.position(), (sequence + 1, 0)) or new.ended:
        return
    following = [segment for segment in new.all_segments() if segment.sequence >= sequence]
    first = following[0].parts[parts:] or (following[1].parts if len(following) > 1 else ())
    require(first, "new parts are listed")
    require(first[0].uri == old.hint, f"{old.hint} was hinted at, {first[0].uri} came")


def merge_delta(delta: ReadPlaylist, old: ReadPlaylist) -> ReadPlaylist:
    """What a player that has ``old`` makes of a delta update; raises if it cannot."""
    require(delta.skipped, "a delta update skips something")
    known = {segment.sequence: segment for segment in old.segments}
    wanted = range(delta.sequence, delta.sequence + delta.skipped)
    require(all(sequence in known for sequence in wanted), "what is skipped is known from before")
    kept = sum(segment.duration for segment in delta.segments if segment.duration)
    require(kept >= Decimal(delta.control["CAN-SKIP-UNTIL"]), "only what is before the skip boundary is skipped")
    segments = (*(known[sequence] for sequence in wanted), *delta.segments)
    return replace(delta, skipped=0, segments=segments)


def same_media(one: ReadPlaylist, other: ReadPlaylist) -> bool:
    """Whether two playlists say the same, but for parts that one still lists and repeated EXT-X-MAP."""

    def bare(playlist: ReadPlaylist) -> ReadPlaylist:
        segments = tuple(replace(segment, parts=(), has_map=False) for segment in playlist.segments)
        opened = replace(playlist.open, has_map=False) if playlist.open else None
        return replace(playlist, segments=segments, open=opened)

    return bare(one) == bare(other)


class Follower:
    """
    A player that looks at every version.

    :param adjacent: whether no segment can have come and gone between two looks.
    :ivar versions: those it has seen.
    """

    def __init__(self, *, adjacent: bool = True) -> None:
        self.versions: list[ReadPlaylist] = []
        self._adjacent = adjacent

    @property
    def latest(self) -> ReadPlaylist:
        """The newest."""
        return self.versions[-1]

    def see(self, body: bytes, delta: bytes | None = None) -> ReadPlaylist:
        """Look at the next version, and at its delta update if there is one; raises over a broken rule."""
        playlist = read_playlist(body)
        require(not playlist.skipped, "this is a whole playlist")
        if self.versions:
            check_successor(self.latest, playlist, adjacent=self._adjacent)
            if delta is not None:
                merged = merge_delta(read_playlist(delta), self.latest)
                require(same_media(merged, playlist), "a delta update merges to the whole playlist")
        self.versions.append(playlist)
        return playlist
