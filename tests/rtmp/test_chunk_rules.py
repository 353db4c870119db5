"""Every rule of the chunk layer, held by the plain reader and, in the last class, by the fast one."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.rtmp.chunk_limits import ChunkLimits
from rapidrtmp.rtmp.chunk_rules import Message, PlainChunkReader, read_basic_header
from rapidrtmp.rtmp.chunk_span import ChunkReader
from tests.cutting import assert_read_three_ways, fed, in_pieces
from tests.rtmp.chunks import fmt0, fmt1, fmt2, fmt3, new_feed, set_chunk_size

NEXT = fmt0(5, 77, 2, 18, 1, b"ok")
NEXT_MESSAGE = Message(18, 1, 77, b"ok", 5)


class BasicHeaderTests(SynchronousTestCase):
    """The one, two or three bytes that every chunk begins with."""

    def test_one_byte_for_low_streams(self) -> None:
        """Chunk streams 2 to 63 stand in the first byte."""
        self.assertEqual((0, 2, 1), read_basic_header(b"\x02", 0))
        self.assertEqual((3, 63, 2), read_basic_header(b"?\xff", 1))

    def test_two_bytes_for_middle_streams(self) -> None:
        """Chunk streams 64 to 319 stand in a second byte."""
        self.assertEqual((1, 64, 2), read_basic_header(b"\x40\x00", 0))
        self.assertEqual((2, 319, 2), read_basic_header(b"\x80\xff", 0))

    def test_three_bytes_for_high_streams(self) -> None:
        """Chunk streams up to 65599 stand in two more bytes, the low one first."""
        self.assertEqual((0, 320, 3), read_basic_header(b"\x01\x00\x01", 0))
        self.assertEqual((3, 65599, 3), read_basic_header(b"\xc1\xff\xff", 0))

    def test_cut_short_header_asks_more(self) -> None:
        """A header that is not all there asks for more."""
        for cut in (b"", b"\x00", b"\x01", b"\x01\x00"):
            self.assertIsNone(read_basic_header(cut, 0))


class RuleTests(SynchronousTestCase):
    """What chunks mean."""

    reader_class: type[PlainChunkReader] = PlainChunkReader

    def assert_read(self, sent: bytes, *expected: Message, chunk_size: int = 128) -> None:
        """Hold the reader to ``expected``, three ways."""

        def feed_of_new():  # type: ignore[no-untyped-def]
            reader = self.reader_class()
            reader.chunk_size = chunk_size
            return new_feed(reader)

        assert_read_three_ways(self, feed_of_new, sent, list(expected), NEXT, [NEXT_MESSAGE])

    def assert_refused(self, sent: bytes, reason: str, *before: Message, limits: ChunkLimits | None = None) -> None:
        """Hold the reader to ``before`` and then a failure, at once and for ever, whole and byte by byte."""
        for size in (len(sent), 1):
            reader = self.reader_class(limits or ChunkLimits())
            seen = []
            with self.assertRaisesRegex(PeerProtocolError, reason):
                for piece in in_pieces(sent, size):
                    reader.receive_data(piece)
                    for message in reader.messages():
                        seen.append(message)
            self.assertEqual(list(before), seen)
            reader.receive_data(NEXT)
            with self.assertRaisesRegex(PeerProtocolError, reason):
                list(reader.messages())

    # ── headers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_chunk_streams_of_every_size(self) -> None:
        """Every size of chunk stream id carries messages of one chunk and of several."""
        for csid in (2, 63, 64, 319, 320, 65599):
            chunks = fmt0(csid, 9, 130, 9, 1, b"v" * 128) + fmt3(csid, b"vv") + fmt1(csid, 1, 1, 8, b"a")
            self.assert_read(chunks, Message(9, 1, 9, b"v" * 130, csid), Message(8, 1, 10, b"a", csid))

    def test_one_chunk_stream_in_two_spellings(self) -> None:
        """A chunk stream id written longer than need be is the same chunk stream."""
        chunks = fmt0(64, 5, 1, 9, 1, b"a") + b"\x41\x00\x00" + fmt1(2, 3, 1, 9, b"b")[1:]
        self.assert_read(chunks, Message(9, 1, 5, b"a", 64), Message(9, 1, 8, b"b", 64))

    def test_inheritance_of_header_fields(self) -> None:
        """Each header format takes what it leaves out from the one before."""
        chunks = (
            fmt0(6, 1000, 2, 9, 0x01020304, b"aa")
            + fmt1(6, 40, 3, 8, b"bbb")
            + fmt2(6, 7, b"ccc")
            + fmt3(6, b"ddd")
            + fmt0(6, 5, 1, 9, 2, b"e")
        )
        self.assert_read(
            chunks,
            Message(9, 0x01020304, 1000, b"aa", 6),
            Message(8, 0x01020304, 1040, b"bbb", 6),
            Message(8, 0x01020304, 1047, b"ccc", 6),
            Message(8, 0x01020304, 1054, b"ddd", 6),
            Message(9, 2, 5, b"e", 6),
        )

    def test_message_begun_by_fmt3_after_fmt0(self) -> None:
        """After a full header, fmt 3 adds the absolute timestamp once more: 26 becomes 52."""
        chunks = fmt0(4, 26, 1, 8, 1, b"a") + fmt3(4, b"b")
        self.assert_read(chunks, Message(8, 1, 26, b"a", 4), Message(8, 1, 52, b"b", 4))

    def test_delta_backwards_modulo_32_bits(self) -> None:
        """Deltas add modulo 2**32, so an extended delta of 0xFFFFFFFB steps back by five."""
        chunks = fmt0(4, 100, 1, 8, 1, b"a") + fmt1(4, 0xFFFFFFFB, 1, 8, b"b") + fmt1(4, 5, 1, 8, b"c")
        self.assert_read(chunks, *(Message(8, 1, at, data, 4) for at, data in ((100, b"a"), (95, b"b"), (100, b"c"))))

    def test_clock_wraps_to_zero(self) -> None:
        """A delta past 2**32 milliseconds continues from 0."""
        chunks = fmt0(4, 0xFFFFFFFF, 1, 8, 1, b"a") + fmt1(4, 23, 1, 8, b"b")
        self.assert_read(chunks, Message(8, 1, 0xFFFFFFFF, b"a", 4), Message(8, 1, 22, b"b", 4))

    def test_fmt1_on_fresh_chunk_stream(self) -> None:
        """librtmp begins its control replies with fmt 1: the message stream is 0 and the delta counts from 0."""
        self.assert_read(fmt1(2, 12, 6, 4, b"\0\x07\0\0\0\1"), Message(4, 0, 12, b"\0\x07\0\0\0\1", 2))

    def test_fmt2_and_fmt3_on_fresh_chunk_stream(self) -> None:
        """What a header leaves out reads as zeros on a chunk stream that was never used: an empty message of type 0."""
        self.assert_read(fmt2(6, 7) + NEXT, Message(0, 0, 7, b"", 6), NEXT_MESSAGE)
        self.assert_read(fmt3(6) + NEXT, Message(0, 0, 0, b"", 6), NEXT_MESSAGE)

    def test_empty_messages_are_complete(self) -> None:
        """A message of length 0 is complete with its header, also when fmt 3 repeats it."""
        chunks = fmt0(4, 10, 0, 8, 1) + fmt1(4, 5, 0, 9) + fmt3(4)
        self.assert_read(chunks, Message(8, 1, 10, b"", 4), Message(9, 1, 15, b"", 4), Message(9, 1, 20, b"", 4))

    # ── reassembly ───────────────────────────────────────────────────────────────────────────────────────────────────

    def test_interleaving_by_their_ends(self) -> None:
        """Messages on different chunk streams overlap, and come out in the order of their ends."""
        chunks = (
            fmt0(6, 40, 300, 9, 1, b"1" * 128)
            + fmt0(4, 41, 200, 8, 1, b"a" * 128)
            + fmt3(6, b"2" * 128)
            + fmt3(4, b"b" * 72)
            + fmt3(6, b"3" * 44)
        )
        video = b"1" * 128 + b"2" * 128 + b"3" * 44
        self.assert_read(chunks, Message(8, 1, 41, b"a" * 128 + b"b" * 72, 4), Message(9, 1, 40, video, 6))

    def test_chunk_size_exactly_met(self) -> None:
        """A message as long as a chunk, or two, has no continuation that is empty."""
        chunks = fmt0(6, 1, 128, 9, 1, b"x" * 128) + fmt1(6, 1, 256, 9, b"y" * 128) + fmt3(6, b"z" * 128)
        self.assert_read(chunks, Message(9, 1, 1, b"x" * 128, 6), Message(9, 1, 2, b"y" * 128 + b"z" * 128, 6))

    def test_header_in_mid_message_that_changes_nothing(self) -> None:
        """A continuation with a fmt 1 or fmt 2 header is one if it says nothing new; its delta does not count."""
        chunks = (
            fmt0(6, 40, 400, 9, 1, b"1" * 128)
            + fmt1(6, 33, 400, 9, b"2" * 128)
            + fmt2(6, 0x1000000, b"3" * 128)
            + fmt3(6, b"4" * 16)
            + fmt2(6, 1, b"5" * 128)
            + fmt3(6, b"5" * 128) * 2
            + fmt3(6, b"5" * 16)
        )
        first = b"1" * 128 + b"2" * 128 + b"3" * 128 + b"4" * 16
        self.assert_read(chunks, Message(9, 1, 40, first, 6), Message(9, 1, 41, b"5" * 400, 6))

    def test_another_message_in_mid_message(self) -> None:
        """A header that begins a message while the last one lacks bytes breaks the connection."""
        begun = fmt0(6, 40, 300, 9, 1, b"1" * 128)
        self.assert_refused(begun + fmt0(6, 40, 300, 9, 1), "csid 6: fmt 0 with 172 bytes of a message still to come")
        self.assert_refused(begun + fmt1(6, 0, 301, 9), "csid 6: another message with 172 bytes of one still to come")
        self.assert_refused(begun + fmt1(6, 0, 300, 8), "csid 6: another message")

    # ── extended timestamps ──────────────────────────────────────────────────────────────────────────────────────────

    def test_extended_timestamps_behind_the_header(self) -> None:
        """From 0xFFFFFF ms on the timestamp stands behind the header; a delta below that does not."""
        chunks = fmt0(6, 0xFFFFFE, 1, 9, 1, b"a")
        expected = [Message(9, 1, 0xFFFFFE, b"a", 6)]
        for timestamp in (0xFFFFFF, 0x1000000, 0x1000001):
            chunks += fmt0(6, timestamp, 1, 9, 1, b"b")
            expected.append(Message(9, 1, timestamp, b"b", 6))
        chunks += fmt1(6, 33, 1, 9, b"c")
        self.assert_read(chunks, *expected, Message(9, 1, 0x1000022, b"c", 6))

    def test_repeated_on_continuations(self) -> None:
        """Continuations may repeat the extended timestamp, as the specification wants."""
        timestamp = 0x01000001
        chunks = fmt0(6, timestamp, 300, 9, 1, b"1" * 128)
        chunks += fmt3(6, b"2" * 128, timestamp) + fmt3(6, b"3" * 44, timestamp)
        self.assert_read(chunks, Message(9, 1, timestamp, b"1" * 128 + b"2" * 128 + b"3" * 44, 6))

    def test_absolute_timestamp_repeated(self) -> None:
        """After an extended delta, continuations may repeat the delta or the message's own timestamp."""
        for repeated in (0x02000000, 0x03000000):
            chunks = fmt0(6, 0x01000000, 1, 9, 1, b"a") + fmt1(6, 0x02000000, 130, 9, b"1" * 128)
            chunks += fmt3(6, b"22", repeated)
            expected = Message(9, 1, 0x03000000, b"1" * 128 + b"22", 6)
            self.assert_read(chunks, Message(9, 1, 0x01000000, b"a", 6), expected)

    def test_not_repeated_on_continuations(self) -> None:
        """Continuations may leave the extended timestamp out, as librtmp does, down to a last chunk of one byte."""
        timestamp = 0x01000001
        for tail in (b"2", b"23", b"\x01\x01", b"\x02\0\0\1", b"234567"):
            chunks = fmt0(6, timestamp, 128 + len(tail), 9, 1, b"1" * 128) + fmt3(6, tail)
            self.assert_read(chunks, Message(9, 1, timestamp, b"1" * 128 + tail, 6))

    def test_payload_like_the_beginning_of_a_timestamp(self) -> None:
        """Payload that begins as the timestamp would is distinguished by the bytes behind it."""
        chunks = fmt0(6, 0x01000001, 130, 9, 1, b"1" * 128) + fmt3(6, b"\x01\x00")
        seen = fed(new_feed(self.reader_class()), [chunks, NEXT])
        self.assertEqual([Message(9, 1, 0x01000001, b"1" * 128 + b"\x01\x00", 6), NEXT_MESSAGE], seen)

    def test_message_begun_by_fmt3_with_extended_timestamp(self) -> None:
        """A fmt 3 that begins a message always carries the extended field, and adds what that says."""
        chunks = fmt0(6, 5, 1, 9, 1, b"a") + fmt1(6, 0x01000000, 1, 9, b"b") + fmt3(6, b"c", 0x01000002)
        expected = ((5, b"a"), (0x01000005, b"b"), (0x02000007, b"c"))
        self.assert_read(chunks, *(Message(9, 1, at, data, 6) for at, data in expected))

    # ── protocol control ─────────────────────────────────────────────────────────────────────────────────────────────

    def test_set_chunk_size(self) -> None:
        """A new chunk size holds from the next chunk on, also for a message that has begun, and is reported."""
        chunks = (
            fmt0(6, 40, 300, 9, 1, b"1" * 128)
            + set_chunk_size(150)
            + fmt3(6, b"2" * 150)
            + set_chunk_size(1)
            + fmt3(6, b"3") * 22
            # Chunks of one byte cut up the very message that ends them.
            + fmt0(2, 0, 4, 1, 0, b"\0")
            + fmt3(2, b"\0")
            + fmt3(2, b"\x10")
            + fmt3(2, b"\0")
        )
        self.assert_read(
            chunks,
            Message(1, 0, 0, (150).to_bytes(4, "big"), 2),
            Message(1, 0, 0, (1).to_bytes(4, "big"), 2),
            Message(9, 1, 40, b"1" * 128 + b"2" * 150 + b"3" * 22, 6),
            Message(1, 0, 0, (4096).to_bytes(4, "big"), 2),
        )

    def test_chunk_size_kept(self) -> None:
        """The chunk size in force can be asked for; a huge one means the longest message there can be."""
        reader = self.reader_class()
        self.assertEqual(128, reader.chunk_size)
        list(new_feed(reader)(set_chunk_size(4096)))
        self.assertEqual(4096, reader.chunk_size)
        list(new_feed(reader)(set_chunk_size(0x7FFFFFFF)))
        self.assertEqual(0xFFFFFF, reader.chunk_size)

    def test_impossible_chunk_size(self) -> None:
        """A chunk size of 0, or with the top bit set, or cut short, breaks the connection."""
        self.assert_refused(set_chunk_size(0), "Set Chunk Size to 0, not 1..2147483647")
        self.assert_refused(set_chunk_size(0x80000000), "Set Chunk Size to 2147483648")
        self.assert_refused(NEXT + fmt0(2, 0, 3, 1, 0, b"\0\x10\0"), "Set Chunk Size of 3 bytes", NEXT_MESSAGE)

    def test_abort_drops_a_message(self) -> None:
        """Abort drops a message that has begun; the next chunk begins another, with the old header to lean on."""
        abort = fmt0(2, 0, 4, 2, 0, (6).to_bytes(4, "big"))
        chunks = fmt0(6, 40, 130, 9, 1, b"1" * 128) + abort + fmt3(6, b"2" * 128) + fmt3(6, b"22")
        self.assert_read(chunks, Message(2, 0, 0, b"\0\0\0\6", 2), Message(9, 1, 80, b"2" * 130, 6))

    def test_abort_without_message(self) -> None:
        """Abort for a chunk stream that is idle, or unknown, changes nothing; one cut short breaks the connection."""
        chunks = NEXT + fmt0(2, 0, 4, 2, 0, b"\0\0\0\5") + fmt3(2, b"\0\0\1\0") + fmt3(5, b"no")
        idle, unknown = Message(2, 0, 0, b"\0\0\0\5", 2), Message(2, 0, 0, b"\0\0\1\0", 2)
        self.assert_read(chunks, NEXT_MESSAGE, idle, unknown, Message(18, 1, 154, b"no", 5))
        self.assert_refused(fmt0(2, 0, 1, 2, 0, b"\6"), "Abort of 1 bytes, 4 needed")

    # ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_length_limits_before_payload(self) -> None:
        """Media and other messages have limits of their own, which count before any payload is there."""
        limits = ChunkLimits(max_media_bytes=20, max_command_bytes=10)
        for type_id, limit in ((8, 20), (9, 20), (22, 20), (20, 10), (18, 10), (1, 10), (77, 10)):
            refused = f"csid 6: message of {limit + 1} bytes .type {type_id}., limit {limit}$"
            self.assert_refused(fmt0(6, 0, limit + 1, type_id, 1), refused, limits=limits)
            reader = self.reader_class(limits)
            self.assertEqual([], list(new_feed(reader)(fmt0(6, 0, limit, type_id, 1, b"x"))))

    def test_length_bomb_is_refused(self) -> None:
        """A message announced as 16 MiB is refused by its header alone."""
        self.assert_refused(NEXT + fmt0(6, 0, 0xFFFFFF, 9, 1), "16777215 bytes .type 9., limit 10485760", NEXT_MESSAGE)

    def test_limits_replaced_for_trusted_peers(self) -> None:
        """Limits can be raised once a peer is trusted, and count from the next header on."""
        reader = self.reader_class(ChunkLimits.unauthorised())
        reader.chunk_size = 0xFFFFFF
        reader.limits = ChunkLimits()
        message = fmt0(6, 0, 70_000, 9, 1, bytes(70_000))
        self.assertEqual([Message(9, 1, 0, bytes(70_000), 6)], list(new_feed(reader)(message)))
        reader.limits = ChunkLimits.unauthorised()
        with self.assertRaisesRegex(PeerProtocolError, "message of 70000 bytes .type 9., limit 65536"):
            list(new_feed(reader)(fmt1(6, 0, 70_000, 9, bytes(70_000))))

    def test_chunk_streams_limit(self) -> None:
        """One chunk stream more than the limit breaks the connection; those in use continue."""
        limits = ChunkLimits(max_chunk_streams=2)
        used = fmt0(4, 0, 1, 8, 1, b"a") + fmt0(300, 0, 1, 9, 1, b"v") + fmt1(4, 1, 1, 8, b"b")
        messages = [Message(8, 1, 0, b"a", 4), Message(9, 1, 0, b"v", 300), Message(8, 1, 1, b"b", 4)]
        self.assert_refused(used + fmt0(5, 0, 1, 8, 1, b"c"), "csid 5: .* limit, 2$", *messages, limits=limits)

    def test_partial_limit_counts_what_came(self) -> None:
        """All incomplete messages together have a limit, which counts what came, not what was announced."""
        limits = ChunkLimits(max_partial_bytes=300)
        begun = fmt0(4, 0, 10_000, 9, 1, b"a" * 128) + fmt0(5, 0, 10_000, 9, 1, b"b" * 128)
        abort = fmt0(2, 0, 4, 2, 0, b"\0\0\0\4")
        aborted = Message(2, 0, 0, b"\0\0\0\4", 2)
        reason = "more than 300 bytes of incomplete messages"
        self.assert_refused(begun + fmt3(4, b"c" * 45), reason, limits=limits)
        self.assert_refused(begun + abort + fmt3(5, b"d" * 128) + fmt3(5, b"d" * 45), reason, aborted, limits=limits)
        self.assert_refused(begun + fmt0(6, 0, 45, 8, 1, b"e" * 45), reason, limits=limits)
        reader = self.reader_class(limits)
        self.assertEqual([aborted], list(new_feed(reader)(begun + abort + fmt3(5, b"d" * 128))))
        self.assertEqual(256, reader.held_bytes)

    def test_partial_limit_for_whole_message(self) -> None:
        """A message that arrives whole counts like any other while others are incomplete."""
        feed = new_feed(self.reader_class(ChunkLimits(max_partial_bytes=300)))
        known, begun = fmt0(6, 0, 1, 8, 1, b"k"), fmt0(4, 0, 10_000, 9, 1, b"a" * 128)
        self.assertEqual([Message(8, 1, 0, b"k", 6)], list(feed(known + begun)))
        self.assertEqual([Message(8, 1, 0, b"e" * 128, 6)], list(feed(fmt1(6, 0, 128, 8, b"e" * 128))))
        whole = fmt1(6, 0, 173, 8, b"e" * 128) + fmt3(6, b"e" * 45)
        with self.assertRaisesRegex(PeerProtocolError, "more than 300 bytes of incomplete messages"):
            list(feed(whole))

    def test_stops_among_tiny_chunks(self) -> None:
        """Where hundreds of chunks complete no message, reading can stop; nothing is lost by it."""
        reader = self.reader_class()
        reader.receive_data(set_chunk_size(1) + fmt0(6, 0, 2_000, 9, 1) + fmt3(6).join(in_pieces(bytes(2_000), 1)))
        seen = [message.type_id for message in reader.messages()]
        self.assertEqual([1, *[-1] * 15, 9], seen)

    def test_tiny_chunks_are_bounded(self) -> None:
        """Chunks below 128 bytes are for messages of up to 64 KiB, whichever came first."""
        small, tiny = set_chunk_size(127), Message(1, 0, 0, b"\0\0\0\x7f", 2)
        self.assert_refused(small + fmt0(6, 0, 65_537, 9, 1), "65537 bytes in chunks of 127, at least 128", tiny)
        begun = fmt0(6, 0, 65_537, 9, 1, b"x" * 128) + small + fmt3(6)
        self.assert_refused(begun, "65537 bytes in chunks of 127, at least 128", tiny)
        limits, known = ChunkLimits(min_chunk_size=129, max_small_bytes=200), fmt0(6, 0, 1, 8, 1, b"k")
        long = fmt1(6, 0, 201, 9, b"x" * 128) + fmt3(6, b"x" * 73)
        self.assert_refused(known + long, "201 bytes in chunks of 128", Message(8, 1, 0, b"k", 6), limits=limits)
        wire = fmt0(6, 0, 65_536, 9, 1) + fmt3(6).join(in_pieces(bytes(65_536), 127))
        seen = fed(new_feed(self.reader_class()), [small + wire])
        self.assertEqual([tiny, Message(9, 1, 0, bytes(65_536), 6)], seen)

    # ── pulling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_pulled_one_by_one(self) -> None:
        """A reader that is left in the middle continues where it was, with what has come since."""
        reader = self.reader_class()
        reader.receive_data(NEXT + NEXT)
        self.assertEqual(NEXT_MESSAGE, next(reader.messages()))
        reader.receive_data(NEXT[:5])
        reader.receive_data(NEXT[5:])
        self.assertEqual([NEXT_MESSAGE, NEXT_MESSAGE], list(reader.messages()))
        self.assertEqual([], list(reader.messages()))

    def test_pieces_are_read_once(self) -> None:
        """However small the pieces of a long message, nothing but a cut header is kept to be looked at again."""
        reader = self.reader_class()
        reader.chunk_size = 4096
        chunks = fmt0(6, 0x01020304, 300_000, 9, 1) + fmt3(6, b"", 0x01020304).join(in_pieces(bytes(300_000), 4096))
        feed = new_feed(reader)
        received = 0
        for piece in in_pieces(chunks, 23):
            if list(feed(piece)):
                break
            received += len(piece)
            self.assertLessEqual(reader.unread_bytes, 18)
            self.assertLessEqual(reader.held_bytes, received)
        self.assertEqual(0, reader.held_bytes)
        self.assertEqual(len(chunks), received + len(piece))


class FastReaderRuleTests(RuleTests):
    """The same rules, kept by the reader that takes whole spans."""

    reader_class = ChunkReader
