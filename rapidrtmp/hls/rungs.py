"""
The rungs of a ladder as renditions: folders beside the source's, in step with it and a little later.

A rung's parts come when they are back from the transcoder, each with the numbers, times, dates and discontinuities that
the source's part of the same place has; so players change between all of them wherever they like. What has not come in
time is a gap. A rung is offered from its first part on, no more after some gaps in a row, and again when it is back;
its playlist continues all the while.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from zope.interface import implementer

from rapidrtmp.hls.names import part_name
from rapidrtmp.hls.playlist import PlaylistWindow
from rapidrtmp.hls.segment import ListedSegment, OpenSegment
from rapidrtmp.hls.track_renditions import TrackRendition, TrackRenditions
from rapidrtmp.interfaces import Constants, Cutting, EventType, IPartSink, Part, Rung, SinkContext
from rapidrtmp.media import MediaKind, Track

__all__ = ["RungRendition", "RungSink"]

#: What is announced of a rung before it is measured: its bit rate and so many percent.
SPARE_PERCENT = 10


class RungRendition(TrackRendition):
    """One of them: what of it is on the shelf."""

    @property
    def is_undecided(self) -> bool:
        """See :class:`TrackRendition`; it is offered from its first part on."""
        return False

    def expect(self, bitrate: int, part: Part) -> None:
        """Announce a bit rate of its pictures, with that of the audio of a part, until more is measured."""
        audio = 0.0
        for run in part.runs:
            if run.track.kind is MediaKind.AUDIO and run.track.id in [track.id for track in self.tracks]:
                seconds = sum(sample.duration for sample in run.samples) / run.track.timescale
                audio += sum(len(sample.frame.data) for sample in run.samples) * 8 / max(seconds, 0.001)
        self.rate.peak = max(self.rate.peak, bitrate * (100 + SPARE_PERCENT) // 100 + round(audio))
        self.is_offered = True

    def _take_media(self) -> list[bytes]:
        """A segment of which something is missing is a gap as a whole: players would stop where it ends early."""
        opened = self.window.open
        return [] if opened is not None and any(part.gap for part in opened.parts) else self._pieces

    def _joined(self) -> None:
        self._say("back")

    def _left_out(self) -> None:
        self._say("left out")

    def _say(self, state: str) -> None:
        context = self._context
        context.log.info("{stream}: rung {rung} is {state}", stream=context.stream, rung=self.name, state=state)
        context.record(EventType.LADDER, {"rung": self.name, "state": state})


@implementer(IPartSink)
class RungSink:
    """
    Takes the parts of one rung.

    :param rung: the rung.
    :param size: how many segments its playlist lists.
    :param renditions: where it is offered.
    :param source: the window of the source.
    :param published: called when there is something new of it.
    """

    leads = False
    cutting = Cutting(part_ms=0)

    def __init__(
        self,
        context: SinkContext,
        rung: Rung,
        size: int,
        renditions: TrackRenditions,
        source: Callable[[], PlaylistWindow],
        published: Callable[[], None],
    ) -> None:
        self.constants: Constants | None = None
        self._context = context
        self._rung = rung
        self._size = size
        self._renditions = renditions
        self._source = source
        self._published = published
        self._tracks: tuple[Track, ...] = ()
        self._rendition: RungRendition | None = None
        self._end = 0  # of the newest part, in ticks
        self._expects_end = False  # whether the open segment should end with it
        self._is_broken = False  # whether the next segment does not join on to the last
        self._is_awaited = True  # whether it is offered from its next part on

    def pause(self) -> None:
        """It brings nothing until it is asked for, and is offered again from its first part on."""
        self._is_awaited = True

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :meth:`IPartSink.tracks_changed <rapidrtmp.interfaces.IPartSink.tracks_changed>`; likewise the others."""
        audio = [track for track in tracks if track.kind is MediaKind.AUDIO]
        self._tracks = tracks if len(audio) == 1 else tracks[:1]  # where there is some to choose from it is apart
        if self._rendition is not None and tracks:
            self._rendition.tracks = self._tracks

    def constants_chosen(self, constants: Constants) -> None:
        """They are the source's."""

    def frame_rate_measured(self, frame_rate: Fraction | None) -> None:
        """It is that of its own pictures."""

    def part_cut(self, part: Part) -> None:
        """Put up one part."""
        rendition = self._rendition or self._begin(part)
        if rendition is None:
            return
        if rendition.hinted not in ("", self._next_part(rendition.window)):
            self._expects_end = False
            self._publish(rendition, self._next_part(rendition.window))  # before it comes, players learn of it
        rendition.put_part(part, self._segment_of_source(rendition.window, part))
        if part.runs and self._is_awaited:
            self._is_awaited = False
            rendition.expect(self._rung.bitrate, part)
        self._end = part.end
        self._expects_end = part.expected_last
        self._is_broken = False

    def _begin(self, part: Part) -> RungRendition | None:
        """Open the playlist with the first segment that can be played; of what is before that players see nothing."""
        source = self._source()
        segment = source.find(part.start) if part.starts_segment and part.runs and self._tracks else None
        if segment is None:
            return None
        first = segment.sequence, source.discontinuities_before(segment.sequence)
        rendition = RungRendition(self._context, self._rung.name, self._tracks, self._size, source.constants, first)
        self._rendition = self._renditions.rungs[rendition.name] = rendition
        return rendition

    def _segment_of_source(self, window: PlaylistWindow, part: Part) -> OpenSegment | ListedSegment:
        """The source's segment of the same number; it stays known for longer than rungs are waited for."""
        source = self._source()
        number = window.open.sequence if window.open is not None else window.end
        if source.open is not None and source.open.sequence == number:
            return source.open
        assert source.list.first <= number < source.list.end, f"no segment {number} beside the part at {part.start}"
        return source.list[number]

    def segment_ended(self) -> None:
        """Complete the open segment."""
        self._expects_end = False
        if self._rendition is not None and self._rendition.window.open is not None:
            self._rendition.complete_segment(self._end)

    def segment_continued(self) -> None:
        """More of the open segment follows."""
        self._expects_end = False

    def flushed(self) -> None:
        """Publish the playlist."""
        if self._rendition is not None:
            self._publish(self._rendition)
            self._published()

    def discontinuity(self) -> None:
        """The next segment does not join on."""
        self._is_broken = True

    def interrupted(self) -> None:
        """The publisher may return."""

    def finish(self) -> None:
        """Nothing follows."""
        if self._rendition is not None:
            self._rendition.end()
            self._publish(self._rendition)

    def _publish(self, rendition: RungRendition, coming: str = "") -> None:
        hint = coming or self._hint(rendition.window)
        rendition.publish(hint, self._renditions.others(rendition, self._source()))

    def _hint(self, window: PlaylistWindow) -> str:
        """The name of the part that should come next; empty if there are none."""
        if window.ended or not window.has_parts:
            return ""
        if self._expects_end or self._is_broken:
            return part_name(window.next_sequence, 0)
        return self._next_part(window)

    def _next_part(self, window: PlaylistWindow) -> str:
        """The name of the part that comes next, if its segment continues."""
        return part_name(window.next_sequence, int(self._is_broken)) if window.open is None else window.open.next_part
