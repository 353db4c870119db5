"""
The playlists of recordings (RFC 8216 bis): EVENT while one grows, VOD when nothing follows, and VOD for a clip.

A line that was once in a recording's playlist stays there as it is; while it grows, lines come only at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, chain, islice

from rapidrtmp.archive.clip import ClipRange
from rapidrtmp.archive.clip_run import RECORDING, ClipRun, Naming
from rapidrtmp.archive.journal import Header, Journal
from rapidrtmp.archive.layout import INIT_NAME, part_name, segment_name
from rapidrtmp.m3u8.model import InitSegment, MediaPlaylist, Segment
from rapidrtmp.m3u8.write import duration_us, media_playlist_text, render_segment
from rapidrtmp.names import of_pictures

__all__ = ["clip_text", "growing_text", "i_frame_text", "recording_text", "render_clip", "render_recording"]

#: EXT-X-GAP needs protocol version 8.
VERSION = 8
#: What I-frame playlists call things.
PICTURES = Naming(of_pictures(INIT_NAME), lambda number: of_pictures(segment_name(number)), part_name)


def render_recording(journal: Journal, *, is_over: bool) -> bytes:
    """
    The playlist of a whole recording; its segments are virtual: what serves them puts their parts together.

    :param is_over: whether nothing follows.
    """
    return "".join(recording_text(journal, is_over=is_over)).encode()


def recording_text(journal: Journal, *, is_over: bool) -> Iterator[str]:
    """As :func:`render_recording`, in pieces; some of them are empty."""
    ranges: list[ClipRange] = []
    for segment in journal.segments:
        ranges.append(ClipRange(segment, 0, len(segment.parts)))
        yield ""
    segments = _segments(journal.header, ranges, RECORDING, 0, joins=True)
    yield from _text(ranges, "VOD" if is_over else "EVENT", journal.header.target_s, segments)


def growing_text(journal: Journal, since: int) -> Iterator[str]:
    """
    What is new in the playlist of a recording that grows, in pieces; some of them are empty.

    :param since: how many segments the playlist has already; with 0, all of the text.
    """
    ranges: list[ClipRange] = []
    first = max(since - 1, 0)  # whether a segment joins on is seen by the one before
    for segment in journal.segments[first:]:
        ranges.append(ClipRange(segment, 0, len(segment.parts)))
        yield ""
    segments = _segments(journal.header, ranges, RECORDING, first, joins=True)
    if since:
        yield from map(render_segment, islice(segments, 1, None))
    else:
        yield from _text(ranges, "EVENT", journal.header.target_s, segments)


def i_frame_text(journal: Journal, *, is_over: bool) -> Iterator[str]:
    """
    The I-frame playlist of a recording (4.4.3.6): the picture that each segment begins with, in pieces of text.

    :param is_over: whether nothing follows.
    """
    ranges: list[ClipRange] = []
    for segment in journal.segments:
        ranges.append(ClipRange(segment, 0, len(segment.parts)))
        yield ""
    listed = _segments(journal.header, ranges, PICTURES, 0, joins=True)
    pictures = (
        replace(each, gap=each.gap or not (segment.keyframe and segment.parts[0].size))
        for each, segment in zip(listed, journal.segments, strict=True)
    )
    kind = "VOD" if is_over else "EVENT"
    yield from _text([], kind, journal.header.target_s, pictures, i_frames_only=True)


def render_clip(runs: Sequence[ClipRun]) -> bytes:
    """
    The playlist of a clip. Of a segment that is not in it as a whole, the parts are listed as segments of their own;
    each run begins with its init segment, behind a discontinuity.

    :param runs: in order; at least one.
    """
    return "".join(clip_text(runs)).encode()


def clip_text(runs: Sequence[ClipRun]) -> Iterator[str]:
    """As :func:`render_clip`, in pieces; some of them are empty."""
    pieces: list[list[ClipRange]] = []
    target_s = 1
    for run in runs:
        pieces.append([])
        for clip_range in run.ranges:
            some = _pieces(clip_range)
            pieces[-1] += some
            target_s = max(target_s, _target_s(run.header, some))
            yield ""
    firsts = accumulate(map(len, pieces), initial=0)
    segments = (
        _segments(run.header, single, run.naming, first, joins=not first)
        for run, single, first in zip(runs, pieces, firsts, strict=False)
    )
    yield from _text(list(chain(*pieces)), "VOD", target_s, chain.from_iterable(segments))


def _target_s(header: Header, pieces: Sequence[ClipRange]) -> int:
    longest = max(piece.end - piece.start for piece in pieces)
    return max(1, (longest + header.timescale // 2) // header.timescale)


def _pieces(clip_range: ClipRange) -> list[ClipRange]:
    """Its parts one by one; a moment without media, which the part before it stands for, stays with that."""
    if clip_range.is_whole:
        return [clip_range]
    pieces: list[ClipRange] = []
    for index in range(clip_range.first, clip_range.stop):
        if pieces and not clip_range.segment.parts[index].size:
            pieces[-1] = replace(pieces[-1], stop=index + 1)
        else:
            pieces.append(ClipRange(clip_range.segment, index, index + 1))
    return pieces


def _text(
    ranges: Sequence[ClipRange], kind: str, target_s: int, segments: Iterable[Segment], *, i_frames_only: bool = False
) -> Iterator[str]:
    is_over = kind == "VOD"
    is_independent = is_over and not i_frames_only
    for clip_range in ranges if is_over else ():
        is_independent = is_independent and _is_independent(clip_range)
        yield ""
    playlist = MediaPlaylist(
        version=VERSION,
        target_s=target_s,
        kind=kind,
        independent_segments=is_independent,
        i_frames_only=i_frames_only,
        ended=is_over,
    )
    yield from media_playlist_text(playlist, segments)


def _is_independent(clip_range: ClipRange) -> bool:
    first = clip_range.parts[0]
    return clip_range.segment.is_gap or (first.keyframe and not first.open)


def _segments(
    header: Header, ranges: Sequence[ClipRange], naming: Naming, first: int, *, joins: bool
) -> Iterator[Segment]:
    """
    Ranges as a playlist lists them, numbered from ``first`` on.

    :param joins: whether the first follows what is listed before it without a discontinuity.
    """
    timescale, init = header.timescale, InitSegment(naming.init)
    expected: int | None = None  # where the next one begins if it joins on
    for sequence, clip_range in enumerate(ranges, first):
        start, end, segment = clip_range.start, clip_range.end, clip_range.segment
        if expected is not None:
            joins = start == expected and not (segment.discontinuity and clip_range.first == 0)
        is_whole = clip_range.is_whole
        yield Segment(
            sequence,
            naming.segment(segment.number) if is_whole else naming.part(segment.number, clip_range.first),
            duration_us(start, end, timescale),
            not joins,
            (segment.utc_ms + (start - segment.start) * 1000 // timescale) * 1000,
            init,
            gap=segment.is_gap or not clip_range.size,
        )
        expected = end
