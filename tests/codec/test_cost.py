"""What a plain picture costs from its message to its frame: of no codec more than of H.264."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.av1 import Av1Reader
from rapidrtmp.codec.avc import AvcReader
from rapidrtmp.codec.hevc import HevcReader
from rapidrtmp.codec.table import SampleReader
from rapidrtmp.codec.vp9 import Vp9Reader
from rapidrtmp.live.demuxer import Demuxer
from tests.codec import test_av1, test_avc, test_hevc, test_vp9
from tests.plain import plain_only

FILLING = b"\x55" * 900
FRAME_OBU = b"\x32\x85\7\x30" + FILLING


def cost(call: Callable[[], object]) -> tuple[int, int]:
    """How many calls of Python functions a call takes, and how many instructions."""
    calls = instructions = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal calls, instructions
        frame.f_trace_opcodes = True
        calls += event == "call"
        instructions += event == "opcode"
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks for it when tracing begins
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return calls, instructions


@plain_only
class CostTests(SynchronousTestCase):
    def test_reading_costs_like_avc(self) -> None:
        """To read a picture of HEVC, AV1 or VP9 takes one call, and hardly more instructions than one of H.264."""
        avc = self._reading(AvcReader(test_avc.CONFIG), test_avc.lengths(test_avc.SLICE + FILLING))
        for reader, body in (
            (HevcReader(test_hevc.CONFIG), test_hevc.lengths(test_hevc.TRAIL + FILLING)),
            (Av1Reader(test_av1.CONFIG), b"\x12\0" + FRAME_OBU),
            (Vp9Reader(test_vp9.read_vp9_config(test_vp9.RECORD)), test_vp9.INTER + FILLING),
        ):
            self.assertLessEqual(self._reading(reader, body), 1.5 * avc, reader)

    def _reading(self, reader: SampleReader, body: bytes) -> int:
        calls, instructions = cost(lambda: reader.read(body))
        self.assertEqual(2, calls)  # the one that counts is another
        return instructions

    def test_demultiplexing_costs_like_avc(self) -> None:
        """From message to frame each takes as many calls as H.264 does, and hardly more instructions."""
        avc = b"\x27\1\0\0\0" + test_avc.lengths(test_avc.SLICE + FILLING)
        calls, instructions = self._demultiplexing([b"\x17\0\0\0\0" + test_avc.RECORD, self._key_of_avc()], avc)
        hevc = test_hevc.lengths(test_hevc.TRAIL + FILLING)
        opening = [b"\x90hvc1" + test_hevc.RECORD, b"\x93hvc1" + test_hevc.lengths(test_hevc.IDR)]
        for start, picture in (
            (opening, b"\xa3hvc1" + hevc),
            (opening, b"\xa1hvc1\0\0\0" + hevc),
            (
                [b"\x90av01" + test_av1.RECORD, b"\x91av01" + test_av1.SENT + test_av1.KEY],
                b"\xa1av01\x12\0" + FRAME_OBU,
            ),
            ([b"\x90vp09" + test_vp9.SENT, b"\x91vp09" + test_vp9.KEY], b"\xa1vp09" + test_vp9.INTER + FILLING),
        ):
            found = self._demultiplexing(start, picture)
            self.assertEqual(calls, found[0], picture[:5])
            self.assertLessEqual(found[1], 1.1 * instructions, picture[:5])

    def _key_of_avc(self) -> bytes:
        return b"\x17\1\0\0\0" + test_avc.lengths(test_avc.IDR)

    def _demultiplexing(self, opening: list[bytes], picture: bytes) -> tuple[int, int]:
        """The cost of the hundredth picture, 40 ms after the one before, with a keyframe each second up to it."""
        demuxer = Demuxer()
        start, keyframe = opening
        demuxer.video_received(0, start, 0)
        for at in range(99):
            demuxer.video_received(40 * at, picture if at % 25 else keyframe, 40 * at)
        return cost(lambda: demuxer.video_received(40 * 99, picture, 40 * 99))
