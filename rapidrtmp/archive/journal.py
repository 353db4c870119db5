"""
The journal of a recording: what was written, in lines of JSON from which everything else is derived.

The first line describes the recording, each further one a segment that is complete. A line that is cut off, and all
behind it on its page, counts as not written; of several lines for one segment the last holds; kinds of lines and
fields that are not known here are passed over, so that what later versions add does not shut out this one.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from rapidrtmp.errors import MediaError
from rapidrtmp.media import AudioConfig, Track, VideoConfig
from rapidrtmp.names import BadNameError, StreamName
from rapidrtmp.support.stored_json import MOST, MOST_MS, StoredObjectFields

__all__ = [
    "FORMAT",
    "Header",
    "Journal",
    "RecordedPart",
    "RecordedSegment",
    "parse_page",
    "read_lines",
    "render_header",
    "render_segment",
]

FORMAT = 1
#: What no recorder of ours exceeds.
MOST_INIT_CHARACTERS, MOST_TIMESCALE, MOST_TARGET_S = 1 << 22, 2**32 - 1, 3_600
MOST_CODECS, MOST_PIXELS = 64, 2**16
MOST_PARTS, MOST_PART_BYTES, MOST_PART_TICKS = 100_000, 2**40, 2**44


@dataclass(frozen=True, slots=True)
class RecordedPart:
    """
    One fragment.

    :ivar size: in bytes; 0 where a moment of the stream has no media of its own, or it was lost.
    :ivar duration: in ticks.
    :ivar keyframe: whether playing can begin with it.
    :ivar open: whether some of it needs what is before nevertheless, and is left out where that is not there.
    :ivar lost: whether the storage did not take it.
    """

    size: int
    duration: int
    keyframe: bool = False
    lost: bool = False
    open: bool = False


@dataclass(frozen=True, slots=True)
class RecordedSegment:
    """
    One segment.

    :ivar number: from 0.
    :ivar utc_ms: when it begins by the wall clock, in milliseconds since 1970.
    :ivar start: decode time of its beginning, in ticks.
    :ivar discontinuity: whether it does not join on to the one before.
    """

    number: int
    utc_ms: int
    start: int
    discontinuity: bool
    parts: tuple[RecordedPart, ...]

    @property
    def duration(self) -> int:
        """In ticks."""
        return sum(part.duration for part in self.parts)

    @property
    def size(self) -> int:
        """In bytes, as far as they are stored."""
        return sum(part.size for part in self.parts)

    @property
    def is_gap(self) -> bool:
        """Whether it cannot be played: a part of it was lost, or there never was anything in it."""
        return not self.size or any(part.lost for part in self.parts)

    @property
    def keyframe(self) -> bool:
        """Whether decoding can begin with it."""
        return bool(self.parts) and self.parts[0].keyframe


@dataclass(frozen=True, slots=True)
class Header:
    """
    What a recording is.

    :ivar started_ms: the wall-clock time of its first moment, in milliseconds since 1970.
    :ivar timescale: ticks a second of all times in the journal.
    :ivar target_s: no segment is longer, rounded to seconds.
    :ivar codecs: as in RFC 6381, video first.
    :ivar width: of the video in pixels, or 0; likewise ``height``.
    :ivar init: the init segment.
    """

    app: str
    key: str
    started_ms: int
    timescale: int
    target_s: int
    codecs: tuple[str, ...]
    width: int
    height: int
    init: bytes

    @classmethod
    def of_tracks(
        cls, app: str, key: str, started_ms: int, target_s: int, tracks: Sequence[Track], init: bytes
    ) -> Header:
        """Describe a recording of ``tracks`` that begins now."""
        video = next((track.config for track in tracks if isinstance(track.config, VideoConfig)), None)
        configs: list[VideoConfig | AudioConfig] = [track.config for track in tracks]
        return cls(
            app=app,
            key=key,
            started_ms=started_ms,
            timescale=tracks[0].timescale,
            target_s=target_s,
            codecs=tuple(config.codec_string for config in configs),
            width=video.width if video else 0,
            height=video.height if video else 0,
            init=init,
        )


class Journal:
    """
    All that a journal says.

    :ivar header: what the recording is.
    :ivar segments: by number; a number may be missing where the journal lost a line.
    :ivar reach: for each segment when all up to it have ended, and when the first from it on begins, in milliseconds
        since 1970; made when it is first needed.
    """

    def __init__(self, header: Header, segments: Iterable[RecordedSegment]) -> None:
        self.header = header
        self.segments: tuple[RecordedSegment, ...] = tuple(segments)
        if not all(before.number < after.number for before, after in pairwise(self.segments)):
            by_number = {segment.number: segment for segment in self.segments}
            self.segments = tuple(by_number[number] for number in sorted(by_number))
        self.reach: tuple[list[int], list[int]] | None = None

    @cached_property
    def playable(self) -> tuple[RecordedSegment, ...]:
        """The segments that are not gaps."""
        return tuple(segment for segment in self.segments if not segment.is_gap)

    @cached_property
    def media_size(self) -> int:
        """Bytes of all segments that can be played."""
        return sum(segment.size for segment in self.playable)

    @property
    def size(self) -> int:
        """Bytes of everything that is stored, the init segment included."""
        return len(self.header.init) + sum(segment.size for segment in self.segments)

    @property
    def duration_ms(self) -> int:
        """How much was recorded, gaps included."""
        return sum(segment.duration for segment in self.segments) * 1000 // self.header.timescale

    @property
    def ended_ms(self) -> int:
        """The wall-clock time of its last moment."""
        if not self.segments:
            return self.header.started_ms
        last = self.segments[-1]
        return min(last.utc_ms + last.duration * 1000 // self.header.timescale, MOST_MS)

    @property
    def version(self) -> tuple[int, ...]:
        """Differs from that of the same journal with more segments, or others at its end."""
        if not self.segments:
            return ()
        last = self.segments[-1]
        return len(self.segments), last.number, last.utc_ms, last.size

    def find(self, number: int) -> RecordedSegment | None:
        """The segment of that number."""
        at = bisect_right(self.segments, number, key=lambda segment: segment.number) - 1
        return self.segments[at] if at >= 0 and self.segments[at].number == number else None


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def render_header(header: Header) -> bytes:
    """The first line of a journal."""
    return _line(
        {
            "type": "recording",
            "format": FORMAT,
            "app": header.app,
            "streamKey": header.key,
            "startedMs": header.started_ms,
            "timescale": header.timescale,
            "targetDuration": header.target_s,
            "codecs": list(header.codecs),
            "width": header.width,
            "height": header.height,
            "init": b64encode(header.init).decode(),
        }
    )


def render_segment(segment: RecordedSegment) -> bytes:
    """The line of one segment; what is false or 0 is left out of its parts."""
    return _line(
        {
            "type": "segment",
            "number": segment.number,
            "utcMs": segment.utc_ms,
            "start": segment.start,
            "discontinuity": segment.discontinuity,
            "parts": [
                {
                    "size": part.size,
                    "duration": part.duration,
                    **({"keyframe": True} if part.keyframe else {}),
                    **({"lost": True} if part.lost else {}),
                    **({"open": True} if part.open else {}),
                }
                for part in segment.parts
            ],
        }
    )


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def parse_page(data: bytes) -> list[Header | RecordedSegment]:
    """
    The lines of one page, up to the first that is cut off or damaged.

    :raises MediaError: the recording has a format that came after this program.
    """
    return read_lines(data)[0]


def read_lines(data: bytes) -> tuple[list[Header | RecordedSegment], str]:
    """
    The lines of one page as :func:`parse_page` has them, and what is wrong with the one that ends them.

    :returns: the second is empty if all lines are good, or the last one is only cut off.
    :raises MediaError: the recording has a format that came after this program.
    """
    found: list[Header | RecordedSegment] = []
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            fields = StoredObjectFields(line)
            kind = fields.value("type") if "type" in fields else None
            if kind == "recording":
                _check_format(fields)
                found.append(_read_header(fields))
            elif kind == "segment":
                found.append(_read_segment(fields))
        except _NewerFormatError:
            raise
        except MediaError as error:
            return found, f"line {number}: {error}"
    return found, ""


class _NewerFormatError(MediaError):
    """A later version of this program wrote it."""


def _check_format(fields: StoredObjectFields) -> None:
    if fields.whole("format", 1) > FORMAT:
        raise _NewerFormatError(f"a recording of format {fields.value('format')}: this program knows {FORMAT}")


def _read_header(fields: StoredObjectFields) -> Header:
    try:
        init = b64decode(fields.text("init", MOST_INIT_CHARACTERS), validate=True)
        stream = StreamName.checked(fields.text("app"), fields.text("streamKey"))
    except (ValueError, BadNameError) as error:
        raise MediaError(f"{error}") from error
    return Header(
        app=stream.app,
        key=stream.key,
        started_ms=fields.whole("startedMs", most=MOST_MS),
        timescale=fields.whole("timescale", 1, MOST_TIMESCALE),
        target_s=fields.whole("targetDuration", 1, MOST_TARGET_S),
        codecs=fields.texts("codecs", MOST_CODECS),
        width=fields.whole("width", most=MOST_PIXELS),
        height=fields.whole("height", most=MOST_PIXELS),
        init=init,
    )


def _read_segment(fields: StoredObjectFields) -> RecordedSegment:
    parts = map(_read_part, fields.several("parts", MOST_PARTS))
    return RecordedSegment(
        fields.whole("number"),
        fields.whole("utcMs", most=MOST_MS),
        fields.whole("start", -MOST),
        fields.flag("discontinuity"),
        tuple(parts),
    )


def _read_part(value: object) -> RecordedPart:
    part = StoredObjectFields.of(value)
    return RecordedPart(
        part.whole("size", most=MOST_PART_BYTES),
        part.whole("duration", most=MOST_PART_TICKS),
        part.flag("keyframe", default=False),
        part.flag("lost", default=False),
        part.flag("open", default=False),
    )
