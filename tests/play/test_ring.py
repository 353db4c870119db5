"""Tests of `rapidrtmp.play.ring` and `rapidrtmp.play.formats`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.flv_writing import AUDIO_TAG, DATA_TAG, VIDEO_TAG, FlvMessage
from rapidrtmp.play.formats import MOST_CHUNK_BYTES, HttpChunks, RtmpChunks, Tags, WebSocketMessages
from rapidrtmp.play.ring import Batch, Ring
from rapidrtmp.rtmp.chunk import ChunkLimits, ChunkReader, ChunkWriter
from tests.slow import slow


class RingTests(SynchronousTestCase):
    def fill(self, ring: Ring, count: int, gop: int, first: int = 0) -> None:
        """Batches of 10 bytes, 100 ms apart."""
        for number in range(first, first + count):
            ring.add(Batch(b"%010d" % number, number * 100, number % gop == 0))

    def test_old_batches_are_let_go(self) -> None:
        """What is older than is kept, and in front of the newest keyframe, goes."""
        ring = Ring(keep_ms=1000, max_bytes=1 << 20)
        self.fill(ring, 500, gop=5)
        self.assertEqual((489, 500, 495), (ring.first, ring.next, ring.newest_start))
        self.assertEqual([b"0000000497", b"0000000498"], [each.data for each in ring.since(497, 2)])
        self.assertEqual(49_800, ring.timestamp_of(498))
        self.assertEqual(110, ring.size)

    def test_newest_gop_is_kept(self) -> None:
        """All since the newest keyframe is kept, however old that is."""
        ring = Ring(keep_ms=1000, max_bytes=1 << 20)
        self.fill(ring, 300, gop=200)
        self.assertEqual((200, 200), (ring.first, ring.newest_start))

    def test_size_is_bounded(self) -> None:
        """More than the ring may hold goes even so, and players wait for the next keyframe."""
        ring = Ring(keep_ms=1_000_000, max_bytes=100)
        self.fill(ring, 50, gop=1000)
        self.assertEqual((40, None, 100), (ring.first, ring.newest_start, ring.size))
        self.fill(ring, 1, gop=50, first=50)
        self.assertEqual(50, ring.newest_start)

    @slow
    @settings(max_examples=20)
    @given(st.lists(st.tuples(st.integers(0, 300), st.booleans(), st.integers(0, 40)), max_size=300))
    def test_numbers_lead_to_batches(self, added: list[tuple[int, bool, int]]) -> None:
        """Whatever is added, each number that is there leads to its batch."""
        ring, now, batches = Ring(keep_ms=500, max_bytes=1000), 0, []
        for step, is_start, size in added:
            now += step
            batches.append(Batch(bytes(size), now, is_start))
            ring.add(batches[-1])
            self.assertLessEqual(ring.size, 1000)
            self.assertEqual(batches[ring.first :], list(ring.since(ring.first, 10_000)))
            if ring.newest_start is not None:
                self.assertTrue(ring.first <= ring.newest_start < ring.next)


class FormatTests(SynchronousTestCase):
    @settings(max_examples=20)
    @given(
        type_id=st.sampled_from([AUDIO_TAG, VIDEO_TAG, DATA_TAG]),
        timestamp=st.sampled_from([0, 1, 0xFFFFFE, 0xFFFFFF, 0x1000000, 2**31, 2**32 - 1, 2**32 + 5]),
        head=st.binary(max_size=8),
        data=st.sampled_from([b"", b"x", bytes(70_000)]),
    )
    def test_chunks_are_those_of_the_writer(self, type_id: int, timestamp: int, head: bytes, data: bytes) -> None:
        """Each message is one chunk, the very one that the session would send, and is read back."""
        message = FlvMessage(type_id, timestamp, head, data)
        chunk = RtmpChunks(7).message(message)
        csid = {AUDIO_TAG: 4, VIDEO_TAG: 6, DATA_TAG: 5}[type_id]
        self.assertEqual(ChunkWriter(MOST_CHUNK_BYTES).write(csid, timestamp, type_id, 7, head + data), chunk)
        reader = ChunkReader(ChunkLimits())
        reader.receive_data(ChunkWriter().write(2, 0, 1, 0, MOST_CHUNK_BYTES.to_bytes(4, "big")) + chunk)
        *_, read = reader.messages()
        self.assertEqual(
            (type_id, timestamp % 2**32, 7, head + data), (read.type_id, read.timestamp, read.msid, read.payload)
        )

    def test_frames_of_other_protocols(self) -> None:
        """Tags come bare, in chunks of HTTP, or in binary messages of WebSocket in all their lengths."""
        self.assertEqual(b"abc", Tags().batch(b"abc"))
        self.assertEqual(b"3\r\nabc\r\n", HttpChunks().batch(b"abc"))
        messages = WebSocketMessages()
        self.assertEqual(b"\x82\x7d", messages.batch(bytes(125))[:-125])
        self.assertEqual(b"\x82\x7e\x00\x7e", messages.batch(bytes(126))[:-126])
        self.assertEqual(b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", messages.batch(bytes(65_536))[:-65_536])

    def test_equal_formats_are_one(self) -> None:
        """Formats that make the same bytes are equal, others are not."""
        self.assertEqual(RtmpChunks(1), RtmpChunks(1))
        self.assertEqual(4, len({RtmpChunks(1), RtmpChunks(1), Tags(), Tags(), HttpChunks(), WebSocketMessages()}))
