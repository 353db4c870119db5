"""
Whether the publisher's clock advances as it should, stands still, or has jumped.

Almost every frame follows the one before it on its track and is let through at a glance. One that does not is doubted
and held back until there is a second opinion: the next frame of its track, or one of another track that is just as
far off. Two on the old clock make the one between them an outlier, whose time is estimated. Two that agree have the
word: the clock has jumped if they went back, or ahead by more than the time that has really passed; else they tell of a
gap, and stay where they say they are.

A clock is that of all tracks. Where only one track has jumped, and another continues on the clock of before, the one is
moved back to where it was: frames come as before, so it is the encoder's numbers that are wrong, and nothing is lost.
For that the frames of a track that has jumped are held until another has been heard.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from rapidrtmp.timeline.events import Coded
from rapidrtmp.timeline.pace import Pace
from rapidrtmp.timeline.policy import TimelinePolicy
from rapidrtmp.timeline.standstill import Standstill

__all__ = ["Judged", "JumpGuard", "Step"]

_NS_PER_MS = 1_000_000


class Step(enum.Enum):
    """
    How a frame's time follows from those before.

    ``CONTINUES``: jitter and gaps included. ``JUMPED``: a new clock begins with this frame. ``STRAGGLES``: the frame is
    still on the clock from before the last jump and fits nowhere. ``OUTLIER``: its time was far from those around it
    and has been estimated from them. ``FROZEN``: timestamps stand still, and its time is made from its arrival.
    ``SHIFTED``: the clock of its track alone has jumped, and its times are moved on from this frame on.
    """

    CONTINUES = "continues"
    JUMPED = "jumped"
    STRAGGLES = "straggles"
    OUTLIER = "outlier"
    FROZEN = "frozen"
    SHIFTED = "shifted"


class Judged(NamedTuple):
    """A frame with its time as it is to be used, and what was found about it."""

    step: Step
    coded: Coded


class _Held(NamedTuple):
    """A frame that is held back, and its time."""

    coded: Coded
    time_ms: int

    def moved(self, by_ms: int) -> _Held:
        """The same at another time."""
        if not by_ms:
            return self
        return _Held(self.coded._replace(time_ns=self.coded.time_ns + by_ms * _NS_PER_MS), self.time_ms + by_ms)


class _Track:
    """
    What is known of one track.

    :ivar step_ms: the distance between its last two frames, if that was an ordinary one.
    :ivar beside_ms: the latest time of another track when its last frame came.
    :ivar doubt: the frame that is held back, and those behind it.
    :ivar old: from a jump until the track shows the new clock: its last time on the old one, and when that arrived.
    """

    __slots__ = ("beside_ms", "doubt", "old", "pace", "standstill", "step_ms")

    def __init__(self, policy: TimelinePolicy) -> None:
        self.pace = Pace()
        self.standstill = Standstill(policy.frozen_ms)
        self.step_ms = 0
        self.beside_ms = 0
        self.doubt: _Doubt | None = None
        self.old: tuple[int, int] | None = None


class _Doubt(NamedTuple):
    """
    A track's first frame that is held back.

    :ivar heard: the other tracks, and the latest time of each by then.
    :ivar more: the frames behind it that agree with it.
    """

    coded: Coded
    time_ms: int
    heard: Sequence[tuple[_Track, int]]
    more: list[_Held]


class _Shift(NamedTuple):
    """By how much a track's times were moved on last, and when."""

    track: _Track
    by_ms: int
    now_ms: int


