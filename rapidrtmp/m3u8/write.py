"""
Playlists as text (RFC 8216 bis, 4): the one place where the text of media playlists is written.

What goes in are the values of ``rapidrtmp.m3u8.model``, which ``rapidrtmp.m3u8.read`` makes from text again. Byte
ranges and keys are not written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from rapidrtmp.m3u8.model import InitSegment, MediaPlaylist, Part, Segment

__all__ = [
    "PlaylistWriter",
    "duration_us",
    "media_playlist_text",
    "render_date_time",
    "render_head",
    "render_init",
    "render_media_playlist",
    "render_seconds",
    "render_segment",
    "render_skip",
]

ENDLIST = "#EXT-X-ENDLIST\n"


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def duration_us(start: int, end: int, timescale: int) -> int:
    """
    The time from one tick to another in microseconds, a multiple of 10: as exact as durations are written, and cut so
    that neighbours add up without drift.
    """
    return (_in_units(end, timescale) - _in_units(start, timescale)) * 10


def _in_units(ticks: int, timescale: int) -> int:
    return (ticks * 100_000 * 2 + timescale) // (2 * timescale)


def render_seconds(microseconds: int) -> str:
    """Decimal seconds with 5 places."""
    return f"{microseconds // 1_000_000}.{microseconds % 1_000_000 // 10:05d}"


@lru_cache(maxsize=256)  # an open segment is written with each of its parts
def render_date_time(date_us: int) -> str:
    """
    ISO 8601 in UTC with milliseconds, as EXT-X-PROGRAM-DATE-TIME wants it.

    :param date_us: in microseconds since 1970.
    """
    moment = datetime.fromtimestamp(date_us // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{date_us // 1000 % 1000:03d}Z"


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def render_head(playlist: MediaPlaylist) -> str:
    """The lines before the first segment."""
    kind = f"#EXT-X-PLAYLIST-TYPE:{playlist.kind}\n" if playlist.kind else ""
    independent = "#EXT-X-INDEPENDENT-SEGMENTS\n" if playlist.independent_segments else ""
    pictures = "#EXT-X-I-FRAMES-ONLY\n" if playlist.i_frames_only else ""
    return (
        f"#EXTM3U\n#EXT-X-VERSION:{playlist.version}\n#EXT-X-TARGETDURATION:{playlist.target_s}\n"
        f"{_control(playlist.control, playlist.part_target_us)}{kind}{pictures}{independent}"
        f"#EXT-X-MEDIA-SEQUENCE:{playlist.sequence}\n"
        f"#EXT-X-DISCONTINUITY-SEQUENCE:{playlist.discontinuity_sequence}\n"
    )


def _control(control: Mapping[str, str], part_target_us: int) -> str:
    """What a server that holds requests promises (4.4.3.7, 4.4.3.8)."""
    attributes = ",".join([f"{name}={value}" for name, value in control.items()])
    return (f"#EXT-X-SERVER-CONTROL:{attributes}\n" if attributes else "") + (
        f"#EXT-X-PART-INF:PART-TARGET={part_target_us / 1_000_000:.3f}\n" if part_target_us else ""
    )


def render_init(init: InitSegment | None) -> str:
    """The line of an init segment; nothing where there is none."""
    return f'#EXT-X-MAP:URI="{init.uri}"\n' if init else ""


def render_skip(count: int) -> str:
    """What stands for so many segments in a delta update."""
    return f"#EXT-X-SKIP:SKIPPED-SEGMENTS={count}\n"


def render_segment(segment: Segment) -> str:
    """The lines of a segment, complete or open; its init segment is among them behind a discontinuity alone."""
    lines = ["#EXT-X-DISCONTINUITY\n" + render_init(segment.init)] if segment.discontinuity else []
    if segment.date_us is not None:
        lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{render_date_time(segment.date_us)}\n")
    lines += [f"#EXT-X-DATERANGE:{each}\n" for each in segment.date_ranges]
    lines += map(_part, segment.parts)
    if segment.uri:
        gap = "#EXT-X-GAP\n" if segment.gap else ""
        lines.append(f"{gap}#EXTINF:{render_seconds(segment.duration_us)},\n{segment.uri}\n")
    return "".join(lines)


def _part(part: Part) -> str:
    flags = (",INDEPENDENT=YES" if part.independent else "") + (",GAP=YES" if part.gap else "")
    return f'#EXT-X-PART:DURATION={render_seconds(part.duration_us)},URI="{part.uri}"{flags}\n'


def _init_before(segment: Segment, before: Segment | None) -> str:
    """The line that names a segment's init segment, where its own lines do not and those before it name another."""
    if segment.discontinuity or (before is not None and before.init == segment.init):
        return ""
    return render_init(segment.init)


