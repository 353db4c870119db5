"""A push relay of a rendition: what is pushed is a rung of the stream's ladder instead of the source."""

from __future__ import annotations

from rapidrtmp.cmaf.rung_frames import RungFrames
from rapidrtmp.relay.push import PushSink
from rapidrtmp.relay.report import RelayState, RelayStatus

__all__ = ["RungPush"]

#: A rendition may begin so many segments after its stream.
PATIENCE_SEGMENTS = 3


class RungPush(RungFrames):
    """
    Pushes one rendition of a stream.

    :param push: pushes what it gets.
    """

    def __init__(self, rendition: str, push: PushSink, status: RelayStatus) -> None:
        super().__init__(rendition, push, self._missed_segment)
        self._rendition = rendition
        self._status = status
        self._segments = 0

    def _missed_segment(self) -> None:
        self._segments += 1
        if self._segments == PATIENCE_SEGMENTS:
            self._status.become(RelayState.FAILED, f"the stream has no rendition {self._rendition!r}")
