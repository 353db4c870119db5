"""
How the process deals with its memory: what the garbage collector looks at, and what the heap keeps.

The objects of the start stay for good. Media comes and goes in blocks of 10 to 700 kB all the time, and with the
defaults of glibc the end of the heap went back to the system and came again, page by page, up to a hundred times a
second.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Mapping

__all__ = ["keep_heap", "settle_memory"]

#: Parameters of mallopt (malloc.h), and their values: keep so much that is free at the end of the heap; take so much
#: more than is needed whenever it grows; map only what is larger than this by itself, for that is unmapped with it.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES, STEP_BYTES, LARGE_BYTES = 32 << 20, 1 << 20, 4 << 20
#: How an operator says otherwise (mallopt(3)).
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_")


def keep_heap(environment: Mapping[str, str] = os.environ) -> bool:
    """
    Keep what is free at the end of the heap, up to :data:`KEPT_BYTES`, for what comes next.

    :param environment: an operator who has set any of these values there has the last word.
    :returns: whether that is so now; not where the C library has no such thing.
    """
    if any(each in environment for each in _VARIABLES) or "glibc.malloc" in environment.get("GLIBC_TUNABLES", ""):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    values = ((_TRIM_THRESHOLD, KEPT_BYTES), (_TOP_PAD, STEP_BYTES), (_MMAP_THRESHOLD, LARGE_BYTES))
    return {mallopt(parameter, value) for parameter, value in values} == {1}


def settle_memory() -> None:
    """
    Have the process deal with its memory as a server does that has just started; for good.

    What is there now stays: the garbage collector does not look at it again, and at the rest less often.
    """
    keep_heap()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
