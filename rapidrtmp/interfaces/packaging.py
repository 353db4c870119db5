"""A stream's parts: what a sink takes that wants media cut and described, not single frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NamedTuple

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from rapidrtmp.media import Frame, TimedMetadata, Track, VideoConfig

__all__ = ["Constants", "Cutting", "IAllTracksSink", "IPartSink", "Part", "Sample", "TrackRun"]


@dataclass(frozen=True, slots=True)
class Cutting:
    """
    How a sink wants its stream cut.

    :ivar segment_ms: segments end at the first keyframe from here on.
    :ivar part_ms: about how long parts are; 0 for none.
    :ivar longest_gop_ms: without a second keyframe for this long, segments are cut without one.
    :ivar interleave_ms: how far audio may lag behind video before parts are written without it.
    :ivar keyframe_ms: how far apart keyframes are at most, where that is known beforehand: then the bounds need not
        wait for the first GOP, if its frames lie on a grid. 0 where it is not known.
    """

    segment_ms: int = 2_000
    part_ms: int = 333
    longest_gop_ms: int = 10_000
    interleave_ms: int = 500
    keyframe_ms: int = 0


@dataclass(frozen=True, slots=True)
class Constants:
    """
    The bounds that segments and parts keep; they never change once they are known.

    :ivar target_s: ``EXT-X-TARGETDURATION`` in seconds: no segment is longer, rounded.
    :ivar part_target_ms: ``PART-TARGET`` in milliseconds: no part is longer; 0 if there are no parts.
    :ivar is_early: whether they were chosen before the first GOP was whole.
    """

    target_s: int
    part_target_ms: int
    is_early: bool = field(default=False, compare=False)

    @property
    def longest_segment_ms(self) -> int:
        """The longest duration that still rounds to the target."""
        return self.target_s * 1000 + 499


class Sample(NamedTuple):
    """A frame and what it lasts, in ticks of its track: the distance to the next frame's decode time."""

    frame: Frame
    duration: int


class TrackRun(NamedTuple):
    """Samples of one track that follow one another in decode order without a gap."""

    track: Track
    samples: Sequence[Sample]


@dataclass(frozen=True, slots=True)
class Part:
    """
    A part, complete. Times are in ticks of the leading track.

    :ivar runs: its samples by track, the leading track first; empty where no media exists (a gap).
    :ivar start: where it begins.
    :ivar start_pts: when its first moment is to be shown, by the delay with which the range began.
    :ivar duration: how long it lasts by the playlist.
    :ivar independent: whether it holds a keyframe.
    :ivar on_keyframe: whether decoding can begin at its very first sample.
    :ivar starts_segment: whether it is its segment's first.
    :ivar expected_last: whether its segment should end with it. What became of that is known with the next frame at
        the latest: ``segment_ended`` or ``segment_continued``.
    :ivar metadata: what became known while it was cut; some of it may concern another moment.
    """

    runs: tuple[TrackRun, ...]
    start: int
    start_pts: int
    duration: int
    independent: bool
    on_keyframe: bool
    starts_segment: bool
    expected_last: bool
    metadata: tuple[TimedMetadata, ...] = ()

    @property
    def is_closed(self) -> bool:
        """Whether all of it can be decoded from its first sample on: none that is shown before that needs others."""
        samples = self.runs[0].samples if self.on_keyframe and self.runs else ()
        return bool(samples) and all(sample.frame.pts >= samples[0].frame.pts for sample in samples)

    @property
    def is_start(self) -> bool:
        """Whether playing can begin with it: all of it can be decoded, or decoders leave out what cannot (HEVC)."""
        config = self.runs[0].track.config if self.on_keyframe and self.runs else None
        return self.is_closed or (isinstance(config, VideoConfig) and config.skips_leading)

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + self.duration

    def of(self, track_ids: Sequence[int]) -> Part:
        """The same stretch of time with the samples of these tracks alone, in order; a gap if it has none of them."""
        runs = {run.track.id: run for run in self.runs}
        return replace(self, runs=tuple(runs[track_id] for track_id in track_ids if track_id in runs))


class IPartSink(Interface):
    """
    A sink that takes a stream's parts instead of its frames: a packager, a recorder.

    An ``ISinkFactory`` may make one. All of a stream's are given the very same parts: its frames are cut once.
    Called from the reactor thread, as an ``ISink`` is and under the same terms. The order: ``tracks_changed``; then
    ``part_cut`` per part and ``segment_ended`` behind the last one of each segment, ``flushed`` behind the calls that
    belong to one moment; ``tracks_changed``, ``discontinuity`` and ``interrupted`` wherever they happen; ``finish``
    once. One that is attached late begins with the segment that is open, if a decoder can start there, else with the
    next one that does.
    """

    cutting: Cutting = Attribute(
        """How it wants the stream cut; asked once. The first sink that ``leads`` decides for all of a stream."""
    )
    leads: bool = Attribute(
        """
        Whether ``cutting`` is to be kept to the letter. Else segments may be as short or long as another sink wants
        them, and so may parts: then several can be joined.
        """
    )
    constants: Constants | None = Attribute(
        """
        The bounds to keep, if they are known before the stream begins; asked once. With ``None`` they are chosen from
        the first GOP, which is held back until it is whole.
        """
    )

    def tracks_changed(tracks: tuple[Track, ...]) -> None:
        """
        Learn what the parts that follow consist of; see ``ISink.tracks_changed``. Of a stream's tracks these are the
        leading one and, beside video, the first of audio.
        """

    def constants_chosen(constants: Constants) -> None:
        """Learn which bounds segments and parts keep: once, before the first part."""

    def frame_rate_measured(frame_rate: Fraction | None) -> None:
        """Learn how many frames a second the leading track has: before the first part, and when that changes."""

    def part_cut(part: Part) -> None:
        """Take one part. It is immutable, and may be kept."""

    def segment_ended() -> None:
        """The segment of the parts before is complete; it ends where the last of them does."""

    def segment_continued() -> None:
        """The last part was expected to end its segment, and does not: more of that segment follows."""

    def flushed() -> None:
        """All calls that belong to one moment have been made: what was taken can be published."""

    def discontinuity() -> None:
        """What follows does not join on to what came before; see ``ISink.discontinuity``."""

    def interrupted() -> None:
        """The publisher is gone but may return; see ``ISink.interrupted``."""

    def finish() -> Deferred[None] | None:
        """End: no call follows; see ``ISink.finish``."""


class IAllTracksSink(IPartSink):
    """
    A part sink that takes every track that can be packaged, not the leading one and the first of audio alone.

    Its ``tracks_changed`` learns of all of them: the leading one, audio in order, then other sizes of the same picture.
    Its parts have a run for each that has samples in them; what another size has in a segment begins with a keyframe
    that is presented with the leading one's. A part never waits long for a track that other sinks do not have.
    """
