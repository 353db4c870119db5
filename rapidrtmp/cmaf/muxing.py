"""
Where the tracks of a range meet: cuts of the primary one go in, filled up with the others they leave as parts.

A part holds what the other tracks present while the primary one is shown, as far as they have come. Encoders interleave
by decode time, so when a part's last frame is here, the sound of its last moments is still under way: that is not
waited for, and leaves with the next part. Only when more is missing than that (see :meth:`Interleaving._usual_lag`),
the part waits. So sound may lie in parts a little earlier than the pictures that it belongs to, by this much and no
more; its decode times continue from part to part, and nothing is lost. What waits, and what stands in for a track that
pauses, is a matter of each :class:`~rapidrtmp.cmaf.companion.Companion`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rapidrtmp.cmaf.companion import Companion
from rapidrtmp.cmaf.cut import Cut
from rapidrtmp.cmaf.follower import Follower
from rapidrtmp.cmaf.fragment import DescribedRun
from rapidrtmp.cmaf.segmenter_events import CutEvent, SegmentContinued, SegmentEnd
from rapidrtmp.interfaces import Part
from rapidrtmp.media import Frame, MediaKind, Track

__all__ = ["Interleaving"]

#: So long a part waits for tracks that most players do not play, while it has those that they do.
LONGEST_FURTHER_MS = 100


class Interleaving:
    """
    The meeting of the tracks over one range.

    :param tracks: the primary one, and any number of others. Parts wait long for the first of audio beside video alone.
    :param patience: for how many ticks of the primary track a part waits for the others, at most.
    :ivar cuts: what has not left yet.
    :ivar companions: the other tracks by id, in order, but for those of video.
    """

    def __init__(self, tracks: Sequence[Track], patience: int) -> None:
        primary, *others = tracks
        self.cuts: deque[Cut | SegmentEnd | SegmentContinued] = deque()
        self._followers = {track.id: Follower(track) for track in others if track.kind is MediaKind.VIDEO}
        self.companions = {
            track.id: Companion(track, primary.timescale, patience)
            for track in others
            if track.id not in self._followers
        }
        self._primary = primary
        self._patience = patience
        self._further_patience = primary.timescale * LONGEST_FURTHER_MS // 1000

    def limit_alone(self, ms: int) -> None:
        """Without a frame of the primary track for so long, while others come, that has paused."""
        for companion in self.companions.values():
            companion.limit_alone(ms)

    def knows(self, track_id: int) -> bool:
        """Whether this is one of the other tracks."""
        return track_id in self.companions or track_id in self._followers

    def follow(self, frame: Frame) -> None:
        """Take a frame of a video track that follows; of a track that is none of these nothing comes."""
        follower = self._followers.get(frame.track.id)
        if follower is not None:
            follower.add(frame)

    def alone(self, newest: int | None) -> int:
        """How long other tracks have continued since the newest primary frame, in ticks of the primary one."""
        return max([companion.alone(newest) for companion in self.companions.values()], default=0)

    def passed_over(self, ticks: int) -> None:
        """Learn of a hole in the primary track."""
        for companion in self.companions.values():
            companion.passed_over(ticks)

    @property
    def others_end(self) -> int:
        """Up to which presentation time of the primary track the others have come; 0 if there are none."""
        return max([companion.end for companion in self.companions.values()], default=0)

    @property
    def has_remains(self) -> bool:
        """Whether frames of other tracks are left for which no part is waiting."""
        has_frames = any(companion.has_frames for companion in self.companions.values())
        return has_frames and not any(isinstance(cut, Cut) for cut in self.cuts)

    # ── out of it ────────────────────────────────────────────────────────────────────────────────────────────────────

    def gather(self, newest: int | None) -> list[CutEvent]:
        """
        What can leave now.

        :param newest: decode time up to which the primary track is there, if it is.
        """
        events: list[CutEvent] = []
        while self.cuts:
            cut = self.cuts[0]
            if not isinstance(cut, Cut):
                events.append(cut)
            elif self._has_caught_up(cut, newest):
                events.append(self._complete(cut, newest))
            else:
                break
            self.cuts.popleft()
        return events

    def gather_all(self, newest: int | None) -> list[CutEvent]:
        """Everything that is left; the last part takes all of the other tracks."""
        events: list[CutEvent] = []
        parts = sum(isinstance(cut, Cut) for cut in self.cuts)
        for cut in self.cuts:
            if isinstance(cut, Cut):
                parts -= 1
                events.append(self._complete(cut, newest, is_last=not parts))
            else:
                events.append(cut)
        self.cuts.clear()
        return events

    def _has_caught_up(self, cut: Cut, newest: int | None) -> bool:
        if newest is not None and newest - cut.end > self._patience:
            return True
        frame = cut.samples[-1].frame.duration if cut.samples else 0
        for index, companion in enumerate(self.companions.values()):
            is_further = index > 0 or self._primary.kind is MediaKind.AUDIO
            if is_further and newest is not None and newest - cut.end > self._further_patience:
                break
            needed = cut.shown_until - self._usual_lag(cut, frame + companion.frame_ticks)
            if not companion.has_reached(needed, cut, newest):
                return False
        return not self._followers or not self._awaits_followers(cut, newest)

    def _awaits_followers(self, cut: Cut, newest: int | None) -> bool:
        """Whether a part should wait a little for the other sizes of its pictures."""
        if newest is not None and newest - cut.end > self._further_patience:
            return False
        return any(follower.is_awaited(cut, newest) for follower in self._followers.values())

    def _usual_lag(self, cut: Cut, frames: int) -> int:
        """
        How much of another track may be missing at the end of a part for no other reason than that encoders
        interleave by decode time: one frame of each track, and the delay between decoding and presentation.
        """
        return min(frames + max(cut.offset, 0), self._patience)

    def _complete(self, cut: Cut, newest: int | None, *, is_last: bool = False) -> Part:
        runs = [DescribedRun(self._primary, cut.samples)] if cut.samples else []
        for companion in self.companions.values():
            samples = companion.take(cut, newest, is_last=is_last)
            if samples:
                runs.append(DescribedRun(companion.track, samples))
        for follower in self._followers.values():
            samples = follower.take(cut, is_last=is_last)
            if samples:
                runs.append(DescribedRun(follower.track, samples))
        first = cut.samples[0].frame if cut.samples else None
        return Part(
            runs=tuple(runs),
            start=cut.start,
            start_pts=cut.shown_from,
            duration=cut.end - cut.start,
            independent=cut.has_keyframe,
            on_keyframe=first is not None and first.keyframe and first.dts <= cut.start,
            starts_segment=cut.starts_segment,
            expected_last=cut.expected_last,
        )
