"""Reading the FLV that a program writes to a pipe."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.flv import PacketKind
from rapidrtmp.errors import MediaError
from rapidrtmp.transcode.flv_reader import FlvReader, VideoTag
from tests.cutting import assert_read_three_ways
from tests.transcode.flv import HEADER, script_tag, video_tag


def new_feed() -> object:
    reader = FlvReader()

    def feed(data: bytes) -> list[VideoTag]:
        reader.receive_data(data)
        return list(reader.events())

    return feed


class FlvReaderTests(SynchronousTestCase):
    def test_tags_as_they_come(self) -> None:
        """However the bytes come, each video tag is read with its time; what else there is is passed over."""
        data = HEADER + script_tag(b"\x02\x00\x0aonMetaData") + video_tag(0x123456 << 4, b"\x17\x01\x00\x00\x00abc")
        reader = FlvReader()
        reader.receive_data(data)
        (expected,) = list(reader.events())
        self.assertEqual((0x123456 << 4, PacketKind.FRAMES, True), (expected[0], *expected[1][1:4:2]))
        behind = video_tag(7, b"\x27\x01\x00\x00\x02def")
        other = FlvReader()
        other.receive_data(HEADER + behind)
        assert_read_three_ways(self, new_feed, data, [expected], behind, list(other.events()))  # type: ignore[arg-type]

    def test_times_of_more_than_24_bits(self) -> None:
        """A time has 31 bits: the fourth byte stands behind the others."""
        reader = FlvReader()
        reader.receive_data(HEADER + video_tag(90_000_000 + (1 << 30), b"\x27\x01\x00\x00\x00x"))
        self.assertEqual([90_000_000 + (1 << 30)], [tag.timestamp_ms for tag in reader.events()])

    def test_garbage_is_refused(self) -> None:
        """What is no FLV is refused with what was found, at once or when the next tag should begin."""
        for garbage in (b"\x00" * 20, b"FLV\x01\x05\xff\xff\xff\xff", HEADER + b"garbage garbage"):
            reader = FlvReader()
            reader.receive_data(garbage)
            error = self.assertRaises(MediaError, list, reader.events())
            self.assertIn("no FLV", str(error))
