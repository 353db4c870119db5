from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.web.http2.frames import (
    END_HEADERS,
    MAX_BLOCK_BYTES,
    MAX_FRAME_BYTES,
    PREFACE,
    Allowance,
    Frame,
    FrameCutter,
    FrameTooLongError,
    FrameType,
    cost_of,
)
from tests.web.http2.kit import frame

PING = frame(FrameType.PING, 0, 0, bytes(8))
LARGEST = frame(FrameType.DATA, 1, 5, bytes(MAX_FRAME_BYTES))


def cut(*pieces: bytes) -> list[Frame]:
    cutter, frames = FrameCutter(), []
    for piece in pieces:
        cutter.receive_data(piece)
        while (found := cutter.next_frame()) is not None:
            frames.append(found)
    return frames


class FrameCutterTests(SynchronousTestCase):
    def test_frames_come_out_whole(self) -> None:
        """Frames come out whole, behind the preface, with what their headers say."""
        found = cut(PREFACE + PING + LARGEST)
        self.assertEqual([PREFACE, PING, LARGEST], [frame.data for frame in found])
        self.assertEqual(
            [(FrameType.PREFACE, 0, 0), (FrameType.PING, 0, 0), (FrameType.DATA, 1, 5)],
            [(frame.type, frame.flags, frame.stream) for frame in found],
        )
        self.assertEqual(MAX_FRAME_BYTES, found[2].size)

    def test_same_frames_at_every_cut(self) -> None:
        """However the bytes arrive, the same frames come out."""
        data = PREFACE + PING * 3 + frame(0x2A, 7, 3, b"grease")

        @given(st.lists(st.integers(0, len(data)), max_size=20).map(sorted))
        def check(cuts: list[int]) -> None:
            pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
            self.assertEqual(cut(data), cut(*pieces))

        check()

    def test_other_protocol_is_refused_early(self) -> None:
        """What does not begin as HTTP/2 does is refused with its first byte that differs."""
        with self.assertRaises(PeerProtocolError):
            cut(b"PRI * HTTP/1")
        self.assertEqual([], cut(b"PRI * HTTP/2"))

    def test_long_frame_is_refused_by_header(self) -> None:
        """A frame that is too long is refused by its header."""
        with self.assertRaises(FrameTooLongError):
            cut(PREFACE, frame(FrameType.DATA, 0, 1, bytes(MAX_FRAME_BYTES + 1))[:9])

    def test_long_block_is_measured_whole(self) -> None:
        """A header block is measured over all its frames, and each block anew."""
        half = bytes(MAX_BLOCK_BYTES // 2)
        headers, more = frame(FrameType.HEADERS, 0, 1, half), frame(FrameType.CONTINUATION, 0, 1, half)
        last = frame(FrameType.CONTINUATION, END_HEADERS, 1, half)
        self.assertEqual(5, len(cut(PREFACE + (headers + last) * 2)))
        with self.assertRaises(FrameTooLongError):
            cut(PREFACE + headers + more + more[:9])

    def test_garbage_is_frames_or_too_long(self) -> None:
        """Whatever arrives behind the preface is frames, or too long."""

        @given(st.binary(max_size=200))
        def check(data: bytes) -> None:
            try:
                found = cut(PREFACE + data)
            except FrameTooLongError:
                return
            self.assertTrue((PREFACE + data).startswith(b"".join(frame.data for frame in found)))

        check()


class CostTests(SynchronousTestCase):
    def test_costs_of_each_frame_type(self) -> None:
        """Data that carries something is free, and so is to take back a request; all else costs."""
        for kind, flags, size, is_open, cost in (
            (FrameType.PREFACE, 0, 0, False, 0),
            (FrameType.DATA, 0, 1000, True, 0),
            (FrameType.DATA, 0, 0, True, 1),
            (FrameType.DATA, 1, 0, True, 0),
            (FrameType.DATA, 1, 1000, False, 1),
            (FrameType.RST_STREAM, 0, 4, False, 0),
            (FrameType.HEADERS, 0, 50, False, 1),
            (FrameType.SETTINGS, 0, 0, False, 4),
            (FrameType.PING, 0, 8, False, 1),
            (0x2A, 0, 8, False, 1),
        ):
            with self.subTest(kind=kind, is_open=is_open):
                self.assertEqual(cost, cost_of(Frame(kind, flags, 1, bytes(9 + size)), is_for_open_stream=is_open))


class AllowanceTests(SynchronousTestCase):
    def test_allowance_has_a_burst(self) -> None:
        """There is so much at once."""
        allowance = Allowance(3, 1, 0)
        self.assertEqual([True, True, True, False], [allowance.spend(1, 0) for _ in range(4)])

    def test_allowance_refills_by_time_and_use(self) -> None:
        """Time and use refill it, up to what it was; a clock that is set back does nothing."""
        allowance = Allowance(3, 2, 10)
        self.assertTrue(allowance.spend(3, 10))
        self.assertTrue(allowance.spend(2, 11))
        self.assertTrue(allowance.spend(0, 5))
        allowance.earn(100)
        self.assertFalse(allowance.spend(4, 5))
