"""
What a killed server leaves in a storage: streams with a rewind window that was full for long, made without waiting.

Every page of the journal, the playlist, the state, the init segment and the newest segments are what the packager
writes. Of the older segments only the names count, so all of them are the same few files under many names.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rapidrtmp.archive.journal import Header, RecordedPart, RecordedSegment, render_header, render_segment
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.hls.names import MEDIA_PLAYLIST, STATE, PageName, init_name, running_key, running_prefix, segment_name
from rapidrtmp.hls.playlist import PlaylistWindow
from rapidrtmp.hls.resume.state import StoredState
from rapidrtmp.hls.rewind.rewind import SEGMENTS_PER_PAGE
from rapidrtmp.interfaces import Constants
from rapidrtmp.m3u8.model import InitSegment
from rapidrtmp.m3u8.write import render_media_playlist
from rapidrtmp.media import VIDEO_TIMESCALE
from rapidrtmp.names import StreamName
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.testing.frames import make_audio_track, make_video_track

SEGMENT_S, LISTED, FIRST = 2, 10, 400_000_000
SEGMENT_BYTES = 650_000
CONSTANTS = Constants(SEGMENT_S, 334)
#: So many names a file may have: file systems know a limit, ext4 65000.
NAMES_PER_FILE = 50_000


@dataclass(frozen=True)
class Abandoned:
    """
    One stream as it is left.

    :ivar small: the objects that are read, by name.
    :ivar old: the names of segments that are only listed by the rewind window, or kept for who was given that.
    """

    small: dict[str, bytes]
    old: list[str]


def abandon(key: str, window_s: int) -> Abandoned:
    """A stream whose rewind window of so many seconds is full, and as much again waits for its deletion."""
    count = 2 * window_s // SEGMENT_S
    begin_ms = int(time.time() * 1000) - count * SEGMENT_S * 1000
    tracks = (make_video_track(), make_audio_track())
    init = write_init_segment(tracks)
    header = Header.of_tracks("live", key, begin_ms, SEGMENT_S, tracks, init)
    numbers = range(FIRST, FIRST + count)
    small = {
        init_name(FIRST): init,
        STATE: StoredState(CONSTANTS, numbers.stop + 4).render(),
        MEDIA_PLAYLIST: _playlist(numbers[-LISTED:], begin_ms),
        **dict(_pages(numbers, header, begin_ms)),
        **{segment_name(number): bytes(SEGMENT_BYTES) for number in numbers[-LISTED:]},
    }
    return Abandoned(small, [segment_name(number) for number in numbers[:-LISTED]])


def _pages(numbers: range, header: Header, begin_ms: int) -> Iterator[tuple[str, bytes]]:
    ticks = SEGMENT_S * VIDEO_TIMESCALE
    for first in numbers[::SEGMENTS_PER_PAGE]:
        name = PageName(first, FIRST, FIRST, begin_ms + (first - FIRST) * SEGMENT_S * 1000)
        lines = [render_header(header)]
        for number in range(first, min(first + SEGMENTS_PER_PAGE, numbers.stop)):
            at = number - FIRST
            part = (RecordedPart(SEGMENT_BYTES, ticks, keyframe=True),)
            lines.append(
                render_segment(RecordedSegment(number, begin_ms + at * SEGMENT_S * 1000, at * ticks, False, part))
            )
        yield str(name), b"".join(lines)


def _playlist(numbers: range, begin_ms: int) -> bytes:
    window = PlaylistWindow(CONSTANTS, LISTED, numbers.start)
    window.discontinuity_sequence = FIRST
    ticks = SEGMENT_S * VIDEO_TIMESCALE
    for number in numbers:
        at = number - FIRST
        window.begin_segment(
            init=InitSegment(init_name(FIRST)),
            utc_ms=begin_ms + at * SEGMENT_S * 1000,
            discontinuity=False,
            start=at * ticks,
            timescale=VIDEO_TIMESCALE,
            keyframe=True,
        )
        window.complete_segment((at + 1) * ticks, size=SEGMENT_BYTES)
    return render_media_playlist(window.plain()).encode()


def leave_on_disk(root: Path, streams: int, window_s: int) -> None:
    """Put so many streams below a directory as the local storage does."""
    (root / running_prefix("live")).mkdir(parents=True)
    for number in range(streams):
        key = f"bench{number}"
        (root / running_key("live", key)).touch()
        folder = root / "live" / key
        folder.mkdir(parents=True)
        left = abandon(key, window_s)
        for name, data in left.small.items():
            (folder / name).write_bytes(data)
        for at, name in enumerate(left.old):
            if at % NAMES_PER_FILE == 0:
                first = folder / name
                first.write_bytes(b"\0")
            else:
                os.link(first, folder / name)


def leave_in_memory(storage: MemoryStorage, streams: int, window_s: int) -> None:
    """Put so many streams into a storage in memory."""
    for number in range(streams):
        name = StreamName("live", f"bench{number}")
        left = abandon(name.key, window_s)
        storage.put(running_key(*name), b"", "", "")
        for each, data in left.small.items():
            storage.put(f"{name}/{each}", data, "", "")
        for each in left.old:
            storage.put(f"{name}/{each}", b"\0", "", "")
