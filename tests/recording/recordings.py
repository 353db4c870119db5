"""Recordings for tests: journals made by hand, and a storage that a recorder has written into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rapidrtmp.archive.journal import Header, Journal, RecordedPart, RecordedSegment
from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.recording.catalogue import WRITER
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import RecordingWriter, feed, make_sink_context
from tests.recording.test_sink import make_recorder

__all__ = ["ID", "START_MS", "header", "journal", "read_all", "record", "segment", "store", "store_into"]

START_MS = 1_767_225_600_000
ID = RecordingId("live", "test", "20260101T000000Z")


def header(init: bytes = b"init") -> Header:
    """Of an ordinary stream."""
    return Header("live", "test", START_MS, 90_000, 12, ("avc1.42c01f", "mp4a.40.2"), 1280, 720, init)


def segment(
    number: int, at_s: int, pattern: str = "k.k.k.", *, discontinuity: bool = False, utc_s: int | None = None
) -> RecordedSegment:
    """
    One segment at ``at_s``: a letter for every second of it.

    ``k`` is a part of 100 bytes that begins with a keyframe, ``.`` one of 10 that does not, ``x`` one that was lost,
    ``-`` a moment without media.
    """
    sizes = {"k": 100, ".": 10, "x": 0, "-": 0}
    parts = tuple(RecordedPart(sizes[each], 90_000, keyframe=each == "k", lost=each == "x") for each in pattern)
    utc_ms = START_MS + (at_s if utc_s is None else utc_s) * 1000
    return RecordedSegment(number, utc_ms, at_s * 90_000, discontinuity, parts)


def journal(*segments: RecordedSegment) -> Journal:
    """A journal of these."""
    return Journal(header(), segments)


def record(gops: int = 7, *, finish: bool = True, **context: Any) -> RecordingWriter:
    """What a recorder writes of so many GOPs of two seconds."""
    writer = RecordingWriter()
    recorder = make_recorder(make_sink_context(storage=writer, **context))
    source = FrameSource(make_video_track(), make_audio_track(), gop=60)
    recorder.tracks_changed(source.tracks)
    feed(recorder, source.take(gops))
    if finish:
        recorder.finish()
    return writer


def store(*writers: RecordingWriter, by_another: bool = False) -> MemoryStorage:
    """A storage with all that was written."""
    storage = MemoryStorage()
    store_into(storage, *writers, by_another=by_another)
    return storage


def store_into(storage: MemoryStorage, *writers: RecordingWriter, by_another: bool = False) -> None:
    """Store all that was written; ``by_another`` process, if so wanted."""
    for writer in writers:
        for key, data in writer.objects.items():
            storage.put(key, data.replace(WRITER.encode(), b"0" * 16) if by_another else data, "", "")


async def read_all(chunks: Any) -> bytes:
    """Everything that an asynchronous iterator yields."""
    pieces: Sequence[bytes] = [chunk async for chunk in chunks]
    return b"".join(pieces)
