"""
Where to cut: frames in, parts out.

One track is *primary* (video, or audio where there is no video): its frames decide where parts and segments begin. A
frame's duration is the distance to its successor. So most decisions fall when the successor arrives:

- a keyframe ends the segment once the wanted length is there, or if waiting for the next one would take it past what
  the target duration allows; past that, a segment is cut without a keyframe;
- a part ends before the frame that would take it past the part target. Where frames are so far apart that the part
  would then be too short (RFC 8216 bis, 4.4.4.9), its boundary falls *inside* a frame: the part lasts exactly the part
  target. The frame belongs to the part behind the boundary, or, if it is alone, to the one before. A frame that stays
  for longer than a part leaves parts without any picture behind it. The end of the longest segment is such a boundary.

Where the rhythm of the frames is steady (``cadence.py``), the successor's time is known in advance. Then a part is
closed *ahead*: with the arrival of its last frame, at the time at which the next one is due. Whether the segment ends
there as well is certain only with that next one, and a separate event:
:class:`~rapidrtmp.cmaf.segmenter_events.SegmentEnd` comes with the keyframe. Should the frame not come when it was due,
what has left stays true: the part behind begins where the one before has ended, and so does the decode time of its
first frame; when that is presented remains what it was.

Cutting the primary track makes a :class:`~rapidrtmp.cmaf.cut.Cut`; it leaves as a part when the other tracks have
caught up to it. Parts therefore partition time without a hole, and decode times continue across them.

No pause of one track stops the others, for players show nothing that is not there of every track. Where another track
pauses there is silence (``companion.py``). Where the primary one does, and others continue, the last keyframe stands in
for it once a part, as a *still*: it decodes by itself, so viewers who join see it as well. Before the pictures continue
with one that is no keyframe, the GOP they belong to is decoded again, a tick each, so that none is lost or spoilt. How
far apart the clocks of the tracks are does not matter for that, only that frames of one come and of the other do not.

Until the first GOP is whole nothing leaves: the playlist's constants are chosen from it (``first_gop.py``). Where it is
known beforehand how far apart keyframes are, a part of it is enough. Should they be further apart than that, what was
chosen is kept all the same, and segments are cut without a keyframe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from rapidrtmp.cmaf.cadence import Cadence
from rapidrtmp.cmaf.companion import Companion
from rapidrtmp.cmaf.cut import Cut
from rapidrtmp.cmaf.first_gop import Opening
from rapidrtmp.cmaf.last_gop import LastGop
from rapidrtmp.cmaf.muxing import Interleaving
from rapidrtmp.cmaf.segmenter_events import CutEvent, SegmentContinued, SegmentEnd
from rapidrtmp.cmaf.targets import SHORTEST_PART_PERCENT
from rapidrtmp.interfaces import Constants, Cutting, Sample
from rapidrtmp.media import Frame, MediaKind, Track, VideoConfig

__all__ = ["Segmenter", "main_tracks", "packaged_tracks"]

#: Players give up a playlist that has had no news for three and a half target durations.
PATIENCE_TARGETS = 3
#: Of a frame that lasts longer the end is not promised: should others come before it, they would pile up there.
LONGEST_AHEAD_MS = 100
#: The primary track has paused when it has brought nothing for so long, or for so many parts: players that stay the
#: recommended three parts behind have nothing left to show.
LEAST_PAUSE_MS, PAUSE_PARTS = 1_400, 3
#: Pictures that come too late for so long, while other tracks continue, are of a clock that stays behind.
LONGEST_LATE_MS = 1_000
#: Sound that is left at the end of a range, and belongs to pictures that are listed already, is a part of its own.
LEAST_PART_MS = 1
#: So many sizes of the picture are packaged.
MOST_SIZES = 8


def packaged_tracks(tracks: Sequence[Track]) -> tuple[Track, ...]:
    """
    Those tracks of a stream that are cut together: the leading one, all of audio, and beside video then other video of
    the same shape, which is the same picture in another size.
    """
    leading, *others = tracks
    audio = [track for track in others if track.kind is MediaKind.AUDIO]
    if leading.kind is not MediaKind.VIDEO:
        return (leading, *audio)
    sizes = [track for track in others if track.kind is MediaKind.VIDEO and _has_shape(track, leading)]
    return (leading, *audio, *sizes[: MOST_SIZES - 1])


def main_tracks(packaged: Sequence[Track]) -> tuple[Track, ...]:
    """Those of them that are muxed: the leading one, and beside video the first of audio."""
    leading, *others = packaged
    is_accompanied = leading.kind is MediaKind.VIDEO and others and others[0].kind is MediaKind.AUDIO
    return (leading, others[0]) if is_accompanied else (leading,)


def _has_shape(track: Track, leading: Track) -> bool:
    """Whether pictures are as wide for their height as those of the leading track, within one percent."""
    shape, wanted = _shape(track), _shape(leading)
    return abs(shape - wanted) * 100 <= wanted


def _shape(track: Track) -> Fraction:
    config = track.config
    assert isinstance(config, VideoConfig)
    horizontal, vertical = config.pixel_aspect if all(config.pixel_aspect) else (1, 1)
    return Fraction(config.width * horizontal, max(config.height * vertical, 1))


class Segmenter:
    """
    Cuts one stream's frames into parts.

    :ivar constants: ``None`` until the first GOP is whole; never changes then.
    :ivar frame_rate: primary frames a second, as known when the first GOP of the range was whole.
    """

    def __init__(self, cutting: Cutting) -> None:
        self.cutting = cutting
        self.constants: Constants | None = None
        self.frame_rate: Fraction | None = None
        self._tracks: tuple[Track, ...] = ()
        self._primary_id = 0
        self._opening = Opening(cutting)
        self._pause_ms = LEAST_PAUSE_MS

    def _begin_range(self) -> None:
        self._newest_dts: int | None = None  # of the newest primary frame; none while the other track continues alone
        self._loose: Frame | None = None  # that frame, as long as it is in no part: its duration is not known yet
        self._open: Cut | None = None
        self._promised: int | None = None  # where a part was closed ahead, until the next frame has come
        self._expects_end = False  # whether the segment should end there
        self._segment_start = 0
        self._cadence = Cadence()
        self._offset = 0  # presentation minus decode time at the start of the range
        self._gop = LastGop()
        self._is_still = False  # whether the newest picture is a still
        self._late_since: int | None = None  # where others were when pictures began to come too late
        self._shift = 0  # what the primary track is moved on by
        timescale = self._primary.timescale
        self._interleave = self.cutting.interleave_ms * timescale // 1000
        self._meeting = Interleaving(self._tracks, self._interleave)
        self._meeting.limit_alone(self._pause_ms)

    # ── frames in ────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, tracks: tuple[Track, ...]) -> None:
        """
        Learn the tracks of the frames that follow; what came before must have been flushed.

        :param tracks: the primary one and any number of others. Frames of tracks that are not among them may come and
            are passed over.
        """
        self._tracks = tracks
        self._primary_id = self._primary.id
        self._wanted = self.cutting.segment_ms * self._primary.timescale // 1000
        self._begin_range()
        if self.constants is not None:
            self._apply(self.constants)

    @property
    def _primary(self) -> Track:
        return self._tracks[0]

    def add(self, frame: Frame) -> list[CutEvent]:
        """Take one frame; return the parts that are complete with it, and what became of their segments, in order."""
        if self.constants is None:
            return self._add_to_opening(frame)
        track_id = frame.track.id
        if track_id == self._primary_id:
            self._take_primary(frame)
        else:
            companion = self._meeting.companions.get(track_id)
            if companion is None:
                self._meeting.follow(frame)
            elif companion.add(frame, self._newest_dts):
                self._stand_in(companion, frame.arrived_ms)
        if not self._meeting.cuts:
            return []
        return self._meeting.gather(self._reached)

    def _add_to_opening(self, frame: Frame) -> list[CutEvent]:
        """Take one frame before the constants are chosen; see :meth:`add`."""
        is_primary = frame.track.id == self._primary_id
        if not is_primary and not self._meeting.knows(frame.track.id):
            return []
        if not self._opening.hold(frame, self._tracks):
            return []
        return self._settle(is_gop_whole=frame.keyframe and is_primary)

    def flush(self) -> list[CutEvent]:
        """
        End the range: everything held leaves now, the last frame with its nominal duration.

        If other tracks continued for long without the primary one, its last picture stays as long. Frames of other
        tracks without any of the primary one are nothing to show, and dropped.
        """
        events = self._settle(is_gop_whole=True) if self.constants is None and self._opening.frames else []
        cut = self._open
        if cut is not None:
            end = self._range_end(cut)
            self._end_segment(self._reach_over(cut, self._loose, end), end)
            events += self._meeting.gather_all(self._reached)
        self._begin_range()
        return events

    def _range_end(self, cut: Cut) -> int:
        last, alone = self._loose, self._meeting.alone(self._newest_dts)
        if last is not None:
            end = last.dts + (1 if self._is_still else max(last.duration, 1))
            if self._newest_dts is not None and alone > self._interleave:
                return max(end, self._newest_dts + alone)
            return end
        if cut.samples or cut.starts_segment or self._meeting.has_remains:
            least, others_end = self._primary.timescale * LEAST_PART_MS // 1000, self._meeting.others_end - self._offset
            is_tail = others_end <= cut.start + self._interleave  # else others are ahead all the time
            return max(others_end if is_tail else 0, cut.start + least)
        return cut.start

    @property
    def _reached(self) -> int | None:
        """Up to which decode time the primary track is there, stills included."""
        if self._is_still and self._loose is not None:
            return self._loose.dts
        return self._newest_dts

    def _settle(self, *, is_gop_whole: bool) -> list[CutEvent]:
        """Choose the constants, then cut what was held."""
        self.constants = self._opening.choose(self._primary, is_gop_whole=is_gop_whole)
        self._apply(self.constants)
        self._cadence.known_gop = self._opening.early_gop
        self._closes_ahead = False  # what comes after each of these is known, and maybe not what is due
        events = [event for frame in self._opening.frames for event in self.add(frame)]
        self._opening.frames.clear()
        self._apply(self.constants)
        return events

    def _apply(self, constants: Constants) -> None:
        timescale = self._primary.timescale
        self._longest_segment = constants.longest_segment_ms * timescale // 1000
        part_ms = constants.part_target_ms or constants.longest_segment_ms
        self._longest_part = part_ms * timescale // 1000
        self._shortest_part = -(-part_ms * timescale * SHORTEST_PART_PERCENT // 100_000)
        self._patience = PATIENCE_TARGETS * constants.target_s * timescale
        self._closes_ahead = constants.part_target_ms > 0
        self._longest_ahead = timescale * LONGEST_AHEAD_MS // 1000
        self._pause_ms = max(LEAST_PAUSE_MS, PAUSE_PARTS * constants.part_target_ms)
        self._meeting.limit_alone(self._pause_ms)

    # ── cutting the primary track ────────────────────────────────────────────────────────────────────────────────────

    def _take_primary(self, frame: Frame) -> None:
        self._cadence.saw(frame)
        if self.frame_rate is None or (frame.keyframe and self._cadence.keyframes == 2):
            self.frame_rate = frame.rhythm.frame_rate
        if self._shift:
            frame = replace(frame, dts=frame.dts + self._shift)
        if self._is_still:
            self._resume(frame)
        last, dts, duration = self._loose, frame.dts, frame.duration
        if self._promised is not None or (last is not None and dts <= last.dts):
            frame = self._joined(frame)
            dts = max(dts, frame.dts)
        newest, self._newest_dts = self._newest_dts, dts
        if newest is not None and dts - newest > self._interleave:
            self._meeting.passed_over(dts - newest)
        self._place(frame, dts, duration)
        if self._closes_ahead:
            self._close_ahead(frame)

    def _place(self, frame: Frame, dts: int, duration: int) -> None:
        """
        Continue with a frame.

        :param dts: when it comes, and how long it should stay from there on: not its decode time and duration where
            those were made to join on to what has left.
        """
        cut, last = self._open, self._loose
        self._loose = frame
        if cut is None:
            self._offset = frame.composition_offset
            self._begin_segment(dts)
            return
        cut = self._reach_over(cut, last, dts)
        boundary = self._boundary(cut, dts)
        has_begun = 2 * (boundary - self._segment_start) > duration
        if has_begun and self._ends_segment(dts, duration, keyframe=frame.keyframe):
            self._end_segment(cut, boundary)
            self._begin_segment(boundary)
        else:
            if self._expects_end:
                self._goes_on()
            length = dts - cut.start
            if length >= self._shortest_part and (frame.keyframe or length + duration > self._longest_part):
                self._begin_part(cut, dts)

    def _joined(self, frame: Frame) -> Frame:
        """
        The frame as it joins on to what has left. Behind a part that was closed ahead, decode times continue where it
        ended, whenever the frame itself comes; players would take a hole for the end of all that can be decoded.
        """
        promised, self._promised, last = self._promised, None, self._loose
        if last is not None:  # the one before was moved past it
            return self._late(frame, last.dts + 1)
        if promised is None or frame.dts == promised or frame.dts - promised > self._patience:
            return frame
        return self._late(frame, promised) if frame.dts < promised else _decoded_at(frame, promised)

    def _late(self, frame: Frame, floor: int) -> Frame:
        """
        A frame whose decode time has left already. Those that were held up are decoded at once, and it has its place
        again before long; if the track's clock is behind for good, it is moved on.
        """
        others_end = self._meeting.others_end
        if floor - frame.dts < self._interleave:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = others_end
        elif (others_end - self._late_since) * 1000 > LONGEST_LATE_MS * self._primary.timescale:
            self._late_since = None
            self._shift += floor - frame.dts
            return replace(frame, dts=floor)
        return _decoded_at(frame, floor)

    def _boundary(self, cut: Cut, dts: int) -> int:
        """Where the open part ends if it has to before a frame; nowhere, if it is empty and too short for a part."""
        return cut.start if not cut.samples and dts - cut.start < self._shortest_part else dts

    def _close_ahead(self, frame: Frame) -> None:
        """Close the open part with its newest frame, if its end is known in advance and no other would fit in."""
        cut, due = self._open, self._cadence.next_dts
        if cut is None or due is None or due - cut.start < self._shortest_part or frame.duration > self._longest_ahead:
            return
        is_keyframe_due = self._cadence.is_keyframe_due
        expects_end = self._ends_segment(due, frame.duration, keyframe=is_keyframe_due)
        is_full = due - cut.start + frame.duration > self._longest_part
        if not (is_full or is_keyframe_due or expects_end) or due > self._latest_end(cut):
            return
        cut.samples.append(Sample(frame, due - frame.dts))
        cut.expected_last = expects_end
        self._begin_part(cut, due)
        self._loose, self._promised, self._expects_end = None, due, expects_end

    # ── pauses of the primary track ──────────────────────────────────────────────────────────────────────────────────

    def _stand_in(self, companion: Companion, arrived_ms: int) -> None:
        """Continue without the primary track, which has paused: with stills, or else with the other tracks alone."""
        cut, newest = self._open, self._newest_dts
        if cut is None or newest is None:
            companion.forget_old()
            return
        due = newest + companion.alone(newest)
        if self._primary.kind is MediaKind.AUDIO or not (self._is_still or self._gop.is_whole(cut, self._loose)):
            last, self._loose = self._loose, None
            cut = self._reach_over(cut, last, max(due, cut.start))
            self._promised = cut.start
            return
        while (at := self._next_still()) <= due:
            still = self._gop.still(self._loose, at, self._offset, self._longest_part)
            self._promised, self._is_still = None, True
            self._place(replace(still, arrived_ms=arrived_ms), at, self._longest_part)
            companion.came_with(at)

    def _next_still(self) -> int:
        """Where the next still belongs: at the next boundary of parts."""
        cut, last = self._open, self._loose
        assert cut is not None
        if last is None:
            return cut.start if not cut.samples else self._latest_end(cut)
        return max(self._latest_end(cut), last.dts + 1)

    def _resume(self, frame: Frame) -> None:
        """Pictures continue after stills: unless with a keyframe, their GOP is decoded again first."""
        self._is_still = False
        still = self._loose
        if frame.keyframe or still is None:
            return
        for again in self._gop.again(still, frame.dts):
            self._place(again, again.dts, again.duration)

    def _ends_segment(self, dts: int, duration: int, *, keyframe: bool) -> bool:
        """Whether a frame that begins at ``dts`` would be the first of the next segment."""
        elapsed = dts - self._segment_start
        if keyframe:
            enough = elapsed >= self._wanted - duration // 2
            gop = duration if self._is_still else self._cadence.longest_gop
            return enough or elapsed + gop > self._longest_segment
        return elapsed + duration > self._longest_segment

    def _latest_end(self, cut: Cut) -> int:
        """Where an open part must end: with the longest part, or the longest segment."""
        return min(cut.start + self._longest_part, self._segment_start + self._longest_segment)

    def _reach_over(self, cut: Cut, last: Frame | None, end: int) -> Cut:
        """
        Put ``last``, if it is not yet in a part, into the open part now that it is known to last up to ``end``; where
        that is past what a part may hold, close parts before and inside it. Returns the part that is open at ``end``.
        """
        latest = self._latest_end(cut)
        if last is not None:
            if end > latest:
                cut = self._make_room(cut, last, end)
                latest = self._latest_end(cut)
            cut.samples.append(Sample(last, end - last.dts))
        while end > latest:
            cut = self._next_part(cut, latest)
            latest = self._latest_end(cut)
        return cut

    def _make_room(self, cut: Cut, last: Frame, end: int) -> Cut:
        """Close the open part before a frame that reaches out of it, or inside that frame; returns where to put it."""
        if last.dts - cut.start >= self._shortest_part:
            cut = self._next_part(cut, last.dts)
        if end > self._latest_end(cut) and cut.samples:
            cut = self._next_part(cut, self._latest_end(cut))
        return cut

    def _next_part(self, cut: Cut, boundary: int) -> Cut:
        """Close a part away from any arriving frame, and with it the segment if it is as long as can be."""
        if boundary - self._segment_start < self._longest_segment:
            return self._begin_part(cut, boundary)
        self._end_segment(cut, boundary)
        return self._begin_segment(boundary)

    # ── what has been cut ────────────────────────────────────────────────────────────────────────────────────────────

    def _begin_segment(self, start: int) -> Cut:
        self._segment_start = start
        self._open = Cut(start, self._offset, starts_segment=True)
        return self._open

    def _begin_part(self, cut: Cut, start: int) -> Cut:
        """Close a part and begin the next one of the same segment."""
        self._close(cut, start)
        self._open = Cut(start, self._offset, starts_segment=False)
        return self._open

    def _end_segment(self, cut: Cut, end: int) -> None:
        """Close a part, if there is anything to it, and its segment."""
        if end > cut.start:
            self._close(cut, end)
        self._expects_end = False
        self._meeting.cuts.append(SegmentEnd(end))

    def _close(self, cut: Cut, end: int) -> None:
        self._goes_on()
        cut.end = end
        self._meeting.cuts.append(cut)
        if not self._is_still:
            self._gop.closed(cut)

    def _goes_on(self) -> None:
        """If the segment was expected to end with the part closed last, it does not."""
        if self._expects_end:
            self._expects_end = False
            self._meeting.cuts.append(SegmentContinued())


def _decoded_at(frame: Frame, dts: int) -> Frame:
    """
    The frame with another decode time. It is presented when it was to be and ends when it did, unless the decode time
    is past that: no composition offset becomes negative, for players take those for a delay of the whole track.
    """
    offset = max(frame.pts - dts, min(0, frame.composition_offset))
    return replace(frame, dts=dts, composition_offset=offset, duration=max(1, frame.dts + frame.duration - dts))
