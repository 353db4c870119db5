"""
The playlists of recordings (RFC 8216 bis): EVENT while one grows, VOD when nothing follows, and VOD for a clip.

A line that was once in a recording's playlist stays there as it is; while it grows, lines come only at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from rapidrtmp.archive.clip import Stretch, whole_recording
from rapidrtmp.archive.clip_run import RECORDING, Naming, Run
from rapidrtmp.archive.journal import Header, Journal
from rapidrtmp.m3u8.write import render_date_time, render_seconds

__all__ = ["render_clip", "render_recording"]

#: EXT-X-GAP needs protocol version 8.
VERSION = 8


def render_recording(journal: Journal, *, is_over: bool) -> bytes:
    """
    The playlist of a whole recording; its segments are virtual: what serves them puts their parts together.

    :param is_over: whether nothing follows.
    """
    stretches = whole_recording(journal)
    kind = "VOD" if is_over else "EVENT"
    return _render(stretches, kind, journal.header.target_s, _lines(journal.header, stretches, RECORDING))


def render_clip(runs: Sequence[Run]) -> bytes:
    """
    The playlist of a clip. Of a segment that is not in it as a whole, the parts are listed as segments of their own;
    each run begins with its init segment, behind a discontinuity.

    :param runs: in order; at least one.
    """
    pieces = [[piece for stretch in run.stretches for piece in _pieces(stretch)] for run in runs]
    target_s = max(_target_s(run.header, single) for run, single in zip(runs, pieces, strict=True))
    lines = (_lines(run.header, single, run.naming) for run, single in zip(runs, pieces, strict=True))
    return _render(list(chain(*pieces)), "VOD", target_s, _joined(lines))


def _target_s(header: Header, pieces: Sequence[Stretch]) -> int:
    longest = max(piece.end - piece.start for piece in pieces)
    return max(1, (longest + header.timescale // 2) // header.timescale)


def _joined(runs: Iterable[Iterator[str]]) -> Iterator[str]:
    for number, lines in enumerate(runs):
        if number:
            yield "#EXT-X-DISCONTINUITY\n"
        yield from lines


def _pieces(stretch: Stretch) -> list[Stretch]:
    """Its parts one by one; a moment without media, which the part before it stands for, stays with that."""
    if stretch.is_whole:
        return [stretch]
    pieces: list[Stretch] = []
    for index in range(stretch.first, stretch.stop):
        if pieces and not stretch.segment.parts[index].size:
            pieces[-1] = replace(pieces[-1], stop=index + 1)
        else:
            pieces.append(Stretch(stretch.segment, index, index + 1))
    return pieces


def _render(stretches: Sequence[Stretch], kind: str, target_s: int, lines: Iterator[str]) -> bytes:
    independent = all(_begins_with_keyframe(stretch) for stretch in stretches)
    head = (
        f"#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-TARGETDURATION:{target_s}\n#EXT-X-PLAYLIST-TYPE:{kind}\n"
        + ("#EXT-X-INDEPENDENT-SEGMENTS\n" if independent and kind == "VOD" else "")
        + "#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n"
    )
    return "".join((head, *lines, "#EXT-X-ENDLIST\n" if kind == "VOD" else "")).encode()


def _begins_with_keyframe(stretch: Stretch) -> bool:
    return stretch.segment.is_gap or stretch.parts[0].keyframe


def _lines(header: Header, stretches: Sequence[Stretch], naming: Naming) -> Iterator[str]:
    timescale = header.timescale
    map_line = f'#EXT-X-MAP:URI="{naming.init}"\n'
    last: Stretch | None = None
    for stretch in stretches:
        start, end, segment = stretch.start, stretch.end, stretch.segment
        if last is None:
            yield map_line
        elif (segment.discontinuity and stretch.first == 0) or start != last.end:
            yield f"#EXT-X-DISCONTINUITY\n{map_line}"
        utc_ms = segment.utc_ms + (start - segment.start) * 1000 // timescale
        gap = segment.is_gap or not stretch.size
        uri = naming.segment(segment.number) if stretch.is_whole else naming.part(segment.number, stretch.first)
        yield (
            f"#EXT-X-PROGRAM-DATE-TIME:{render_date_time(utc_ms)}\n{'#EXT-X-GAP' + chr(10) if gap else ''}"
            f"#EXTINF:{render_seconds(start, end, timescale)},\n{uri}\n"
        )
        last = stretch
