"""
Playlist text into values, strictly (RFC 8216 bis, 4).

Nothing is raised: what cannot be read is a ``Problem`` of the result and reads as if it were not there. Tags that are
not known are passed over (6.3.1), as are EXT-X-DATERANGE and EXT-X-DEFINE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rapidrtmp.m3u8.attributes import (
    Attributes,
    BadValueError,
    parse_byte_range,
    parse_date_us,
    parse_integer,
    parse_seconds_us,
)
from rapidrtmp.m3u8.model import (
    ByteRange,
    Hint,
    InitSegment,
    MediaPlaylist,
    Part,
    Problem,
    Report,
    Segment,
)

__all__ = ["parse_media_playlist", "playlist_lines"]


def playlist_lines(text: str | bytes) -> tuple[list[str], list[Problem]]:
    """The lines of a playlist without what ends them, and what is wrong with it as a text (4.1)."""
    problems = []
    if isinstance(text, bytes):
        data, text = text, text.decode("utf-8", "replace")
        if "\ufffd" in text and data != text.encode("utf-8"):
            problems.append(Problem(text.count("\n", 0, text.index("\ufffd")) + 1, "not UTF-8"))
    if text.startswith("\ufeff"):
        problems.append(Problem(1, "begins with a byte order mark"))
        text = text[1:]
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines or lines[0] != "#EXTM3U":
        problems.append(Problem(1, "the first line is not #EXTM3U"))
    return lines, problems


def parse_media_playlist(text: str | bytes) -> MediaPlaylist:
    """Read one version of a media playlist, or a delta update of it."""
    lines, problems = playlist_lines(text)
    reader = _MediaReader()
    for number, line in enumerate(lines, 1):
        reader.read(number, line)
    playlist = reader.finish()
    return replace(playlist, problems=(*problems, *playlist.problems)) if problems else playlist


@dataclass(slots=True)
class _Pending:
    """The segment whose URI has not come yet."""

    first_line: int = 0
    duration_us: int | None = None
    discontinuity: bool = False
    date_us: int | None = None
    gap: bool = False
    byte_range: str = ""
    parts: tuple[Part, ...] = ()


class _MediaReader:
    """Reads a media playlist line by line."""

    def __init__(self) -> None:
        self._head: dict[str, object] = {}
        self._seen: set[str] = set()
        self._segments: list[Segment] = []
        self._next_sequence: int | None = None
        self._pending = _Pending()
        self._init: InitSegment | None = None
        self._key = ""
        self._hints: list[Hint] = []
        self._reports: list[Report] = []
        self._problems: list[Problem] = []
        self._ended = False
        self._line = 0
        self._following: tuple[str, int] | None = None  # the URI of the last byte range, and where that ended

    def read(self, number: int, line: str) -> None:
        """Take one line; ``number`` is for problems."""
        self._line = number
        if not line:
            return
        try:
            if line[0] != "#":
                self._uri(line)
            elif line.startswith("#EXT"):
                name, _, value = line.partition(":")
                read = _TAGS.get(name)
                if read is not None:
                    read(self, value)
            if line != line.strip():
                self._problem("white space around a line")
        except BadValueError as error:
            self._problem(f"{line.partition(':')[0] if line[0] == '#' else 'URI'}: {error}")

    def finish(self) -> MediaPlaylist:
        """The playlist; call once."""
        pending = self._pending
        opened = None
        if pending.duration_us is not None:
            self._problem("EXTINF of a segment that has no URI")
        if pending.parts:
            opened = self._segment(pending, "", 0)
        playlist = MediaPlaylist(
            **self._head,  # type: ignore[arg-type]
            segments=tuple(self._segments),
            open=opened,
            hints=tuple(self._hints),
            reports=tuple(self._reports),
            ended=self._ended,
        )
        if not playlist.target_s:
            self._problems.append(Problem(0, "EXT-X-TARGETDURATION is missing, or 0"))
        return replace(playlist, problems=tuple(self._problems)) if self._problems else playlist

    # ── segments ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _sequence(self) -> int:
        if self._next_sequence is None:
            skipped, first = self._head.get("skipped", 0), self._head.get("sequence", 0)
            assert isinstance(skipped, int) and isinstance(first, int)
            self._next_sequence = first + skipped
        return self._next_sequence + len(self._segments)

    def _begin(self) -> _Pending:
        """The segment that the present line belongs to."""
        self._pending.first_line = self._pending.first_line or self._line
        if self._hints or self._ended:
            self._problem(f"more segments after {'EXT-X-PRELOAD-HINT' if self._hints else 'EXT-X-ENDLIST'}")
        return self._pending

    def _begin_before_parts(self, what: str) -> _Pending:
        pending = self._begin()
        if pending.parts:
            raise BadValueError(f"{what} after the first part of its segment")
        return pending

    def _uri(self, uri: str) -> None:
        pending = self._begin()
        self._pending = _Pending()
        if pending.duration_us is None:
            raise BadValueError("no EXTINF before it")
        byte_range = self._byte_range(pending.byte_range, uri) if pending.byte_range else None
        self._segments.append(self._segment(pending, uri, pending.duration_us, byte_range))

    def _segment(self, pending: _Pending, uri: str, duration_us: int, byte_range: ByteRange | None = None) -> Segment:
        return Segment(
            sequence=self._sequence(),
            uri=uri,
            duration_us=duration_us,
            discontinuity=pending.discontinuity,
            date_us=pending.date_us,
            init=self._init,
            key=self._key,
            gap=pending.gap,
            byte_range=byte_range,
            parts=pending.parts,
            first_line=pending.first_line,
            last_line=self._line,
        )

    def _byte_range(self, text: str, uri: str) -> ByteRange:
        following = self._following[1] if self._following and self._following[0] == uri else None
        length, offset = parse_byte_range(text, following)
        self._following = uri, offset + length
        return length, offset

    def _extinf(self, value: str) -> None:
        pending = self._begin()
        if pending.duration_us is not None:
            raise BadValueError("twice for one segment")
        duration, comma, _ = value.partition(",")
        pending.duration_us = parse_seconds_us(duration)
        if not comma:
            raise BadValueError("no comma after the duration")

    def _discontinuity(self, _: str) -> None:
        self._begin_before_parts("a discontinuity").discontinuity = True

    def _gap(self, _: str) -> None:
        self._begin().gap = True

    def _date(self, value: str) -> None:
        self._begin_before_parts("a date").date_us = parse_date_us(value)

    def _segment_range(self, value: str) -> None:
        self._begin().byte_range = value

    def _map(self, value: str) -> None:
        self._begin_before_parts("an init segment")
        attributes = Attributes(value)
        uri, byte_range = attributes.uri(), attributes.quoted("BYTERANGE", "")
        self._init = InitSegment(uri, parse_byte_range(byte_range, None) if byte_range else None)

    def _key_tag(self, value: str) -> None:
        self._begin_before_parts("a key")
        self._key = "" if Attributes(value).enumerated("METHOD") == "NONE" else value

    def _part(self, value: str) -> None:
        pending = self._begin()
        if pending.duration_us is not None:
            raise BadValueError("after the EXTINF of its segment")
        attributes = Attributes(value)
        uri, byte_range = attributes.uri(), attributes.quoted("BYTERANGE", "")
        pending.parts += (
            Part(
                uri=uri,
                duration_us=attributes.seconds_us("DURATION"),
                independent=attributes.yes("INDEPENDENT"),
                gap=attributes.yes("GAP"),
                byte_range=self._byte_range(byte_range, uri) if byte_range else None,
            ),
        )

    # ── what comes last ──────────────────────────────────────────────────────────────────────────────────────────────

    def _hint(self, value: str) -> None:
        attributes = Attributes(value)
        kind = attributes.enumerated("TYPE")
        if kind not in ("PART", "MAP"):
            raise BadValueError(f"TYPE is {kind!r}, not PART or MAP")
        length = attributes.integer("BYTERANGE-LENGTH") if "BYTERANGE-LENGTH" in attributes.raw else None
        self._hints.append(Hint(kind, attributes.uri(), attributes.integer("BYTERANGE-START", 0), length))

    def _report(self, value: str) -> None:
        attributes = Attributes(value)
        last = (attributes.integer(name) if name in attributes.raw else -1 for name in ("LAST-MSN", "LAST-PART"))
        self._reports.append(Report(attributes.uri(), *last))

    def _endlist(self, _: str) -> None:
        self._once("EXT-X-ENDLIST")
        self._ended = True

    # ── the head ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _once(self, name: str) -> None:
        if name in self._seen:
            raise BadValueError("twice")
        self._seen.add(name)

    def _set(self, field: str, value: object) -> None:
        self._once(field)
        if self._segments or self._pending.first_line:
            raise BadValueError("after the first segment")
        self._head[field] = value

    def _control(self, value: str) -> None:
        attributes = Attributes(value)
        attributes.yes("CAN-BLOCK-RELOAD")
        attributes.yes("CAN-SKIP-DATERANGES")
        for name in ("CAN-SKIP-UNTIL", "HOLD-BACK", "PART-HOLD-BACK"):
            if name in attributes.raw:
                attributes.seconds_us(name)
        self._set("control", attributes.raw)

    def _kind(self, value: str) -> None:
        if value not in ("VOD", "EVENT"):
            raise BadValueError(f"{value!r} is not VOD or EVENT")
        self._set("kind", value)

    def _skip(self, value: str) -> None:
        skipped = Attributes(value).integer("SKIPPED-SEGMENTS")
        if not skipped:
            raise BadValueError("skips no segments")
        if "sequence" not in self._head:
            raise BadValueError("before EXT-X-MEDIA-SEQUENCE")
        self._set("skipped", skipped)

    def _problem(self, detail: str) -> None:
        self._problems.append(Problem(self._line, detail))


def _integer(field: str) -> Callable[[_MediaReader, str], None]:
    return lambda reader, value: reader._set(field, parse_integer(value))


_TAGS: dict[str, Callable[[_MediaReader, str], None]] = {
    "#EXTINF": _MediaReader._extinf,
    "#EXT-X-PART": _MediaReader._part,
    "#EXT-X-PROGRAM-DATE-TIME": _MediaReader._date,
    "#EXT-X-PRELOAD-HINT": _MediaReader._hint,
    "#EXT-X-RENDITION-REPORT": _MediaReader._report,
    "#EXT-X-DISCONTINUITY": _MediaReader._discontinuity,
    "#EXT-X-MAP": _MediaReader._map,
    "#EXT-X-KEY": _MediaReader._key_tag,
    "#EXT-X-GAP": _MediaReader._gap,
    "#EXT-X-BYTERANGE": _MediaReader._segment_range,
    "#EXT-X-ENDLIST": _MediaReader._endlist,
    "#EXT-X-VERSION": _integer("version"),
    "#EXT-X-TARGETDURATION": _integer("target_s"),
    "#EXT-X-MEDIA-SEQUENCE": _integer("sequence"),
    "#EXT-X-DISCONTINUITY-SEQUENCE": _integer("discontinuity_sequence"),
    "#EXT-X-SERVER-CONTROL": _MediaReader._control,
    "#EXT-X-PART-INF": lambda reader, value: reader._set("part_target_us", Attributes(value).seconds_us("PART-TARGET")),
    "#EXT-X-INDEPENDENT-SEGMENTS": lambda reader, _: reader._set("independent_segments", True),
    "#EXT-X-I-FRAMES-ONLY": lambda reader, _: reader._set("i_frames_only", True),
    "#EXT-X-PLAYLIST-TYPE": _MediaReader._kind,
    "#EXT-X-SKIP": _MediaReader._skip,
}
