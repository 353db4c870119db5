"""What the recovery, which runs beside the live streams, must know of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rapidrtmp.hls.rewind.rewind import Rewind
from rapidrtmp.names import StreamName

__all__ = ["Expecting", "ResumeState"]


@dataclass(frozen=True, slots=True)
class Expecting:
    """
    A rewind window that is to be given back.

    :ivar returned: to be called when that is done.
    """

    rewind: Rewind
    returned: Callable[[], None]


class ResumeState:
    """
    The streams of one packager's process.

    :ivar rewinds: whose rewind windows are to be given back.
    """

    def __init__(self) -> None:
        self.rewinds: dict[StreamName, Expecting] = {}
        self._begun: set[StreamName] = set()
        self._recoveries = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Remember in this block which streams begin."""
        self._recoveries += 1
        try:
            yield
        finally:
            self._recoveries -= 1
            if not self._recoveries:
                self._begun.clear()

    def begin(self, stream: StreamName) -> None:
        """A sink is made for a stream."""
        if self._recoveries:
            self._begun.add(stream)

    def has_begun(self, stream: StreamName) -> bool:
        """Whether what is stored of a stream may be this process's own."""
        return stream in self._begun
