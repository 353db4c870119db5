from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.layout import (
    RecordingId,
    StartNames,
    page_name,
    part_name,
    read_page_name,
    read_part_name,
    read_segment_name,
    segment_name,
)
from rapidrtmp.errors import NotFoundError
from rapidrtmp.names import StreamName
from rapidrtmp.storage.keys import check_key

ID = RecordingId("live", "cam", "20261122T134500Z")


class RecordingIdTests(SynchronousTestCase):
    def test_keys_lie_in_their_folder(self) -> None:
        """A recording's objects lie in its folder, its entry beside all others, where no stream can be called so."""
        self.assertEqual("recordings/live/cam/20261122T134500Z", ID.folder)
        self.assertEqual("recordings/.catalogue/live/cam/20261122T134500Z.json", ID.catalogue_key)
        self.assertEqual("recordings/.catalogue/live/cam/20261122T134500Z.protected", ID.protection_key)
        for key in (ID.folder, ID.catalogue_key, ID.protection_key):
            check_key(key)

    def test_start_names_the_second(self) -> None:
        """The name tells the second in which it began."""
        self.assertEqual(1_795_355_100_000, ID.start_ms)

    def test_what_strangers_send(self) -> None:
        """Names that can be no recording's are not found, whatever they try."""
        self.assertEqual(ID, RecordingId.checked(*ID))
        for bad in (
            ("..", "cam", ID.start),
            ("live", "..", ID.start),
            (".catalogue", "live", ID.start),
            ("live", "cam", ".."),
            ("live", "cam", "20261122T134500Z\n"),
            ("live", "cam", "２０２６1122T134500Z"),
        ):
            self.assertRaises(NotFoundError, RecordingId.checked, *bad)


class StartNamesTests(SynchronousTestCase):
    def test_start_names_are_unique(self) -> None:
        """Two recordings of a stream never share a name; other streams do not matter."""
        names, stream = StartNames(), StreamName("live", "cam")
        starts = [names.take(stream, ID.start_ms + more).start for more in (0, 999, 500, 10_000)]
        self.assertEqual(
            ["20261122T134500Z", "20261122T134501Z", "20261122T134502Z", "20261122T134510Z"],
            starts,
        )
        self.assertEqual(ID.start, names.take(StreamName("live", "other"), ID.start_ms).start)

    def test_known_recordings_are_not_named(self) -> None:
        """No recording that an earlier process made is named again, wherever the clock stands."""
        names, stream = StartNames(), StreamName("live", "cam")
        names.learn([ID, ID._replace(start="20261122T134501Z"), ID._replace(start="20261122T134503Z")])
        starts = [names.take(stream, ID.start_ms + more).start for more in (0, 0, -1000)]
        self.assertEqual(["20261122T134502Z", "20261122T134504Z", "20261122T134459Z"], starts)


class NameTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        """Every name reads back as what it was made of, and as nothing else."""
        self.assertEqual((17, 3), read_part_name(part_name(17, 3)))
        self.assertEqual(17, read_segment_name(segment_name(17)))
        self.assertEqual(17, read_page_name(page_name(17)))
        for read in (read_part_name, read_segment_name, read_page_name):
            self.assertIsNone(read("init.mp4"))
            self.assertIsNone(read("../part_00000001_000.m4s"))
        self.assertIsNone(read_part_name(segment_name(17)))

    def test_order_of_sorted_names(self) -> None:
        """Sorted names are in the order of the media."""
        order = [(0, 0), (0, 1), (0, 10), (1, 0), (9, 999), (10, 0), (99_999_999, 0)]
        names = [part_name(*each) for each in order]
        self.assertEqual(names, sorted(names))
