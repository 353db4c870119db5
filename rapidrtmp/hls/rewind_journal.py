"""
What an earlier process left of a rewind journal, made fit to be gone on with.

Each page stands by itself: a header, and the segments that need its init segment. What can not be read is left out,
with all that came before it, because a playlist has no holes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Mapping
from dataclasses import replace

from rapidrtmp.dvr.journal import Header, RecordedPart, RecordedSegment, parse_page, render_header, render_segment
from rapidrtmp.errors import MediaError
from rapidrtmp.hls.names import PageName, init_name, segment_name
from rapidrtmp.hls.playlist import ListedSegment

__all__ = ["as_listed", "check_pages", "listed_from", "named_by_pages", "page_order", "read_rewind_page"]


def page_order(name: str) -> int:
    """Sorts the names of pages as what they describe."""
    page = PageName.parse(name)
    return page.first if page else -1


def read_rewind_page(data: bytes) -> tuple[Header, list[RecordedSegment]]:
    """
    A page: its header and its segments.

    :raises MediaError: it is damaged, or a newer program wrote it.
    """
    lines = parse_page(data)
    if not lines or not isinstance(lines[0], Header):
        raise MediaError("a page of a rewind journal lacks its header")
    segments = [line for line in lines if isinstance(line, RecordedSegment)]
    if not segments:
        raise MediaError("a page of a rewind journal tells of no segment")
    return lines[0], segments


def check_pages(pages: Mapping[str, bytes], stored: Container[str]) -> dict[str, bytes]:
    """
    The pages that can be gone on with.

    :param pages: by name, in order.
    :param stored: the names of what is there; segments that are not count as lost from now on.
    """
    good: dict[str, bytes] = {}
    for name, data in pages.items():
        try:
            header, segments = read_rewind_page(data)
        except MediaError:
            good.clear()
            continue
        page = PageName.parse(name)
        has_init = page is not None and init_name(page.init) in stored
        checked = [
            segment if has_init and segment_name(segment.number) in stored else _as_lost(segment)
            for segment in segments
        ]
        good[name] = render_header(header) + b"".join(map(render_segment, checked))
    return good


def _as_lost(segment: RecordedSegment) -> RecordedSegment:
    return replace(segment, parts=(RecordedPart(0, segment.duration, segment.keyframe, lost=True),))


def named_by_pages(pages: Mapping[str, bytes]) -> set[str]:
    """The names of the pages, and of all media that they need."""
    names = set(pages)
    for name, data in pages.items():
        page = PageName.parse(name)
        if page is not None:
            names.add(init_name(page.init))
        names |= {segment_name(segment.number) for segment in read_rewind_page(data)[1] if not segment.is_gap}
    return names


def as_listed(segment: RecordedSegment, timescale: int, init: str) -> ListedSegment:
    """A segment of a page as playlists list it; ``init`` is the name of its init segment."""
    listed = ListedSegment(
        segment.number,
        init,
        segment.utc_ms,
        segment.discontinuity,
        segment.start,
        timescale,
        segment.keyframe,
        gap=segment.is_gap,
    )
    listed.complete(segment_name(segment.number), segment.start + segment.duration)
    return listed


def listed_from(pages: Mapping[str, bytes], sequence: int) -> list[ListedSegment]:
    """What the pages, by name and in order, tell of the segment ``sequence`` and those that follow it in a row."""
    found: list[ListedSegment] = []
    names = list(pages)
    first = max(bisect_right(names, sequence, key=page_order) - 1, 0)
    for name in names[first:]:
        page = PageName.parse(name)
        header, segments = read_rewind_page(pages[name])
        for segment in segments:
            if page is not None and segment.number == sequence + len(found):
                found.append(as_listed(segment, header.timescale, init_name(page.init)))
    return found
