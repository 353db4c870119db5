"""The fast reader is the plain reader: the same messages, failures and memory, at every cut of anything."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.rtmp.chunk import ChunkReader
from rapidrtmp.rtmp.chunk_limits import ChunkLimits
from rapidrtmp.rtmp.chunk_rules import ChunkStream, Message, PlainChunkReader
from tests.cutting import fed, in_pieces
from tests.plain import plain_only
from tests.rtmp.chunks import fmt0, fmt1, fmt2, fmt3, messages_of, new_feed, set_chunk_size
from tests.slow import slow

CHUNK_SIZES = [1, 64, 127, 128, 129, 200, 256, 1000, 4096, 60000]
LENGTHS = st.sampled_from([0, 1, 2, 127, 128, 129, 255, 256, 257, 258, 600, 1000, 4096, 4097, 9000])
TIMES = st.sampled_from([0, 1, 23, 33, 0xFFFFFE, 0xFFFFFF, 0x1000000, 0xC6C6C6C6, 0xFFFFFFF0])


@dataclass
class Sent:
    """One message being written, chunk by chunk, as the generated sender does it."""

    csid: int
    fmt: int
    time: int
    type_id: int
    payload: bytes
    repeats_time: bool
    sent: int = 0

    def next_chunk(self, size: int) -> bytes:
        """The next chunk of it, at most ``size`` bytes."""
        first, payload = self.sent == 0, self.payload[self.sent : self.sent + size]
        self.sent += len(payload)
        if not first:
            return fmt3(self.csid, payload, self.time if self.time >= 0xFFFFFF and self.repeats_time else None)
        if self.fmt == 0:
            return fmt0(self.csid, self.time, len(self.payload), self.type_id, 1, payload)
        if self.fmt == 1:
            return fmt1(self.csid, self.time, len(self.payload), self.type_id, payload)
        return fmt2(self.csid, self.time, payload) if self.fmt == 2 else fmt3(self.csid, payload)


@st.composite
def sent_messages(draw: st.DrawFn) -> Sent:
    """A message of any kind; its payload may be nothing but bytes that look like continuation headers."""
    csid = draw(st.sampled_from([3, 4, 6, 6, 6, 63, 64, 400]))
    fill = draw(st.sampled_from([0x00, 0xC4, 0xC6, 0x46, 0xFF]))
    return Sent(
        csid=csid,
        fmt=draw(st.sampled_from([0, 0, 1, 1, 1, 2, 3])),
        time=draw(TIMES),
        type_id=draw(st.sampled_from([8, 9, 9, 9, 18, 22])),
        payload=bytes([fill]) * draw(LENGTHS),
        repeats_time=draw(st.booleans()),
    )


@st.composite
def wires(draw: st.DrawFn) -> bytes:
    """Chunks of several messages, interleaved, with changes of the chunk size and, now and then, one wrong byte."""
    waiting = draw(st.lists(sent_messages(), min_size=1, max_size=8))
    size = draw(st.sampled_from(CHUNK_SIZES))
    wire = bytearray(set_chunk_size(size))
    turns = draw(st.lists(st.integers(0, 40), max_size=60))
    for turn in turns + [0] * 12:
        if not waiting:
            break
        if turn >= len(CHUNK_SIZES) * 3:  # mostly keep on with a message, sometimes for several chunks
            sender = waiting[turn % len(waiting)]
        elif turn < len(CHUNK_SIZES) and turn % 3 == 1 and size > 4:
            size = CHUNK_SIZES[turn]
            wire += set_chunk_size(size)
            continue
        else:
            sender = waiting[0]
        for _ in range(1 + turn % 4):
            wire += sender.next_chunk(size)
            if sender.sent >= len(sender.payload):
                waiting.remove(sender)
                break
    if draw(st.booleans()):
        at = draw(st.integers(0, len(wire) - 1))
        wire[at] = draw(st.sampled_from([0, 2, 0xFF, 0xC6, 0x46, 0x06, wire[at] ^ 1, wire[at] ^ 0x80]))
    return bytes(wire)


LIMITS = st.sampled_from(
    [
        ChunkLimits(),
        ChunkLimits(max_media_bytes=4096, max_chunk_streams=3),
        ChunkLimits(max_partial_bytes=1000),
        ChunkLimits(max_partial_bytes=700, min_chunk_size=200, max_small_bytes=256),
    ]
)
PIECE_SIZES = st.sampled_from([1, 2, 7, 23, 128, 129, 200, 1448, 10_000_000])


def outcome(reader: PlainChunkReader, pieces: list[bytes]) -> list[tuple[list[Message], str, int, int]]:
    """For each piece: the messages, the failure's words, bytes unread and bytes held."""
    seen = []
    for piece in pieces:
        reader.receive_data(piece)
        messages, failure = [], ""
        try:
            for message in messages_of(reader):
                messages.append(message)
        except PeerProtocolError as error:
            failure = str(error)
        # After a failure nothing more is read, and where each reader stopped is its own affair.
        seen.append((messages, failure, *((0, 0) if failure else (reader.unread_bytes, reader.held_bytes))))
    return seen


