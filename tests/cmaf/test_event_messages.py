"""Event messages and ID3 tags, byte for byte, and on their way through the packager."""

from __future__ import annotations

import struct

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.event_messages import write_event_messages, write_text_tag
from rapidrtmp.cmaf.packager import MOST_METADATA, Packager
from rapidrtmp.interfaces import Cutting, Part
from rapidrtmp.media import ID3_SCHEME, TimedMetadata
from rapidrtmp.testing.frames import FrameSource
from rapidrtmp.testing.sinks import feed
from tests.cmaf.test_packager import AUDIO, VIDEO, PartCollector


def event_fields(box: bytes) -> tuple[int, int, int, list[bytes]]:
    """Timescale, time, duration, and scheme, value and data of an event message (ISO/IEC 23009-1, 5.10.3.3)."""
    size, kind, version, timescale, time, duration, _ = struct.unpack_from(">I4sIIQII", box)
    assert (size, kind, version) == (len(box), b"emsg", 1 << 24)
    return timescale, time, duration, box[32:].split(b"\0", 2)


class EventMessageTests(SynchronousTestCase):
    def test_fields_of_the_box(self) -> None:
        """Times are absolute, in milliseconds; how long it holds is not known."""
        (box,) = write_event_messages([TimedMetadata(5_000_000_000, b"ID3")])
        expected = (1000, 5_000_000_000, 0xFFFFFFFF, [ID3_SCHEME.encode(), b"", b"ID3"])
        self.assertEqual(expected, event_fields(box))

    def test_recordings_begin_at_another_time(self) -> None:
        """Where decode times are moved back, so are these, and none becomes negative."""
        boxes = write_event_messages([TimedMetadata(9_500, b""), TimedMetadata(3_000, b"")], shift_s=4)
        self.assertEqual([5_500, 0], [event_fields(box)[1] for box in boxes])

    def test_repeated_ones_have_one_id(self) -> None:
        """Players tell by the id what they have had: the same again has the same, another has another."""
        metadata = [TimedMetadata(1, b"a"), TimedMetadata(1, b"a"), TimedMetadata(2, b"a"), TimedMetadata(1, b"b")]
        ids = [box[28:32] for box in write_event_messages(metadata)]
        self.assertEqual((ids[0], 3), (ids[1], len(set(ids))))

    def test_tag_of_texts(self) -> None:
        """A tag of version 2.4, with sizes of seven bits to a byte and text in UTF-8."""
        tag = write_text_tag({"onTextData": "ä" * 100})
        body = b"\x03onTextData\0" + "ä".encode() * 100
        frame = b"TXXX" + bytes([0, 0, len(body) >> 7, len(body) & 0x7F]) + b"\0\0" + body
        self.assertEqual(b"ID3\x04\0\0" + bytes([0, 0, len(frame) >> 7, len(frame) & 0x7F]) + frame, tag)


class PackagerMetadataTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sinks = [PartCollector(Cutting(1_000, 200)), PartCollector(Cutting(1_000, 200))]
        self.packager = Packager(*self.sinks)
        self.source = FrameSource(VIDEO, AUDIO, gop=30)
        self.packager.tracks_changed((VIDEO, AUDIO))
        feed(self.packager, self.source.take(2))

    def parts(self, sink: PartCollector) -> list[Part]:
        return [call[1] for call in sink.calls if call[0] == "part_cut"]

    def test_next_part_carries_it(self) -> None:
        """What is said goes with the next part that is cut, to every sink, and once."""
        before = len(self.parts(self.sinks[0]))
        said = TimedMetadata(2_000, b"ID3")
        self.packager.metadata_received(said)
        feed(self.packager, self.source.take(1))
        for sink in self.sinks:
            first, *rest = self.parts(sink)[before:]
            self.assertEqual((said,), first.metadata)
            self.assertEqual({()}, {part.metadata for part in rest})

    def test_memory_is_bounded(self) -> None:
        """However much is said before a part is cut, the newest are kept, so many."""
        for time_ms in range(MOST_METADATA + 10):
            self.packager.metadata_received(TimedMetadata(time_ms, b""))
        before = len(self.parts(self.sinks[0]))
        feed(self.packager, self.source.take(1))
        kept = self.parts(self.sinks[0])[before].metadata
        self.assertEqual((MOST_METADATA, MOST_METADATA + 9), (len(kept), kept[-1].time_ms))
