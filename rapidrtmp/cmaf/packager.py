"""
One stream's frames cut once, for every sink that takes parts.

The packager is a sink itself: frames go in, and the parts they become go to any number of part sinks (see
:class:`~rapidrtmp.interfaces.IPartSink`). The first of those that ``leads`` decides how to cut; the others take the
parts as they come, and join several where they want longer ones.

A sink that comes late begins with the open segment, whose parts are kept until it ends; where a decoder could not start
there, with the next segment that begins with a keyframe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure
from zope.interface import implementer

from rapidrtmp.cmaf.segmenter import Segmenter, main_tracks, packaged_tracks
from rapidrtmp.cmaf.segmenter_events import CutEvent, SegmentEnd
from rapidrtmp.interfaces import (
    Constants,
    Cutting,
    IAllTracksSink,
    IMetadataSink,
    IResumableSink,
    Part,
)
from rapidrtmp.media import Frame, TimedMetadata, Track

__all__ = ["Packager", "suspend_or_finish"]

Failed = Callable[[Any, Failure], None]
#: So much timed metadata waits for a part; then the oldest is forgotten.
MOST_METADATA = 256


@dataclass(slots=True, eq=False)
class _Output:
    """
    One part sink.

    :ivar takes_all: whether it takes all tracks that are cut, not the main ones alone.
    :ivar is_waiting: whether it has had no part yet, because no segment has begun where it can.
    :ivar seconds: the processor time it has taken in all.
    """

    sink: Any
    takes_all: bool = False
    is_waiting: bool = False
    seconds: float = 0.0


@implementer(IMetadataSink, IResumableSink)
class Packager:
    """
    Cuts one stream.

    :param failed: called with a sink that raised, which gets no more calls. Without it what a sink raises is passed on.
    """

    def __init__(self, *sinks: Any, failed: Failed | None = None) -> None:
        self._failed = failed
        self._outputs: tuple[_Output, ...] = ()
        self._segmenter: Segmenter | None = None
        self._tracks: tuple[Track, ...] = ()
        self._main: tuple[Track, ...] = ()  # those of them that every sink takes
        self._constants: Constants | None = None  # as the sinks know them
        self._frame_rate: Fraction | None = None  # likewise
        self._open: list[Part] = []  # the parts of the open segment
        self._metadata: list[TimedMetadata] = []  # for the next part that has media
        for sink in sinks:
            self.attach(sink)

    # ── part sinks ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def sinks(self) -> tuple[Any, ...]:
        """Those that take parts."""
        return tuple(output.sink for output in self._outputs)

    def seconds(self, sink: Any) -> float:
        """How much processor time a sink has taken in all, in seconds."""
        return next((output.seconds for output in self._outputs if output.sink is sink), 0.0)

    def attach(self, sink: Any) -> None:
        """Let a sink have the parts from the open segment on, or from the next one where decoding can start."""
        output = _Output(sink, takes_all=IAllTracksSink.providedBy(sink))
        self._outputs = (*self._outputs, output)
        if not self._tracks:
            return
        self._tell_tracks(output)
        if self._constants is None:
            return
        self._call(output, lambda sink: sink.constants_chosen(self._constants))
        self._call(output, lambda sink: sink.frame_rate_measured(self._frame_rate))
        output.is_waiting = not (self._open and self._open[0].on_keyframe)
        if not output.is_waiting:
            for part in self._open:
                self._call(output, partial(_cut, part if output.takes_all else self._main_part(part)))
            self._call(output, lambda sink: sink.flushed())

    def remove(self, sink: Any) -> None:
        """Make no more calls to a sink, if it is here. The cutting stays as it is."""
        self._outputs = tuple(output for output in self._outputs if output.sink is not sink)

    # ── ISink ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :meth:`ISink.tracks_changed <rapidrtmp.interfaces.ISink.tracks_changed>`."""
        self._tracks = packaged = packaged_tracks(tracks)
        self._main = main_tracks(packaged)
        segmenter = self._segmenter or self._begin()
        segmenter.start(packaged)
        for output in self._outputs:
            self._tell_tracks(output)

    def _tell_tracks(self, output: _Output) -> None:
        tracks = self._tracks if output.takes_all else self._main
        self._call(output, lambda sink: sink.tracks_changed(tracks))

    def frame_received(self, frame: Frame) -> None:
        """See :meth:`ISink.frame_received <rapidrtmp.interfaces.ISink.frame_received>`."""
        events = self._segmenter.add(frame)  # type: ignore[union-attr]  # tracks come before frames
        if events:
            self._dispatch(events)

    def metadata_received(self, metadata: TimedMetadata) -> None:
        """See :meth:`IMetadataSink.metadata_received <rapidrtmp.interfaces.IMetadataSink.metadata_received>`."""
        self._metadata.append(metadata)
        del self._metadata[:-MOST_METADATA]

    def discontinuity(self) -> None:
        """See :meth:`ISink.discontinuity <rapidrtmp.interfaces.ISink.discontinuity>`."""
        self._flush()
        self._tell(lambda sink: sink.discontinuity())

    def interrupted(self) -> None:
        """See :meth:`ISink.interrupted <rapidrtmp.interfaces.ISink.interrupted>`."""
        self._flush()
        self._tell(lambda sink: sink.interrupted())

    def finish(self) -> Deferred[None]:
        """See :meth:`ISink.finish <rapidrtmp.interfaces.ISink.finish>`; fires when every part sink has finished."""
        return self._end(lambda sink: sink.finish())

    def suspend(self) -> Deferred[None]:
        """See :meth:`IResumableSink.suspend <rapidrtmp.interfaces.IResumableSink.suspend>`; fires when all are done."""
        return self._end(suspend_or_finish)

    def _end(self, call: Callable[[Any], object]) -> Deferred[None]:
        """Make the last call to every part sink."""
        self._flush()
        outputs, self._outputs = self._outputs, ()
        waiting = [done for done in (self._call(output, call) for output in outputs) if isinstance(done, Deferred)]
        return DeferredList(waiting).addCallback(lambda _: None)

    # ── cutting ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> Segmenter:
        """Make the segmenter, as the sinks want the stream cut."""
        sinks = self.sinks
        leader = next((sink for sink in sinks if sink.leads), sinks[0] if sinks else None)
        cutting: Cutting = Cutting() if leader is None else leader.cutting
        constants: Constants | None = None if leader is None else leader.constants
        wanted = [sink.cutting.part_ms for sink in sinks if sink.cutting.part_ms]
        if not cutting.part_ms and wanted:
            cutting = replace(cutting, part_ms=min(*wanted, cutting.segment_ms))
            if constants is not None:
                constants = Constants(constants.target_s, cutting.part_ms)
        self._segmenter = Segmenter(cutting)
        self._segmenter.constants = constants
        return self._segmenter

    def _flush(self) -> None:
        if self._tracks and self._segmenter is not None:
            events = self._segmenter.flush()
            if events:
                self._dispatch(events)

    def _dispatch(self, events: list[CutEvent]) -> None:
        """Hand on what was cut at one moment."""
        segmenter = self._segmenter
        assert segmenter is not None
        if self._constants is None:
            self._constants = segmenter.constants
            self._tell(lambda sink: sink.constants_chosen(segmenter.constants), everyone=True)
        if self._frame_rate != segmenter.frame_rate:
            self._frame_rate = segmenter.frame_rate
            self._tell(lambda sink: sink.frame_rate_measured(segmenter.frame_rate), everyone=True)
        for event in events:
            if isinstance(event, Part):
                self._hand_on_part(event)
            elif isinstance(event, SegmentEnd):
                self._open.clear()
                self._tell(lambda sink: sink.segment_ended())
            else:
                self._tell(lambda sink: sink.segment_continued())
        self._tell(lambda sink: sink.flushed())

    def _hand_on_part(self, part: Part) -> None:
        if self._metadata and part.runs:
            part, self._metadata = replace(part, metadata=tuple(self._metadata)), []
        if part.starts_segment and part.on_keyframe:
            for output in self._outputs:
                output.is_waiting = False
        self._open.append(part)
        main = self._main_part(part)
        for output in self._outputs:
            if not output.is_waiting:
                self._call(output, partial(_cut, part if output.takes_all else main))

    def _main_part(self, part: Part) -> Part:
        """What of a part every sink takes: the part itself, where there are no further tracks."""
        if len(self._main) == len(self._tracks):
            return part
        return part.of([track.id for track in self._main])

    # ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, call: Callable[[Any], object], *, everyone: bool = False) -> None:
        """Call every sink, those that wait for a keyframe only if ``everyone`` is meant."""
        for output in self._outputs:
            if everyone or not output.is_waiting:
                self._call(output, call)

    def _call(self, output: _Output, call: Callable[[Any], object]) -> object:
        """Call one sink; one that raises gets no more calls."""
        if self._failed is None:
            return call(output.sink)
        started = perf_counter()
        try:
            return call(output.sink)
        except Exception:
            self._outputs = tuple(other for other in self._outputs if other is not output)
            self._failed(output.sink, Failure())
            return None
        finally:
            output.seconds += perf_counter() - started


def _cut(part: Part, sink: Any) -> None:
    sink.part_cut(part)


def suspend_or_finish(sink: Any) -> object:
    """Make the last call to a sink whose stream the next server resumes; what it returns."""
    return sink.suspend() if IResumableSink.providedBy(sink) else sink.finish()