class JumpGuard:
    """
    Judges every coded frame's unwrapped time, in the order of arrival.

    Tracks share the publisher's clock but not its pace: audio may pause, or lag by seconds. So a step forward is a jump
    only if it is one both for its track and for the clock as a whole, while a step back counts by its track alone.

    :ivar shifts: what is to be added to the times of tracks, by their ids, before they are given to any method; nearly
        always empty. All times here have it added.
    """

    def __init__(self, policy: TimelinePolicy) -> None:
        self._policy = policy
        self._doubt_ms = policy.doubt_ms
        self._tracks: dict[int, _Track] = {}
        self._origin_ms: int | None = (
            None  # where the leads of all tracks are counted from; none before the first frame
        )
        self._straggling_until_ms = 0
        self._newest: _Track | None = None  # the track of the last frame
        self.shifts: dict[int, int] = {}
        self._last_shift: _Shift | None = None

    def pace(self, track_id: int) -> Pace:
        """How a track keeps pace with the server's clock; the same object for ever."""
        return self._track(track_id, 0).pace

    def follows(self, track_id: int, time_ms: int, now_ms: int) -> bool:
        """
        Whether the next frame of a track follows the one before at a glance, as almost every one does.

        If so it is taken note of; if not, :meth:`judge` it.

        :param time_ms: its unwrapped decode time.
        :param now_ms: when it arrived.
        """
        track = self._tracks.get(track_id)
        if track is None or track.doubt is not None:
            return False
        pace = track.pace
        step_ms = time_ms - pace.time_ms
        if not 0 < step_ms <= self._doubt_ms:
            return False
        track.step_ms = step_ms
        newest = self._newest
        if newest is not track and newest is not None:
            track.beside_ms = newest.pace.time_ms
            self._newest = track
        pace.note(time_ms, now_ms)
        return True

    def judge(self, coded: Coded, time_ms: int) -> Sequence[Judged] | None:
        """
        Judge the next frame.

        :param time_ms: its unwrapped decode time.
        :returns: ``None`` for almost every frame: it continues, as it came. Else what has become of it and of frames
            held back before it, in order; nothing while it is held back itself.
        """
        track_id = coded.track.id
        if self.follows(track_id, time_ms, coded.now_ms):
            return None
        return self._judge_closely(self._track(track_id, coded.now_ms), coded, time_ms)

    def settle(self, track_id: int) -> Sequence[Judged]:
        """Decide on a frame that is held back without a second opinion: it is an outlier, or fits nowhere."""
        track = self._tracks.get(track_id)
        if track is None or track.doubt is None:
            return ()
        if track.doubt.more:
            judged = self._believed(track, track.doubt)
            return (*judged, *self.settle(track_id))  # one of those behind it may be held back anew
        if track.pace.has_begun:
            return (self._estimated(track, track.pace.time_ms + 2 * track.step_ms),)
        doubt, track.doubt = track.doubt, None
        return (Judged(Step.STRAGGLES, doubt.coded),)

    # ── one frame ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _track(self, track_id: int, now_ms: int) -> _Track:
        track = self._tracks.get(track_id)
        if track is None:
            track = self._tracks[track_id] = _Track(self._policy)
            if self._origin_ms is not None:
                track.pace.restart(self._origin_ms, now_ms)
        return track

    def _judge_closely(self, track: _Track, coded: Coded, time_ms: int) -> Sequence[Judged] | None:
        if track.doubt is not None:
            return self._judge_second(track, track.doubt, coded, time_ms)
        if not track.pace.has_begun:
            return self._judge_first(track, coded, time_ms)
        pace = track.pace
        made_ms = track.standstill.made_time_ms(time_ms, coded.now_ms, pace.time_ms, pace.arrived_ms)
        if made_ms is not None:
            pace.note(made_ms, coded.now_ms)
            return (Judged(Step.FROZEN, coded._replace(time_ns=made_ms * _NS_PER_MS)),)
        if self._is_ordinary(track, coded, time_ms):
            self._accept(track, coded, time_ms)
            return None
        return self._along(track, coded, time_ms) or self._doubt(track, coded, time_ms)

    def _along(self, track: _Track, coded: Coded, time_ms: int) -> Sequence[Judged]:
        """Move a track on as another one has been just before, if that is where it belongs: they have jumped alike."""
        last = self._last_shift
        if last is None or last.track is track or coded.now_ms - last.now_ms > self._policy.straggler_ms:
            return ()
        held = _Held(coded, time_ms).moved(last.by_ms)
        if not self._is_ordinary(track, *held):
            return ()
        return self._shift(track, held, last.by_ms)

    def _judge_first(self, track: _Track, coded: Coded, time_ms: int) -> Sequence[Judged] | None:
        """The first frame of a track, ever or since the clock has jumped."""
        apart_ms = self._apart_ms(track, time_ms)
        if apart_ms is None:
            self._accept(track, coded, time_ms)
            return None
        if track.old is not None and coded.now_ms <= self._straggling_until_ms:
            old_ms, heard_ms = track.old
            off_ms = _outside(time_ms, old_ms, coded.now_ms - heard_ms + self._policy.backward_jump_ms)
            if off_ms + self._doubt_ms < apart_ms:
                return (Judged(Step.STRAGGLES, coded),)
        if apart_ms <= self._policy.apart_ms:
            self._accept(track, coded, time_ms)
            return None
        return self._doubt(track, coded, time_ms)

    def _is_ordinary(self, track: _Track, coded: Coded, time_ms: int) -> bool:
        """Whether a step is jitter, or no longer than the frames before lead to expect, or about as long as it took."""
        step_ms = time_ms - track.pace.time_ms
        usual_ms = max(self._doubt_ms, 4 * track.step_ms)
        passed_ms = coded.now_ms - track.pace.arrived_ms
        return step_ms >= -self._doubt_ms and (step_ms <= usual_ms or step_ms <= 2 * passed_ms)

    def _accept(self, track: _Track, coded: Coded, time_ms: int) -> None:
        if track.pace.has_begun:
            step_ms = time_ms - track.pace.time_ms
            track.step_ms = max(0, min(step_ms, self._policy.jump_ms // 4))
        elif self._origin_ms is None:
            self._restart(time_ms - coded.now_ms, coded.now_ms)
        track.old = None
        if self._newest is not None and self._newest is not track:
            track.beside_ms = self._newest.pace.time_ms
        self._newest = track
        track.pace.note(time_ms, coded.now_ms)

    def _restart(self, origin_ms: int, now_ms: int) -> None:
        """Begin the pace of all tracks anew."""
        self._origin_ms = origin_ms
        for each in self._tracks.values():
            each.pace.restart(origin_ms, now_ms)

    def _others(self, track: _Track) -> list[_Track]:
        return [each for each in self._tracks.values() if each is not track]

    def _apart_ms(self, track: _Track, time_ms: int) -> int | None:
        """How far a time is from the nearest of the other tracks on the clock of now; ``None`` if there is none."""
        apart = [abs(time_ms - each.pace.time_ms) for each in self._others(track) if each.pace.has_begun]
        return min(apart, default=None)

    # ── doubts ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _doubt(self, track: _Track, coded: Coded, time_ms: int) -> Sequence[Judged]:
        for other in self._others(track):
            doubt = other.doubt
            if doubt is not None and abs(time_ms - doubt.time_ms) <= self._policy.agree_ms:
                return self._confirmed(other, doubt, coded, time_ms)
        heard = [(each, each.pace.time_ms) for each in self._others(track)]
        track.doubt = _Doubt(coded, time_ms, heard, [])
        return ()

    def _judge_second(self, track: _Track, doubt: _Doubt, coded: Coded, time_ms: int) -> Sequence[Judged]:
        """The frame after a doubted one has come: whichever clock it is nearer to is the right one."""
        now_ms = coded.now_ms
        if track.pace.has_begun:
            passed_ms = now_ms - track.pace.arrived_ms
            old_ms = _outside(time_ms, track.pace.time_ms, 2 * max(track.step_ms, passed_ms))
        else:
            apart_ms = self._apart_ms(track, time_ms) or 0
            old_ms = max(0, apart_ms - self._policy.apart_ms)
        passed_ms = now_ms - doubt.coded.now_ms
        if old_ms < _outside(time_ms, doubt.time_ms, max(track.step_ms, passed_ms)):
            outliers = [self._estimated(track, time_ms)]
            for each in doubt.more:
                track.doubt = doubt._replace(coded=each.coded)
                outliers.append(self._estimated(track, time_ms))
            return (*outliers, *self._judge_after(coded, time_ms))
        witness = self._witness(doubt, now_ms)
        if witness is None and self._may_hear_more(doubt, now_ms):
            doubt.more.append(_Held(coded, time_ms))
            return ()
        by_ms = self._astray_ms(track, doubt, witness) if witness is not None else 0
        if not by_ms:
            return self._confirmed(track, doubt, coded, time_ms)
        track.doubt = None
        first, *more = (_Held(doubt.coded, doubt.time_ms), *doubt.more, _Held(coded, time_ms))
        judged = list(self._shift(track, first.moved(by_ms), by_ms))
        for held in more:
            judged += self._judge_after(*held.moved(by_ms))
        return judged

    def _witness(self, doubt: _Doubt, now_ms: int) -> _Track | None:
        """A track that has continued on the clock of before since a frame was doubted."""
        spoke = [each for each, time_ms in doubt.heard if self._is_alive(each, now_ms) and each.pace.time_ms != time_ms]
        return max(spoke, key=lambda each: each.pace.arrived_ms, default=None)

    def _is_alive(self, track: _Track, now_ms: int) -> bool:
        is_doubted = track.doubt is not None
        return track.pace.has_begun and not is_doubted and now_ms - track.pace.arrived_ms <= self._policy.agree_ms

    def _may_hear_more(self, doubt: _Doubt, now_ms: int) -> bool:
        """Whether another track may still be heard on one clock or the other."""
        policy = self._policy
        is_soon = now_ms - doubt.coded.now_ms < policy.witness_ms and len(doubt.more) < policy.witness_frames
        return is_soon and any(self._is_alive(each, now_ms) for each, _ in doubt.heard)

    def _astray_ms(self, track: _Track, doubt: _Doubt, witness: _Track) -> int:
        """
        What has to be added to the times of a track that has jumped alone; 0 if it has not: then it is nearer to the
        other one now than it would be without its step, as behind a pause that it had and the other one had not.
        """
        if not track.pace.has_begun:
            return witness.pace.time_ms + doubt.coded.now_ms - witness.pace.arrived_ms - doubt.time_ms
        passed_ms, step_ms = doubt.coded.now_ms - track.pace.arrived_ms, max(track.step_ms, 1)
        due_ms = track.pace.time_ms + (passed_ms if passed_ms > self._doubt_ms + 4 * step_ms else step_ms)
        by_ms = due_ms - doubt.time_ms
        beside_ms = witness.pace.time_ms + track.pace.time_ms - track.beside_ms
        gained_ms = abs(doubt.time_ms - beside_ms) - abs(due_ms - beside_ms)
        return by_ms if abs(by_ms) > self._policy.backward_jump_ms and 2 * gained_ms > abs(by_ms) else 0

    def _shift(self, track: _Track, held: _Held, by_ms: int) -> Sequence[Judged]:
        """Move the times of a track on from a frame on, which is moved already."""
        coded, time_ms = held
        self.shifts[coded.track.id] = self.shifts.get(coded.track.id, 0) + by_ms
        self._last_shift = _Shift(track, by_ms, coded.now_ms)
        self._accept(track, coded, time_ms)
        return (Judged(Step.SHIFTED, coded),)

    def _confirmed(self, track: _Track, doubt: _Doubt, coded: Coded, time_ms: int) -> Sequence[Judged]:
        """
        Let a doubted frame's time count.

        :param track: the track of the doubted frame.
        :param coded: the frame that confirms it, of either track, and its ``time_ms``.
        """
        shifts = dict(self.shifts)
        judged = self._believed(track, doubt)
        if not self.shifts:  # those times are of another clock now
            coded, time_ms = _Held(coded, time_ms).moved(-shifts.get(coded.track.id, 0))
        return (*judged, *self._judge_after(coded, time_ms))

    def _believed(self, track: _Track, doubt: _Doubt) -> Sequence[Judged]:
        """Let the times of a doubted frame and of those behind it count."""
        track.doubt = None
        shift_ms = self.shifts.get(doubt.coded.track.id, 0)
        if self._is_jump(track, doubt):
            judged = self._jump(track, _Held(doubt.coded, doubt.time_ms))
        else:
            shift_ms = 0
            self._accept(track, doubt.coded, doubt.time_ms)
            judged = [Judged(Step.CONTINUES, doubt.coded)]
        for held in doubt.more:
            judged += self._judge_after(*held.moved(-shift_ms))
        return judged

    def _judge_after(self, coded: Coded, time_ms: int) -> Sequence[Judged]:
        """Judge a frame that has just decided on another."""
        judged = self.judge(coded, time_ms)
        return (Judged(Step.CONTINUES, coded),) if judged is None else judged

    def _estimated(self, track: _Track, next_ms: int) -> Judged:
        """A doubted frame on the old clock after all: half way between its neighbours."""
        assert track.doubt is not None
        coded, track.doubt = track.doubt.coded, None
        before_ms = track.pace.time_ms if track.pace.has_begun else next_ms
        time_ms = max(before_ms, (before_ms + next_ms) // 2)
        coded = coded._replace(time_ns=time_ms * _NS_PER_MS)
        self._accept(track, coded, time_ms)
        return Judged(Step.OUTLIER, coded)

    # ── jumps ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _is_jump(self, track: _Track, doubt: _Doubt) -> bool:
        policy = self._policy
        if not track.pace.has_begun:
            return True
        if doubt.time_ms - track.pace.time_ms < -policy.backward_jump_ms:
            return True
        latest = max((each.pace for each in self._tracks.values()), key=lambda pace: pace.time_ms)
        ahead_ms = doubt.time_ms - latest.time_ms
        # A stall may have delayed even the latest frame: what counts is the time since it should have come.
        passed_ms = doubt.coded.now_ms - min(latest.due_ms(latest.time_ms), latest.arrived_ms)
        return ahead_ms > policy.jump_ms and 2 * passed_ms < ahead_ms

    def _jump(self, track: _Track, held: _Held) -> list[Judged]:
        """Begin anew with a frame; those of the other track that are held back may be on the new clock too."""
        shifts = dict(self.shifts)
        self.shifts.clear()
        coded, time_ms = held.moved(-shifts.get(held.coded.track.id, 0))
        now_ms = coded.now_ms
        lead_ms = max(0, *(each.pace.lead_at(now_ms) for each in self._tracks.values()))
        for track_id, each in self._tracks.items():
            if each.pace.has_begun:
                each.old = each.pace.time_ms - shifts.get(track_id, 0), each.pace.arrived_ms
        self._restart(time_ms - now_ms - lead_ms, now_ms)
        self._straggling_until_ms = now_ms + self._policy.straggler_ms
        self._accept(track, coded, time_ms)
        judged = [Judged(Step.JUMPED, coded)]
        for other in self._others(track):
            if other.doubt is not None:
                doubt, other.doubt = other.doubt, None
                for waiting in (_Held(doubt.coded, doubt.time_ms), *doubt.more):
                    judged += self._judge_after(*waiting.moved(-shifts.get(waiting.coded.track.id, 0)))
        return judged


def _outside(time_ms: int, from_ms: int, within_ms: int) -> int:
    """How far a time is from the span of ``within_ms`` that begins at ``from_ms``; 0 in it."""
    return max(from_ms - time_ms, time_ms - from_ms - within_ms, 0)
