"""What a plain picture costs on its way to a sample: of every codec one call, and no copy but for AV1's delimiter."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.av1 import Av1Reader
from rapidrtmp.codec.avc import AvcReader
from rapidrtmp.codec.hevc import HevcReader
from rapidrtmp.codec.table import SampleReader
from rapidrtmp.codec.vp9 import Vp9Reader
from tests.codec import test_av1, test_avc, test_hevc, test_vp9

FILLING = b"\x55" * 900


def cost(reader: SampleReader, body: bytes) -> tuple[int, int]:
    """How many calls of Python functions reading a body takes, and how many instructions."""
    calls = instructions = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal calls, instructions
        frame.f_trace_opcodes = True
        calls += event == "call"
        instructions += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        reader.read(body)
    finally:
        sys.settrace(before)
    return calls, instructions


class CostTests(SynchronousTestCase):
    def test_no_dearer_than_avc(self) -> None:
        """A picture of HEVC, AV1 or VP9 takes no more calls than one of H.264, and about as many instructions."""
        avc = cost(AvcReader(test_avc.CONFIG), test_avc.lengths(test_avc.SLICE + FILLING))
        self.assertEqual(1, avc[0])
        for reader, body in (
            (HevcReader(test_hevc.CONFIG), test_hevc.lengths(test_hevc.TRAIL + FILLING)),
            (Av1Reader(test_av1.CONFIG), b"\x12\0" + test_av1.obu(6, b"\x30" + FILLING[:120])),
            (Vp9Reader(test_vp9.read_vp9_config(test_vp9.RECORD)), test_vp9.INTER + FILLING),
        ):
            calls, instructions = cost(reader, body)
            self.assertLessEqual(calls, avc[0], reader)
            self.assertLessEqual(instructions, 1.35 * avc[1], reader)
