"""Playlists written: what is read back is what was written, and what is known is not written again."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.m3u8.model import Hint, InitSegment, MediaPlaylist, Part, Segment, merge_delta
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.write import (
    PlaylistWriter,
    duration_us,
    render_date_time,
    render_media_playlist,
    render_seconds,
)
from tests.slow import slow

#: 1 January 2026.
STARTED_AT_US = 1_767_225_600_000_000
CONTROL = {"CAN-BLOCK-RELOAD": "YES", "CAN-SKIP-UNTIL": "12.0", "PART-HOLD-BACK": "1.002"}
INITS = st.sampled_from([InitSegment("init_1.mp4"), InitSegment("init_2.mp4")])
DURATIONS = st.integers(0, 10_000_000).map(lambda number: number * 10)


@st.composite
def playlists(draw: st.DrawFn) -> MediaPlaylist:
    """Any playlist that can be written."""

    def segment(sequence: int, *, is_open: bool) -> Segment:
        parts = draw(st.lists(st.tuples(DURATIONS, st.booleans(), st.booleans()), min_size=is_open, max_size=3))
        date_us = draw(st.none() | st.integers(0, 4_000_000_000_000).map(lambda ms: ms * 1000))
        return Segment(
            sequence,
            "" if is_open else f"segment_{sequence}.m4s",
            0 if is_open else draw(DURATIONS),
            draw(st.booleans()),
            date_us,
            draw(INITS),
            gap=not is_open and draw(st.booleans()),
            parts=tuple(Part(f"part_{sequence}.{index}.m4s", *part) for index, part in enumerate(parts)),
        )

    first = draw(st.integers(0, 1 << 40))
    count = draw(st.integers(0, 5))
    is_open = draw(st.booleans())
    return MediaPlaylist(
        version=9,
        target_s=draw(st.integers(1, 60)),
        sequence=first,
        discontinuity_sequence=draw(st.integers(0, 1 << 20)),
        control=draw(st.sampled_from([CONTROL, {}])),
        part_target_us=draw(st.integers(1, 60_000)) * 1000,
        independent_segments=draw(st.booleans()),
        kind=draw(st.sampled_from(["", "EVENT", "VOD"])),
        segments=tuple(segment(first + index, is_open=False) for index in range(count)),
        open=segment(first + count, is_open=True) if is_open else None,
        hints=draw(st.sampled_from([(), (Hint("PART", "part_9.9.m4s"),)])),
        ended=draw(st.booleans()),
    )


class ValueTests(SynchronousTestCase):
    def test_seconds_add_up(self) -> None:
        """Durations are cut so that any run of them adds up to the time between its ends."""
        self.assertEqual("2.00000", render_seconds(duration_us(0, 180_000, 90_000)))
        self.assertEqual("0.33367", render_seconds(duration_us(0, 30_030, 90_000)))
        total = sum(duration_us(at, at + 1_024, 44_100) for at in range(0, 44_100 * 1_024, 1_024))
        self.assertEqual(1_024_000_000, total)

    def test_dates_are_utc(self) -> None:
        """Dates are in UTC with milliseconds."""
        self.assertEqual("2026-01-01T00:00:00.007Z", render_date_time(STARTED_AT_US + 7_000))


class WriterTests(SynchronousTestCase):
    @slow
    @given(playlists())
    def test_written_playlist_reads_back(self, playlist: MediaPlaylist) -> None:
        """Whatever is written, the reader finds the same values in it and no problem but with what is no playlist."""
        parsed = parse_media_playlist(render_media_playlist(playlist))
        self.assertEqual(playlist, parsed)
        self.assertEqual((), parsed.problems)

    @slow
    @settings(max_examples=30)
    @given(st.lists(playlists(), min_size=2, max_size=3))
    def test_versions_are_written_as_if_alone(self, versions: list[MediaPlaylist]) -> None:
        """A writer that has written other versions, with some of the same segments, writes what a new one writes."""
        writer = PlaylistWriter()
        pool = [segment for version in versions for segment in version.segments]
        for number, version in enumerate(versions):
            mixed = replace(version, segments=tuple(pool[number:]))
            self.assertEqual(render_media_playlist(mixed), writer.render(mixed))
            self.assertEqual(render_media_playlist(mixed), writer.render(replace(mixed)))

    @slow
    @settings(max_examples=50)
    @given(playlists(), st.data())
    def test_delta_merges_as_written(self, playlist: MediaPlaylist, data: st.DataObject) -> None:
        """A delta update, merged with the full version, is the full version but for the parts it skips."""
        if len(playlist.segments) < 2:
            return
        skipped = data.draw(st.integers(1, len(playlist.segments) - 1))
        delta = parse_media_playlist(PlaylistWriter().render_delta(playlist, skipped))
        bare = tuple(replace(segment, parts=()) for segment in playlist.segments[:skipped])
        expected = replace(playlist, segments=(*bare, *playlist.segments[skipped:]))
        self.assertEqual(expected, replace(merge_delta(playlist, delta), problems=()))