class CountingReader(ChunkReader):
    """Counts the headers that were left to the rules."""

    headers = 0

    def _read_header(self) -> ChunkStream | None:
        self.headers += 1
        return super()._read_header()


def encoder_wire(chunk_size: int, messages: int, length: int) -> list[bytes]:
    """Messages as an encoder sends them: video on chunk stream 6, fmt 0 once, then fmt 1."""
    wire = []
    for number in range(messages):
        first, *rest = in_pieces(bytes([number % 256]) * length, chunk_size)
        header = fmt0(6, 0, length, 9, 1, first) if number == 0 else fmt1(6, 33, length, 9, first)
        wire.append(header + b"".join(fmt3(6, chunk) for chunk in rest))
    return wire


@slow
class AgreementTests(SynchronousTestCase):
    """Two readers, one meaning."""

    def assert_agree(self, pieces: list[bytes], limits: ChunkLimits) -> None:
        """Hold both readers to one outcome, piece by piece."""
        self.assertEqual(outcome(PlainChunkReader(limits), pieces), outcome(ChunkReader(limits), pieces))

    @settings(max_examples=400)
    @given(wires(), PIECE_SIZES, LIMITS)
    @example(fmt0(6, 0, 257, 9, 1, b"\xc6" * 128) + fmt3(6, b"\xc6" * 128) + fmt3(6, b"\xc6"), 129, ChunkLimits())
    def test_anything_in_even_pieces(self, wire: bytes, size: int, limits: ChunkLimits) -> None:
        """Whatever comes, in whatever pieces, both readers yield, refuse and hold the same after each piece."""
        self.assert_agree(in_pieces(wire, size), limits)

    @settings(max_examples=200)
    @given(wires(), st.lists(st.integers(0, 3000), max_size=12), LIMITS)
    def test_anything_in_uneven_pieces(self, wire: bytes, sizes: list[int], limits: ChunkLimits) -> None:
        """So they do when the pieces are of all sizes."""
        pieces = []
        for size in sizes:
            pieces.append(wire[:size])
            wire = wire[size:]
        self.assert_agree([*pieces, wire], limits)

    @settings(max_examples=200)
    @given(st.binary(max_size=600), PIECE_SIZES)
    def test_noise_is_read_alike(self, noise: bytes, size: int) -> None:
        """So they do for bytes that were never chunks."""
        self.assert_agree(in_pieces(noise, size), ChunkLimits())
        begun = fmt0(6, 0, 300, 9, 1, b"x" * 128)
        self.assert_agree(in_pieces(begun + noise, size), ChunkLimits())

    def test_every_cut_of_a_message(self) -> None:
        """A message of many chunks, cut in two anywhere, is the same message."""
        wire = set_chunk_size(130) + b"".join(encoder_wire(130, messages=3, length=521))
        for at in range(len(wire) + 1):
            self.assert_agree([wire[:at], wire[at:]], ChunkLimits())

    def test_every_wrong_byte(self) -> None:
        """A message of many chunks with any one byte wrong fails, or does not, in one way."""
        wire = set_chunk_size(130) + b"".join(encoder_wire(130, messages=2, length=400))
        for at in range(len(wire)):
            for wrong in (wire[at] ^ 0x01, wire[at] ^ 0x40, 0xFF):
                damaged = wire[:at] + bytes([wrong]) + wire[at + 1 :]
                self.assert_agree([damaged], ChunkLimits())
                self.assert_agree(in_pieces(damaged, 97), ChunkLimits())

    def test_more_chunks_than_one_look_covers(self) -> None:
        """A message of more than 512 chunks is taken in several steps, whole or in pieces."""
        wire = b"".join(encoder_wire(128, messages=2, length=200_000))
        for size in (1448, 70_000, len(wire)):
            pieces = in_pieces(wire, size)
            self.assert_agree(pieces, ChunkLimits())
            lengths = [len(message.payload) for message in fed(new_feed(ChunkReader()), pieces)]
            self.assertEqual([200_000, 200_000], lengths)

    def test_other_chunk_streams_marker(self) -> None:
        """A chunk that interleaves where a continuation was due is not taken for one, on any chunk stream."""
        for csid, other in ((4, 6), (6, 4), (63, 62)):
            begun = fmt0(csid, 0, 1, 9, 1, b"k") + fmt0(other, 0, 1, 9, 1, b"k")
            both = fmt1(csid, 1, 200, 9, b"a" * 128) + fmt3(other, b"b") + fmt3(csid, b"a" * 72)
            wire = begun + both + fmt3(csid, b"c" * 128)
            self.assert_agree([wire], ChunkLimits())
            self.assertEqual(b"a" * 200, fed(new_feed(ChunkReader()), [wire])[3].payload)

    def test_limits_tightened_in_mid_message(self) -> None:
        """New limits count from the next header on for both."""
        first, rest = fmt0(6, 0, 300, 9, 1, b"x" * 20), b"x" * 108 + fmt3(6, b"x" * 128) + fmt3(6, b"x" * 44)
        for limits in (ChunkLimits(min_chunk_size=129, max_small_bytes=299), ChunkLimits(max_partial_bytes=200)):
            seen = []
            for reader in (PlainChunkReader(), ChunkReader()):
                before = outcome(reader, [first])
                reader.limits = limits
                seen.append(before + outcome(reader, [rest]))
            self.assertEqual(seen[0], seen[1])
            self.assertNotEqual("", seen[0][1][1])


@plain_only
class WorkTests(SynchronousTestCase):
    """The work saved, counted in headers left to the rules."""

    def headers_left(self, pieces: list[bytes], chunk_size: int) -> int:
        """How many header readings by the rules the pieces took; those that found nothing count too."""
        reader = CountingReader()
        reader.chunk_size = chunk_size
        self.assertEqual(20, len(fed(new_feed(reader), pieces)))
        return reader.headers

    def test_whole_messages_show_one_header(self) -> None:
        """Of messages that arrive whole, the rules see one header: the first on a chunk stream."""
        for chunk_size in (128, 4096, 60000):
            pieces = encoder_wire(chunk_size, messages=20, length=9000)
            self.assertEqual(1, self.headers_left(pieces, chunk_size))

    def test_pieces_show_few_headers(self) -> None:
        """Of messages in pieces, the rules see few headers more: those that a cut divides."""
        wire = b"".join(encoder_wire(128, messages=20, length=9000))
        pieces = in_pieces(wire, 1448)
        self.assertLess(self.headers_left(pieces, 128), 20)
