"""Chunks as written: by hand from the specification, and read back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import MisuseError
from rapidrtmp.rtmp.chunk import ChunkReader, ChunkWriter, Message
from rapidrtmp.rtmp.chunk_rules import PlainChunkReader
from rapidrtmp.rtmp.chunk_writer import write_basic_header


class BasicHeaderTests(SynchronousTestCase):
    """The one, two or three bytes that every chunk begins with."""

    def test_sizes_of_chunk_stream_ids(self) -> None:
        """A chunk stream id takes the fewest bytes that hold it."""
        for csid, data in (
            (2, b"\xc2"),
            (63, b"\xff"),
            (64, b"\xc0\x00"),
            (319, b"\xc0\xff"),
            (320, b"\xc1\x00\x01"),
            (65599, b"\xc1\xff\xff"),
        ):
            self.assertEqual(data, write_basic_header(3, csid))
        self.assertEqual(b"\x03", write_basic_header(0, 3))

    def test_bounds_of_chunk_stream_ids(self) -> None:
        """There is no chunk stream below 2 or above 65599."""
        for csid in (0, 1, -1, 65600):
            with self.assertRaisesRegex(MisuseError, f"csid {csid}, not 2..65599"):
                write_basic_header(0, csid)


class ChunkWriterTests(SynchronousTestCase):
    """Whole messages."""

    def test_one_chunk_has_a_full_header(self) -> None:
        """A message has a full header, its message stream id the low byte first."""
        data = ChunkWriter().write(3, 0x010203, 20, 0x0A0B0C0D, b"body")
        self.assertEqual(b"\x03\x01\x02\x03\x00\x00\x04\x14\x0d\x0c\x0b\x0abody", data)

    def test_empty_message_is_a_header(self) -> None:
        """A message without payload is a header."""
        self.assertEqual(b"\x04" + bytes(6) + b"\x08\x01\0\0\0", ChunkWriter().write(4, 0, 8, 1, b""))

    def test_chunk_size_divides_messages(self) -> None:
        """A message longer than the chunk size, 128 until it is changed, continues in chunks with one-byte headers."""
        writer = ChunkWriter()
        header = b"\x06\0\0\x01\0\0\x82\x09\x01\0\0\0"
        self.assertEqual(header + b"v" * 128 + b"\xc6" + b"v" * 2, writer.write(6, 1, 9, 1, b"v" * 130))
        writer.chunk_size = 65
        self.assertEqual(header + b"v" * 65 + b"\xc6" + b"v" * 65, writer.write(6, 1, 9, 1, b"v" * 130))

    def test_extended_timestamp_is_repeated(self) -> None:
        """From 0xFFFFFF on the timestamp stands behind the header, and is repeated on every continuation."""
        writer = ChunkWriter(2)
        self.assertEqual(b"\x06\xff\xff\xfe\0\0\1\x09\1\0\0\0v", writer.write(6, 0xFFFFFE, 9, 1, b"v"))
        extended = b"\0\xff\xff\xff"
        expected = b"\x06\xff\xff\xff\0\0\3\x09\1\0\0\0" + extended + b"vv\xc6" + extended + b"v"
        self.assertEqual(expected, writer.write(6, 0xFFFFFF, 9, 1, b"vvv"))

    def test_clock_wraps_modulo_32_bits(self) -> None:
        """Timestamps are taken modulo 2**32."""
        writer = ChunkWriter()
        self.assertEqual(writer.write(6, 5, 9, 1, b"v"), writer.write(6, 2**32 + 5, 9, 1, b"v"))

    def test_too_long_is_our_mistake(self) -> None:
        """A message that its length field cannot tell is our own mistake."""
        with self.assertRaisesRegex(MisuseError, "message of 16777216 bytes, limit 16777215"):
            ChunkWriter().write(6, 0, 9, 1, bytes(0x1000000))

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([2, 63, 64, 319, 320, 65599]),
                st.sampled_from([0, 1, 0xFFFFFE, 0xFFFFFF, 0x1000000, 0xFFFFFFFF]),
                st.sampled_from([4, 8, 9, 18, 20]),
                st.integers(0, 2**32 - 1),
                st.binary(max_size=40),
            ),
            max_size=5,
        ),
        st.integers(1, 50),
    )
    def test_written_chunks_read_back(self, sent: list[tuple[int, int, int, int, bytes]], chunk_size: int) -> None:
        """What is written is what both readers read, at any chunk size."""
        writer = ChunkWriter(chunk_size)
        wire = b"".join(writer.write(*message) for message in sent)
        expected = [Message(type_id, msid, timestamp, body, csid) for csid, timestamp, type_id, msid, body in sent]
        for reader in (PlainChunkReader(), ChunkReader()):
            reader.chunk_size = chunk_size
            reader.receive_data(wire)
            self.assertEqual(expected, list(reader.messages()))
