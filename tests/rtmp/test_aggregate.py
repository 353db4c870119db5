from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.rtmp.aggregate import read_aggregate
from rapidrtmp.rtmp.chunk import Message
from rapidrtmp.rtmp.message import UnreadableError

#: Audio of three bytes at 1000 ms in message stream 0, video of two at 1040 ms, metadata of one at 1040 ms.
AUDIO = b"\x08\x00\x00\x03\x00\x03\xe8\x00\x00\x00\x00\xaf\x01\x21\x00\x00\x00\x0e"
VIDEO = b"\x09\x00\x00\x02\x00\x04\x10\x00\x00\x00\x00\x17\x01\x00\x00\x00\x0d"
DATA = b"\x12\x00\x00\x01\x00\x04\x10\x00\x00\x00\x00\x05\x00\x00\x00\x0c"
#: As long as data may be.
MOST = 1_000
PARTS = [
    Message(8, 1, 5000, b"\xaf\x01\x21", 4),
    Message(9, 1, 5040, b"\x17\x01", 4),
    Message(18, 1, 5040, b"\x05", 4),
]


def aggregate(payload: bytes, timestamp: int = 5000) -> Message:
    return Message(22, 1, timestamp, payload, 4)


class AggregateTests(SynchronousTestCase):
    """Aggregates, written by hand as FLV tags."""

    def test_whole_aggregate_becomes_messages(self) -> None:
        """Tags become messages whose times start at the aggregate's, on the aggregate's message stream."""
        self.assertEqual(PARTS, list(read_aggregate(aggregate(AUDIO + VIDEO + DATA), MOST)))

    def test_empty_aggregate_is_nothing(self) -> None:
        """An aggregate of nothing is nothing."""
        self.assertEqual([], list(read_aggregate(aggregate(b""), MOST)))

    def test_empty_tag_is_a_message(self) -> None:
        """A tag without data is a message without payload."""
        silence = b"\x08" + bytes(10) + b"\x00\x00\x00\x0b"
        self.assertEqual([Message(8, 1, 5000, b"", 4)] * 2, list(read_aggregate(aggregate(silence * 2), MOST)))

    def test_timestamp_extension_is_highest(self) -> None:
        """The fourth byte of a tag's timestamp is its highest, and sums wrap."""
        late = VIDEO[:4] + b"\x00\x00\x00\x01" + VIDEO[8:]
        early = AUDIO[:4] + b"\xff\xff\xff\x00" + AUDIO[8:]
        self.assertEqual([5000, 5001], [part.timestamp for part in read_aggregate(aggregate(early + late), MOST)])
        wrapping = aggregate(AUDIO + VIDEO, 2**32 - 10)
        self.assertEqual([2**32 - 10, 30], [part.timestamp for part in read_aggregate(wrapping, MOST)])
        backwards = aggregate(VIDEO + AUDIO, 0)
        self.assertEqual([0, 2**32 - 40], [part.timestamp for part in read_aggregate(backwards, MOST)])

    def test_truncated_anywhere_is_said(self) -> None:
        """Cut anywhere, the tags before the cut come out, and a cut within a tag is said; a pointer may be missing."""
        whole = AUDIO + VIDEO
        ends = {0: 0, 14: 1, 15: 1, 16: 1, 17: 1, 18: 1, 31: 2, 32: 2, 33: 2, 34: 2}
        for size in range(len(whole)):
            parts, is_cut = [], False
            try:
                for part in read_aggregate(aggregate(whole[:size]), MOST):
                    parts.append(part)
            except UnreadableError:
                is_cut = True
            self.assertEqual(size not in ends, is_cut, size)
            self.assertEqual(PARTS[: ends.get(size, 0 if size < 14 else 1)], parts, size)

    def test_nested_aggregate_ends_reading(self) -> None:
        """An aggregate within an aggregate, or a command, ends the reading."""
        for type_id in (22, 20, 1):
            parts = read_aggregate(aggregate(AUDIO + bytes([type_id]) + AUDIO[1:] + VIDEO), MOST)
            self.assertEqual(PARTS[0], next(parts))
            with self.assertRaisesRegex(UnreadableError, f"type {type_id}"):
                next(parts)

    def test_long_data_is_refused(self) -> None:
        """Data that would be too long as a message of its own is so in an aggregate, and ends the reading."""
        for size, is_taken in ((MOST, True), (MOST + 1, False)):
            data = b"\x12" + size.to_bytes(3, "big") + bytes(7 + size + 4)
            parts = read_aggregate(aggregate(data + AUDIO), MOST)
            if is_taken:
                self.assertEqual([18, 8], [part.type_id for part in parts])
            else:
                with self.assertRaisesRegex(UnreadableError, "data of 1001 bytes, limit 1000"):
                    next(parts)
