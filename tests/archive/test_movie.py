from __future__ import annotations

import struct
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.clip import ClipRange, whole_recording
from rapidrtmp.archive.layout import part_name
from rapidrtmp.archive.movie import Movie, make_movie, make_segment, write_index
from rapidrtmp.errors import NotFoundError, StorageError
from rapidrtmp.storage.memory import MemoryStorage
from tests.recording.recordings import ID, header, journal, read_all, segment
from tests.slow import slow


def stored(ranges: Sequence[ClipRange]) -> tuple[MemoryStorage, bytes]:
    """Parts whose bytes differ, and all of them together."""
    storage, together = MemoryStorage(), b""
    for clip_range in ranges:
        for index, part in enumerate(clip_range.parts, start=clip_range.first):
            if part.size:
                data = bytes((clip_range.segment.number * 16 + index + at) % 251 for at in range(part.size))
                storage.put(f"{ID.folder}/{part_name(clip_range.segment.number, index)}", data, "", "")
                together += data
    return storage, together


class MovieTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ranges = whole_recording(journal(segment(0, 0), segment(1, 6, "k-.k")))
        self.storage, self.media = stored(self.ranges)

    def read(self, movie: Movie, start: int, stop: int) -> bytes:
        return self.successResultOf(Deferred.fromCoroutine(read_all(movie.read(self.storage, start, stop))))

    def test_whole_movie_is_all_parts(self) -> None:
        """A movie is the init segment and all parts, and as long as it says."""
        movie = make_movie(ID, header(), self.ranges, indexed=False)
        self.assertEqual(b"init" + self.media, self.read(movie, 0, movie.size))
        self.assertEqual(len(b"init" + self.media), movie.size)

    def test_every_range_gives_its_bytes(self) -> None:
        """Whatever range is asked for, exactly those bytes come."""
        movie = make_movie(ID, header(), self.ranges, indexed=False)
        whole = b"init" + self.media
        for start in range(0, movie.size, 7):
            for stop in (*range(start + 1, movie.size, 31), movie.size):
                self.assertEqual(whole[start:stop], self.read(movie, start, stop))

    def test_index_of_a_complete_movie(self) -> None:
        """A movie that is complete has its index behind the init segment."""
        movie = make_movie(ID, header(), self.ranges, indexed=True)
        index = write_index(header(), self.ranges)
        self.assertEqual(b"init" + index + self.media, self.read(movie, 0, movie.size))

    def test_gaps_are_left_out(self) -> None:
        """What cannot be played is not sent, and not fetched."""
        ranges = whole_recording(journal(segment(0, 0, "k."), segment(1, 2, "kx."), segment(2, 5, "k")))
        self.storage, _ = stored([ranges[0], ranges[2]])
        movie = make_movie(ID, header(), ranges, indexed=False)
        self.assertEqual(4 + 110 + 100, len(self.read(movie, 0, movie.size)))

    def test_segment_is_its_parts(self) -> None:
        """A segment is its parts, one behind the other."""
        movie = make_segment(ID, self.ranges[0])
        self.assertEqual(self.media[: self.ranges[0].size], self.read(movie, 0, movie.size))

    def test_not_as_long_as_it_was(self) -> None:
        """An object that changed under the journal ends the answer; it is never padded or shifted."""
        key = f"{ID.folder}/{part_name(0, 2)}"
        movie = make_movie(ID, header(), self.ranges, indexed=False)
        self.storage.put(key, b"short", "", "")
        self.failureResultOf(Deferred.fromCoroutine(read_all(movie.read(self.storage, 0, movie.size))), StorageError)
        self.storage.delete(key)
        self.failureResultOf(Deferred.fromCoroutine(read_all(movie.read(self.storage, 0, movie.size))), NotFoundError)


class IndexTests(SynchronousTestCase):
    def test_index_byte_by_byte(self) -> None:
        """The box, byte by byte: an entry for each part, marked where a keyframe begins it."""
        ranges = whole_recording(journal(segment(0, 6, "k."), segment(1, 8, ".")))
        expected = (
            struct.pack(">I4sI", 76, b"sidx", 0x01000000)
            + struct.pack(">IIQQHH", 1, 90_000, 540_000, 0, 0, 3)
            + struct.pack(">III", 100, 90_000, 0x90000000)
            + struct.pack(">III", 10, 90_000, 0) * 2
        )
        self.assertEqual(expected, write_index(header(), ranges))

    def test_holes_count_for_the_part_before(self) -> None:
        """The time up to the next part counts for the one before it, be it silence or a hole."""
        ranges = whole_recording(journal(segment(0, 0, "k--."), segment(1, 60, "k")))
        index = write_index(header(), ranges)
        durations = [struct.unpack_from(">I", index, 44 + 12 * at)[0] // 90_000 for at in range(3)]
        self.assertEqual([3, 57, 1], durations)

    @slow
    def test_too_much_for_a_box(self) -> None:
        """Of more parts than a box can hold there is no index, and of none neither; the movie is as good without."""
        many = whole_recording(journal(*(segment(number, number, "k") for number in range(65_536))))
        self.assertEqual(b"", write_index(header(), many))
        self.assertEqual(40 + 12 * 65_535, len(write_index(header(), many[1:])))
        self.assertEqual(b"", write_index(header(), []))
