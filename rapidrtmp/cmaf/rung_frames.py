"""
The frames of one rung of a stream's ladder, for sinks that want frames.

Rungs come as parts, with the audio that belongs to them, to part sinks that open them. This is such a part sink: it
leaves the parts of the source alone, and makes frames of the rung's again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from fractions import Fraction
from heapq import merge
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rapidrtmp.cmaf.segmenter import main_tracks
from rapidrtmp.interfaces import Constants, Cutting, ILateRenditionsSink, IPartSink, Part, Rung
from rapidrtmp.media import Frame, MediaKind, Track

__all__ = ["RungFrames"]


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

    def finish(self) -> Deferred[None] | None:
        """The end."""


@implementer(IPartSink)
class _Rung(_PartSink):
    """Makes frames of the parts of one rung."""

    def __init__(self, sink: Any, is_over: Callable[[], bool]) -> None:
        self._sink = sink
        self._is_over = is_over
        self._ids: frozenset[int] = frozenset()  # of the tracks that it has
        self._lead = 0  # how much earlier than in parts pictures are decoded, in ticks
        self._newest = -1  # decode time of the newest picture

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :class:`IPartSink <rapidrtmp.interfaces.IPartSink>`; likewise the others."""
        if not self._is_over():
            tracks = main_tracks(tracks)
            self._ids = frozenset(track.id for track in tracks)
            self._sink.tracks_changed(tracks)

    def part_cut(self, part: Part) -> None:
        """Hand on its frames in the order of their times; behind a gap the next one is a keyframe."""
        if not self._is_over():
            runs = [[sample.frame for sample in run.samples] for run in part.runs if run.track.id in self._ids]
            runs = [self._early(run) if run[0].track.kind is MediaKind.VIDEO else run for run in runs]
            for frame in merge(*runs, key=_time_of):
                self._sink.frame_received(frame)

    def _early(self, frames: list[Frame]) -> list[Frame]:
        """
        Pictures with decode times at which none is shown before it is decoded: parts of a rung with B-frames have
        those of a source that may have none.
        """
        self._lead = max(self._lead, -min(frame.composition_offset for frame in frames))
        if not self._lead:
            return frames
        early = []
        for frame in frames:
            self._newest = max(frame.dts - self._lead, self._newest + 1)
            early.append(replace(frame, dts=self._newest, composition_offset=frame.pts - self._newest))
        return early

    def discontinuity(self) -> None:
        """See :class:`ISink <rapidrtmp.interfaces.ISink>`."""
        if not self._is_over():
            self._sink.discontinuity()

    def interrupted(self) -> None:
        """See :class:`ISink <rapidrtmp.interfaces.ISink>`."""
        if not self._is_over():
            self._sink.interrupted()


@implementer(ILateRenditionsSink)
class RungFrames(_PartSink):
    """
    Gives the frames of one rung to a sink.

    :param name: the rung's.
    :param sink: an ``ISink``.
    :param missed: called for each segment of the source that has ended while the rung has not begun.
    """

    has_renditions = True

    def __init__(self, name: str, sink: Any, missed: Callable[[], object] = lambda: None) -> None:
        self._name = name
        self._sink = sink
        self._missed = missed
        self._has_begun = self._is_over = False

    def segment_ended(self) -> None:
        """See whether the rung is late."""
        if not self._has_begun:
            self._missed()

    def announce_renditions(self, names: Collection[str]) -> None:
        """See :class:`IRenditionsSink <rapidrtmp.interfaces.IRenditionsSink>`."""

    def expect_renditions(self, names: Collection[str] | None) -> None:
        """See :meth:`IRenditionsSink.expect_renditions <rapidrtmp.interfaces.IRenditionsSink.expect_renditions>`."""

    def pause_renditions(self) -> None:
        """See :meth:`IRenditionsSink.pause_renditions <rapidrtmp.interfaces.IRenditionsSink.pause_renditions>`."""

    def open_rendition(self, rung: Rung) -> Any:
        """See :meth:`IRenditionsSink.open_rendition <rapidrtmp.interfaces.IRenditionsSink.open_rendition>`."""
        if rung.name != self._name:
            return _Nothing()
        self._has_begun = True
        return _Rung(self._sink, lambda: self._is_over)

    def finish(self) -> Deferred[None] | None:
        """See :meth:`IPartSink.finish <rapidrtmp.interfaces.IPartSink.finish>`; what the rung still brings is late."""
        self._is_over = True
        done: Deferred[None] | None = self._sink.finish()
        return done


@implementer(IPartSink)
class _Nothing(_PartSink):
    """Takes a rung that is not wanted."""


def _time_of(frame: Frame) -> float:
    return frame.dts / frame.track.timescale
