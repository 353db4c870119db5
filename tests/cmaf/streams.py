"""Streams of every shape for Hypothesis, as the segmenter and the packager meet them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hypothesis import strategies as st

from rapidrtmp.interfaces import Cutting
from rapidrtmp.media import Frame
from rapidrtmp.testing.frames import (
    audio_frames,
    delayed,
    make_audio_track,
    make_video_track,
    video_frames,
    video_frames_at,
)

__all__ = ["AUDIO", "RATES", "VIDEO", "audios", "changing_videos", "cuttings", "free_videos", "videos"]

VIDEO, AUDIO = make_video_track(), make_audio_track()
RATES = [Fraction(24_000, 1001), *map(Fraction, (24, 25)), Fraction(30_000, 1001), *map(Fraction, (30, 50, 60, 10))]


@st.composite
def videos(draw: st.DrawFn, start: int = 0, seconds: int = 14) -> list[Frame]:
    """Video of an encoder on a grid, with B-frames, dropped frames and GOPs of any length."""
    rate = draw(st.sampled_from(RATES))
    gop = draw(st.integers(1, 150))
    count = round(rate * seconds)
    dropped = set(draw(st.lists(st.integers(1, count), max_size=12)))
    if draw(st.booleans()):
        first = draw(st.integers(1, count))
        dropped |= set(range(first, first + draw(st.integers(1, 60))))
    b_frames = draw(st.integers(0, 3))
    return video_frames(
        VIDEO, seconds, frame_rate=rate, gop=gop, b_frames=b_frames, start=start, dropped=dropped, size=20
    )


@st.composite
def free_videos(draw: st.DrawFn, start: int = 0) -> list[Frame]:
    """Video with frames at any time, some far apart, and keyframes anywhere."""
    steps = draw(
        st.lists(
            st.one_of(st.integers(1_000, 12_000), st.integers(1, 60_000), st.integers(1, 500_000)),
            min_size=1,
            max_size=150,
        )
    )
    times = [start + sum(steps[:index]) for index in range(len(steps))]
    keyframes = {0, *draw(st.lists(st.integers(0, len(steps)), max_size=20))}
    duration = draw(st.sampled_from([1_500, 3_000, 9_000, 45_000]))
    return video_frames_at(VIDEO, times, keyframes, duration=duration, size=20)


@st.composite
def changing_videos(draw: st.DrawFn, start: int = 0) -> list[Frame]:
    """Video of an encoder that keeps a rhythm for a while, and then another one, before or after the time."""
    times, durations, keyframes, time = [], [], set(), start
    for _ in range(draw(st.integers(1, 8))):
        step = draw(st.sampled_from([3_000, 1_500, 3_600, 9_000, 45_000]))
        gop, count = draw(st.sampled_from([1, 10, 20, 30, 60, 61, 10_000])), draw(st.integers(1, 130))
        keyframes |= {len(times) + number for number in range(count) if number % gop == 0}
        times += [time + number * step for number in range(count)]
        durations += [step] * count
        time = times[-1] + draw(st.one_of(st.just(step), st.integers(1, 2 * step), st.integers(1, 300_000)))
    frames = video_frames_at(VIDEO, times, {0, *keyframes}, size=20)
    delay = draw(st.sampled_from([0, 0, 3_000, 9_000]))
    return [
        replace(frame, duration=duration, composition_offset=delay)
        for frame, duration in zip(frames, durations, strict=True)
    ]


audios = st.builds(
    lambda seconds, lead, late, hole: delayed(
        [
            frame
            for frame in audio_frames(AUDIO, seconds, start=48_000 * (100 + lead) // 1000 * 10, size=20)
            if not hole < frame.dts < hole + 48_000
        ],
        late,
    ),
    st.integers(0, 20),
    st.integers(-100, 100),
    st.integers(-1_000, 1_000),
    st.integers(0, 960_000),
)
cuttings = st.builds(
    Cutting, segment_ms=st.sampled_from([1_000, 2_000, 6_000]), part_ms=st.sampled_from([100, 200, 333, 500, 1_000])
)
