"""Playlists as our packager publishes them, version after version, for those who judge them."""

from collections.abc import Iterator

from rapidrtmp.hls.names import part_name
from rapidrtmp.hls.playlist import PlaylistWindow, Version
from rapidrtmp.interfaces import Constants
from rapidrtmp.m3u8.model import InitSegment
from rapidrtmp.m3u8.write import render_media_playlist

TIMESCALE = 90_000
PART = 30_000


def text_of(version: Version) -> str:
    """Its text."""
    return render_media_playlist(version.playlist)


def versions(
    segments: int,
    *,
    size: int = 6,
    parts: int = 6,
    breaks: tuple[int, ...] = (),
    gaps: tuple[int, ...] = (),
    ended: bool = False,
    ahead: bool = False,
) -> Iterator[Version]:
    """
    Every version of a stream whose segments last 2 s each, with a discontinuity before those in ``breaks`` and nothing
    in those in ``gaps``.

    :param ahead: whether the last part of a segment is listed before the segment's end is, as where a keyframe is
        expected and has not come.
    """
    window = PlaylistWindow(Constants(2, 334 if parts else 0), size, 5)
    clock = 0
    for number in range(segments):
        segment = window.begin_segment(
            init=InitSegment(f"init_{sum(number >= one for one in breaks)}.mp4"),
            utc_ms=1_700_000_000_000 + clock // 90,
            discontinuity=number in breaks,
            start=clock,
            timescale=TIMESCALE,
            keyframe=True,
        )
        for part in range(parts):
            segment.add(clock, clock + PART, independent=part == 0, gap=number in gaps)
            clock += PART
            if part < parts - 1:
                yield window.version(segment.next_part)
            elif ahead:
                yield window.version(part_name(segment.sequence + 1, 0))
        clock += 0 if parts else 6 * PART
        window.complete_segment(clock, size=int(number not in gaps))
        yield window.version(part_name(window.next_sequence, int(number + 1 in breaks)) if parts else "")
    if ended:
        window.ended = True
        yield window.version()
