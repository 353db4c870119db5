"""
What lies in a storage and is read again: a page of a journal, an entry of the catalogue, the state of a stream.

The first byte of an input says which. Nothing but ``MediaError`` may escape; and what passes is within the bounds of
what our own writers write, so that dates can be reckoned and sums do not run away.
"""

from __future__ import annotations

from datetime import UTC, datetime

from rapidrtmp.archive.journal import Header, Journal, RecordedSegment, parse_page
from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.archive.playlist import render_recording
from rapidrtmp.errors import MediaError
from rapidrtmp.hls.resume.state import MOST_SEQUENCE, StoredState
from rapidrtmp.hls.rewind.journal import read_rewind_page
from rapidrtmp.recording.catalogue import Entry, RecordingState

__all__ = ["run"]

_ID = RecordingId("live", "cam", "20260101T000000Z")


def run(data: bytes) -> None:
    """One stored object. :raises AssertionError: an invariant does not hold."""
    readers = (_journal, _rewind, _entry, _state)
    try:
        readers[data[0] % len(readers) if data else 0](data[1:])
    except MediaError as error:
        assert len(str(error)) < 2_000, "an error as long as its input"


def _journal(data: bytes) -> None:
    lines = parse_page(data)
    segments = [line for line in lines if isinstance(line, RecordedSegment)]
    for header in (line for line in lines if isinstance(line, Header)):
        journal = Journal(header, segments)
        _check_date(journal.ended_ms)
        _check_date(header.started_ms)
        assert journal.duration_ms >= 0
        entry = Entry.of_journal(_ID, RecordingState.FINISHED, journal)
        assert entry.size >= 0
        if len(data) < 10_000 and segments:
            render_recording(journal, is_over=True)


def _rewind(data: bytes) -> None:
    header, segments = read_rewind_page(data)
    assert header.timescale
    assert segments


def _entry(data: bytes) -> None:
    entry = Entry.parse(_ID, data)
    for utc_ms in (entry.started_ms, entry.ended_ms):
        _check_date(utc_ms)
    assert Entry.parse(_ID, entry.render()) == entry


def _state(data: bytes) -> None:
    state = StoredState.parse(data)
    assert 0 <= state.next_sequence <= MOST_SEQUENCE
    assert StoredState.parse(state.render()) == state


def _check_date(utc_ms: int) -> None:
    datetime.fromtimestamp(utc_ms / 1000, UTC)
