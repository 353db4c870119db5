"""
A push relay of a rendition: what is pushed is a rung of the stream's ladder instead of the source.

Rungs come as parts, with the audio that belongs to them; a :class:`RungPush` is a part sink that leaves those of the
source alone, and makes frames of the rung's again.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from heapq import merge
from typing import Any

from zope.interface import implementer

from rapidrtmp.interfaces import Constants, Cutting, ILateRenditionsSink, IPartSink, Part, Rung
from rapidrtmp.media import Frame, Track
from rapidrtmp.relay.push import PushSink
from rapidrtmp.relay.report import RelayState, RelayStatus

__all__ = ["RungPush"]

#: A rendition may begin so many segments after its stream.
PATIENCE_SEGMENTS = 3


class _PartSink:
    """What part sinks are called with, and leave alone."""

    leads = False
    cutting = Cutting(part_ms=0)
    constants: Constants | None = None

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :class:`IPartSink <rapidrtmp.interfaces.IPartSink>`; likewise the others."""

    def constants_chosen(self, constants: Constants) -> None:
        """The bounds of segments mean nothing here."""

    def frame_rate_measured(self, frame_rate: Fraction | None) -> None:
        """Frames say it themselves."""

    def part_cut(self, part: Part) -> None:
        """A part."""

    def segment_ended(self) -> None:
        """A segment is complete."""

    def segment_continued(self) -> None:
        """It is not."""

    def flushed(self) -> None:
        """All that belongs together has been said."""

    def discontinuity(self) -> None:
        """Times rise all the same."""

    def interrupted(self) -> None:
        """The publisher is gone, and may return."""

    def finish(self) -> None:
        """The end."""


@implementer(IPartSink)
class _Feed(_PartSink):
    """Makes frames of the parts of one rung."""

    def __init__(self, push: PushSink, is_over: Callable[[], bool]) -> None:
        self._push = push
        self._is_over = is_over

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :class:`IPartSink <rapidrtmp.interfaces.IPartSink>`; likewise the others."""
        if not self._is_over():
            self._push.tracks_changed(tracks)

    def part_cut(self, part: Part) -> None:
        """Hand on its frames in the order of their times; behind a gap the next one is a keyframe."""
        if not self._is_over():
            runs = [[sample.frame for sample in run.samples] for run in part.runs]
            for frame in merge(*runs, key=_time_of):
                self._push.frame_received(frame)

    def interrupted(self) -> None:
        """The other server waits as we do."""
        if not self._is_over():
            self._push.interrupted()


@implementer(ILateRenditionsSink)
class RungPush(_PartSink):
    """
    Pushes one rendition of a stream.

    :param push: pushes what it gets.
    """

    has_renditions = True

    def __init__(self, rendition: str, push: PushSink, status: RelayStatus) -> None:
        self._rendition = rendition
        self._push = push
        self._status = status
        self._segments = 0
        self._has_begun = self._is_over = False

    def segment_ended(self) -> None:
        """See whether the rendition is late."""
        self._segments += 1
        if self._segments == PATIENCE_SEGMENTS and not self._has_begun:
            self._status.become(RelayState.FAILED, f"the stream has no rendition {self._rendition!r}")

    def await_renditions(self, *, awaited: bool) -> None:
        """See :meth:`IRenditionsSink.await_renditions <rapidrtmp.interfaces.IRenditionsSink.await_renditions>`."""

    def open_rendition(self, rung: Rung) -> Any:
        """See :meth:`IRenditionsSink.open_rendition <rapidrtmp.interfaces.IRenditionsSink.open_rendition>`."""
        if rung.name != self._rendition:
            return _Nothing()
        self._has_begun = True
        return _Feed(self._push, lambda: self._is_over)

    def finish(self) -> None:
        """See :meth:`IPartSink.finish <rapidrtmp.interfaces.IPartSink.finish>`; what the rung still brings is late."""
        self._is_over = True
        self._push.finish()


@implementer(IPartSink)
class _Nothing(_PartSink):
    """Takes a rung that is not wanted."""


def _time_of(frame: Frame) -> float:
    return frame.dts / frame.track.timescale
