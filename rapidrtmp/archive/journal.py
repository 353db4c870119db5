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
from typing import Any

from rapidrtmp.errors import MediaError
from rapidrtmp.media import AudioConfig, Track, VideoConfig

__all__ = [
    "FORMAT",
    "Header",
    "Journal",
    "RecordedPart",
    "RecordedSegment",
    "parse_page",
    "render_header",
    "render_segment",
]

FORMAT = 1


@dataclass(frozen=True, slots=True)
class RecordedPart:
    """
    One fragment.

    :ivar size: in bytes; 0 where a moment of the stream has no media of its own, or it was lost.
    :ivar duration: in ticks.
    :ivar keyframe: whether it begins with a keyframe.
    :ivar lost: whether the storage did not take it.
    """

    size: int
    duration: int
    keyframe: bool = False
    lost: bool = False


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
        """Whether it can not be played: a part of it was lost, or there never was anything in it."""
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
    """

    def __init__(self, header: Header, segments: Iterable[RecordedSegment]) -> None:
        self.header = header
        by_number = {segment.number: segment for segment in segments}
        self.segments: tuple[RecordedSegment, ...] = tuple(by_number[number] for number in sorted(by_number))

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
        return last.utc_ms + last.duration * 1000 // self.header.timescale

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
                }
                for part in segment.parts
            ],
        }
    )


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def parse_page(data: bytes) -> list[Header | RecordedSegment]:
    """
    The lines of one page, up to the first that is cut off or is no JSON object.

    :raises MediaError: the recording has a format that came after this program, or a line of a known kind lacks what
        it must have.
    """
    found: list[Header | RecordedSegment] = []
    for line in data.split(b"\n")[:-1]:
        try:
            fields = json.loads(line)
        except ValueError:
            break
        if not isinstance(fields, dict):
            break
        try:
            if fields.get("type") == "recording":
                found.append(_read_header(fields))
            elif fields.get("type") == "segment":
                found.append(_read_segment(fields))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MediaError(f"a line of a journal can not be read: {type(error).__name__} {error}") from error
    return found


def _read_header(fields: dict[str, Any]) -> Header:
    if int(fields["format"]) > FORMAT:
        raise MediaError(f"a recording of format {fields['format']}: this program knows {FORMAT}")
    return Header(
        app=str(fields["app"]),
        key=str(fields["streamKey"]),
        started_ms=int(fields["startedMs"]),
        timescale=int(fields["timescale"]),
        target_s=int(fields["targetDuration"]),
        codecs=tuple(map(str, fields["codecs"])),
        width=int(fields["width"]),
        height=int(fields["height"]),
        init=b64decode(fields["init"], validate=True),
    )


def _read_segment(fields: dict[str, Any]) -> RecordedSegment:
    parts = (
        RecordedPart(
            int(part["size"]), int(part["duration"]), bool(part.get("keyframe", False)), bool(part.get("lost", False))
        )
        for part in fields["parts"]
    )
    return RecordedSegment(
        int(fields["number"]), int(fields["utcMs"]), int(fields["start"]), bool(fields["discontinuity"]), tuple(parts)
    )