def _edge(playlist: MediaPlaylist) -> str:
    """What stands behind the last complete segment."""
    text = ""
    if playlist.open is not None:
        last = playlist.segments[-1] if playlist.segments else None
        text = _init_before(playlist.open, last) + render_segment(playlist.open)
    for hint in playlist.hints:
        text += f'#EXT-X-PRELOAD-HINT:TYPE={hint.kind},URI="{hint.uri}"\n'
    for report in playlist.reports:
        part = f",LAST-PART={report.last_part}" if report.last_part >= 0 else ""
        text += f'#EXT-X-RENDITION-REPORT:URI="{report.uri}",LAST-MSN={report.last_sequence}{part}\n'
    return text + ENDLIST if playlist.ended else text


# ── playlists ────────────────────────────────────────────────────────────────────────────────────────────────────────


def render_media_playlist(playlist: MediaPlaylist) -> str:
    """A whole playlist."""
    return PlaylistWriter().render(playlist)


def media_playlist_text(playlist: MediaPlaylist, segments: Iterable[Segment]) -> Iterator[str]:
    """A whole playlist in pieces, for a long one: with these segments, where ``playlist`` has none."""
    yield render_head(playlist)
    before: Segment | None = None
    for segment in segments:
        yield _init_before(segment, before) + render_segment(segment)
        before = segment
    yield _edge(playlist)


class PlaylistWriter:
    """
    Writes the versions of one playlist, one after another.

    The lines of a segment are written once: values do not change, so what is the same object has the same text.
    """

    def __init__(self) -> None:
        self._segments: tuple[Segment, ...] = ()
        self._lines: Sequence[str] = ()  # of each of these
        self._texts: Sequence[str] = ()  # likewise, with the init segments that are named before them
        self._text = ""  # of all of these

    def render(self, playlist: MediaPlaylist) -> str:
        """The next version."""
        if playlist.segments is not self._segments:
            self._adopt(playlist.segments)
        return f"{render_head(playlist)}{self._text}{_edge(playlist)}"

    def render_delta(self, playlist: MediaPlaylist, skipped: int) -> str:
        """
        The delta update (6.2.5.1) that goes with it.

        :param skipped: how many segments it leaves out; some must be left.
        """
        if playlist.segments is not self._segments:
            self._adopt(playlist.segments)
        first = _init_before(playlist.segments[skipped], None) + self._lines[skipped]
        following = self._texts[skipped + 1 :]
        ranges = [f"#EXT-X-DATERANGE:{each}\n" for old in playlist.segments[:skipped] for each in old.date_ranges]
        return "".join((render_head(playlist), render_skip(skipped), *ranges, first, *following, _edge(playlist)))

    def _adopt(self, segments: tuple[Segment, ...]) -> None:
        known = dict(zip(map(id, self._segments), self._lines, strict=True))
        self._lines = [known.get(id(segment)) or render_segment(segment) for segment in segments]
        self._segments = segments
        self._texts = [
            _init_before(segment, segments[index - 1] if index else None) + self._lines[index]
            for index, segment in enumerate(segments)
        ]
        self._text = "".join(self._texts)
