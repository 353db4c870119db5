"""How the process deals with its memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from rapidrtmp.server.process_memory import keep_heap
from tests.slow import slow

#: Blocks as large as keyframes come and go; how often did the system have to give a page for them?
PROGRAM = """
import resource, sys
from rapidrtmp.server.process_memory import keep_heap
assert "keep" not in sys.argv or keep_heap()
def blocks():
    for _ in range(100):
        kept = [b"x" * 100_000 for _ in range(20)]
blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
blocks()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


class HeapTests(SynchronousTestCase):
    def setUp(self) -> None:
        if platform.libc_ver()[0] != "glibc":
            raise SkipTest("the heap of another C library")

    @slow
    def test_kept_heap_is_not_returned(self) -> None:
        """Memory that media needs again and again is not given back in between."""
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        faults = [
            int(subprocess.check_output([sys.executable, "-c", PROGRAM, *how], env=environment))
            for how in ([], ["keep"])
        ]
        self.assertLess(10 * faults[1], faults[0], faults)

    def test_operator_has_the_last_word(self) -> None:
        """An operator who has set the heap's limits has the last word."""
        for variable, value in (("MALLOC_TRIM_THRESHOLD_", "1"), ("GLIBC_TUNABLES", "glibc.malloc.top_pad=1")):
            self.assertFalse(keep_heap({variable: value}))
