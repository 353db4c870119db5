"""
What an earlier process left of a rewind journal, made fit to be continued.

Each page stands by itself: a header, and the segments that need its init segment. What cannot be read is left out,
with all that came before it, because a playlist has no holes.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace

from rapidrtmp.archive.journal import Header, RecordedPart, RecordedSegment, read_lines
from rapidrtmp.errors import MediaError
from rapidrtmp.hls.names import PageName, init_name, segment_name
from rapidrtmp.hls.segment import ListedSegment

__all__ = ["as_listed", "as_stored", "listed_from", "read_rewind_page"]


def read_rewind_page(data: bytes) -> tuple[Header, list[RecordedSegment]]:
    """
    A page: its header and its segments.

    :raises MediaError: it is damaged, or a newer program wrote it.
    """
    lines, problem = read_lines(data)
    if problem:
        raise MediaError(f"a page of a rewind journal is damaged: {problem}")
    if not lines or not isinstance(lines[0], Header):
        raise MediaError("a page of a rewind journal lacks its header")
    segments = [line for line in lines if isinstance(line, RecordedSegment)]
    if not segments:
        raise MediaError("a page of a rewind journal tells of no segment")
    return lines[0], segments


def as_stored(name: PageName, segments: Sequence[RecordedSegment], stored: Container[str]) -> list[RecordedSegment]:
    """
    The segments of a page, those lost from now on that are not there.

    :param stored: the names of what is.
    """
    has_init = init_name(name.init) in stored
    return [
        segment if has_init and segment_name(segment.number) in stored else _as_lost(segment) for segment in segments
    ]


def _as_lost(segment: RecordedSegment) -> RecordedSegment:
    return replace(segment, parts=(RecordedPart(0, segment.duration, segment.keyframe, True, _is_open(segment)),))


def _is_open(segment: RecordedSegment) -> bool:
    return any(part.open for part in segment.parts[:1])


def as_listed(segment: RecordedSegment, timescale: int, init: str) -> ListedSegment:
    """A segment of a page as playlists list it; ``init`` is the name of its init segment."""
    return ListedSegment.make(
        segment.number,
        init,
        segment.utc_ms,
        segment.start,
        segment.start + segment.duration,
        timescale,
        keyframe=segment.keyframe,
        closed=not _is_open(segment),
        discontinuity=segment.discontinuity,
        gap=segment.is_gap,
    )


def listed_from(pages: Iterable[tuple[PageName, bytes]], sequence: int) -> list[ListedSegment]:
    """What pages, in order, tell of the segment ``sequence`` and those that follow it in a row."""
    found: list[ListedSegment] = []
    for name, data in pages:
        header, segments = read_rewind_page(data)
        for segment in segments:
            if segment.number == sequence + len(found):
                found.append(as_listed(segment, header.timescale, init_name(name.init)))
    return found
