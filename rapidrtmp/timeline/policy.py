"""Every threshold of the media timeline, named: what is jitter, what is drift, what is a gap and what is a jump."""

from __future__ import annotations

from dataclasses import dataclass

from rapidrtmp.support.limits import limit

__all__ = ["TimelinePolicy"]


@dataclass(frozen=True, slots=True)
class TimelinePolicy:
    """
    Where the timeline draws its lines. The defaults suit encoders in the field; tests and odd publishers change them.

    The start window:

    :ivar start_media_ms: how much media to hold for a track that is not there yet, before starting without it.
    :ivar announced_media_ms: the same for a track that metadata has announced.
    :ivar left_out_ms: how long, by the server's clock, to wait for a track that can be taken when one has come that
        cannot; ``announced_media_ms`` where one is announced.
    :ivar start_wall_ms: how long to hold by the server's clock, for publishers whose timestamps stand still.
    :ivar start_settle_ms: but no sooner than this after the first frame held: the other track may be right behind.
    :ivar start_bytes: how many bytes of media to hold at most.
    :ivar start_frames: how many frames to hold at most.
    :ivar rate_hold_ms: how much media to hold at most, once all tracks are there, until the frame rate is known.
    :ivar audio_hole_ms: how much later than the video audio may begin; if more, a later keyframe that is held
        already begins the stream.
    :ivar late_track_ms: how long a late track, or a changed one, waits for a keyframe of the video that continues,
        before that video is cut off instead.

    The publisher's clock:

    :ivar wrap_24_ms: how closely a step must miss -2^24 ms to be the wrap of an encoder that counts in 24 bits.
    :ivar doubt_ms: a step of one track back by more than this, or ahead by more than this and more than its frames lead
        to expect and more than twice the time that has passed, is doubted: it takes a second frame to be believed.
    :ivar agree_ms: how close a doubted frame of the other track must be to be that second one.
    :ivar witness_ms: for how long, by the server's clock, the frames of a track whose step is believed are held until
        another track is heard, which tells whether it has jumped alone.
    :ivar witness_frames: how many of them, at most.
    :ivar jump_ms: a believed step of the whole clock ahead by more than this, in less than half the time, starts the
        timeline anew; any other is a gap.
    :ivar backward_jump_ms: so does a believed step of one track back by more than this; up to it, it is jitter.
    :ivar apart_ms: how far apart the tracks of one clock may be when one of them begins.
    :ivar straggler_ms: how long after a jump, by the server's clock, frames on the old clock are dropped.
    :ivar frozen_ms: for how long a track may repeat one timestamp, by the server's clock, before its times are made
        from arrivals.
    :ivar storm_breaks: when the timeline starts anew so often within ``storm_ms`` by the server's clock, the publisher
        is unusable.
    :ivar storm_ms: see there.
    :ivar skew_ms: how far audio and video may be apart, as they arrive, before it counts as a problem.
    :ivar skew_drift_ms: likewise by how much that may change in a minute.

    Video:

    :ivar candidate_deltas: how many frame distances confirm a frame rate that the bitstream or metadata claims.
    :ivar measured_deltas: how many confirm a frame rate that nothing claims.
    :ivar rate_fit_us: how far any frame may be from the grid of a frame rate that is to be confirmed.
    :ivar rate_margin_us: by how much the grid must fit better than that of every other frame rate.
    :ivar grid_tolerance_us: how far from its place on the grid a frame may arrive and still be put there.
    :ivar grid_lean_us: how far one frame outside the tolerance pulls the grid towards it.
    :ivar grid_misses: how many of those, within ``grid_misses_ms``, end the belief in the grid.
    :ivar grid_misses_ms: see there.
    :ivar free_ms: how long video then keeps the times it came with, before a grid is tried again.
    :ivar composition_ms: composition offsets are clamped to this, either way.
    :ivar composition_garbage_ms: offsets beyond this say nothing and are taken as 0.
    :ivar stale_presentation_ms: how long before the last keyframe a frame may be presented; earlier, its composition
        offset is taken as 0.

    Audio:

    :ivar audio_soft_frames: the error of the sample clock that is let be: this many frames or ``audio_soft_ms``,
        whichever is more. When it lasts at half of that, it is drift and is worked off.
    :ivar audio_soft_ms: see there.
    :ivar audio_hard_frames: the error that is a gap or an overlap: this many frames and ``audio_hard_ms`` on top.
    :ivar audio_hard_ms: see there.
    :ivar drift_ms: over how much media the error's median is taken.
    """

    start_media_ms: int = limit(2_000, "How long a new stream waits for its second track", key="start_window")
    announced_media_ms: int = 5_000
    left_out_ms: int = 1_000
    start_wall_ms: int = limit(5_000, "When a new stream starts with the tracks it has", key="start_deadline")
    start_settle_ms: int = 1_000
    start_bytes: int = 32 << 20
    start_frames: int = 4_096
    rate_hold_ms: int = 1_000
    audio_hole_ms: int = 500
    late_track_ms: int = 5_000

    wrap_24_ms: int = 1_000
    doubt_ms: int = 100
    agree_ms: int = 1_000
    witness_ms: int = 500
    witness_frames: int = 64
    jump_ms: int = 3_000
    backward_jump_ms: int = 500
    apart_ms: int = 10_000
    straggler_ms: int = 2_000
    frozen_ms: int = 500
    storm_breaks: int = 5
    storm_ms: int = 10_000
    skew_ms: int = 2_000
    skew_drift_ms: int = 100

    candidate_deltas: int = 10
    measured_deltas: int = 30
    rate_fit_us: int = 1_500
    rate_margin_us: int = 300
    grid_tolerance_us: int = 2_000
    grid_lean_us: int = 1_000
    grid_misses: int = 3
    grid_misses_ms: int = 2_000
    free_ms: int = 10_000
    composition_ms: int = 2_000
    composition_garbage_ms: int = 900_000
    stale_presentation_ms: int = 1_000

    audio_soft_frames: int = 2
    audio_soft_ms: int = 40
    audio_hard_frames: int = 3
    audio_hard_ms: int = 40
    drift_ms: int = 5_000
