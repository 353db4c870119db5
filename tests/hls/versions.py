"""Playlists as our packager publishes them, version after version, for those who judge them."""

from collections.abc import Iterator
from dataclasses import replace

from rapidrtmp.hls.playlist import ListedPart, PlaylistWindow
from rapidrtmp.interfaces import Constants, Playlist
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.write import render_seconds

TIMESCALE = 90_000
PART = 30_000


def versions(
    segments: int,
    *,
    size: int = 6,
    parts: int = 6,
    breaks: tuple[int, ...] = (),
    ended: bool = False,
    ahead: bool = False,
) -> Iterator[Playlist]:
    """
    Every version of a stream whose segments last 2 s each, with a discontinuity before those in ``breaks``.

    :param ahead: whether the last part of a segment is listed before the segment's end is, as where a keyframe is
        expected and has not come.
    """
    window = PlaylistWindow(Constants(2, 334 if parts else 0), size, 5)
    clock = 0
    for number in range(segments):
        segment = window.begin_segment(
            map_uri=f"init_{sum(number >= one for one in breaks)}.mp4",
            utc_ms=1_700_000_000_000 + clock // 90,
            discontinuity=number in breaks,
            start=clock,
            timescale=TIMESCALE,
            keyframe=True,
        )
        for part in range(parts):
            seconds = render_seconds(clock, clock + PART, TIMESCALE)
            segment.add(ListedPart(f"part_{segment.sequence}.{part}.m4s", seconds, part == 0))
            clock += PART
            if part < parts - 1:
                yield window.render(f"part_{segment.sequence}.{part + 1}.m4s")
            elif ahead:
                yield window.render(f"part_{segment.sequence + 1}.0.m4s")
        clock += 0 if parts else 6 * PART
        window.complete_segment(f"segment_{segment.sequence}.m4s", clock)
        yield window.render(f"part_{segment.sequence + 1}.0.m4s" if parts else "")
    if ended:
        window.ended = True
        yield window.render()


def with_body(playlist: Playlist, body: bytes) -> Playlist:
    """The version with another text, and the facts of that text."""
    parsed = parse_media_playlist(body)
    last = parsed.segments[-1] if parsed.segments else None
    return replace(
        playlist,
        body=body,
        last_sequence=parsed.next_sequence - 1,
        open_parts=len(parsed.open.parts) if parsed.open else 0,
        last_segment_parts=len(last.parts) if last else 0,
        target_ms=parsed.target_s * 1000,
        part_target_ms=parsed.part_target_us // 1000,
        ended=parsed.ended,
    )
