"""
The frame rate of a video track, measured: claims in the bitstream and in metadata are candidates, no more.

A frame rate is believed when the decode times of many frames in a row lie on its grid as closely as milliseconds allow,
and on no other rate's grid nearly as well: 29.97 and 30 frames a second differ by one millisecond in a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from rapidrtmp.media import VIDEO_TIMESCALE, CodecConfig, VideoConfig
from rapidrtmp.timeline.policy import TimelinePolicy

__all__ = ["COMMON_RATES", "LOOK_BACK", "FrameStep", "Grid", "anchor_grid", "claimed_rate", "claimed_rates", "fit_grid"]

#: Frame rates that cameras, films and encoders have, in frames a second.
COMMON_RATES = (
    *(Fraction(rate * 1000, 1001) for rate in (24, 30, 60, 120)),
    *(Fraction(rate) for rate in (5, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 144)),
    Fraction(25, 2),
    Fraction(15_000, 1001),
)

#: How many frames to measure at most: two seconds at 120 a second.
LOOK_BACK = 241


@lru_cache(maxsize=64)  # asked again for every frame of a start window
def claimed_rate(rate: Fraction) -> Fraction | None:
    """
    What a claim of ``rate`` frames a second means: 29.97 is 30000/1001.

    :returns: ``None`` if it is not worth a trial: below 1 or above 300.
    """
    if not 1 <= rate <= 300:
        return None
    return next((common for common in COMMON_RATES if abs(rate / common - 1) < Fraction(1, 5000)), rate)


@lru_cache(maxsize=64)
def claimed_rates(config: CodecConfig, rate: Fraction | None) -> tuple[Fraction, ...]:
    """
    The frame rates to try for a track, the most trusted first.

    :param config: whose bitstream may claim one, if it is of video.
    :param rate: what metadata claims.
    """
    rates = (config.frame_rate if isinstance(config, VideoConfig) else None, rate)
    claims = (claimed_rate(rate) for rate in rates if rate)
    return tuple(dict.fromkeys(claim for claim in claims if claim))


class FrameStep(NamedTuple):
    """The distance between frames at a constant rate: ``num / den`` ticks of 1/90000 s, 15015/4 at 23.976 a second."""

    num: int
    den: int

    @classmethod
    @lru_cache(maxsize=128)
    def of_rate(cls, rate: Fraction) -> FrameStep:
        """The step at ``rate`` frames a second."""
        step = VIDEO_TIMESCALE / rate
        return cls(step.numerator, step.denominator)

    @property
    def rate(self) -> Fraction:
        """Frames a second."""
        return Fraction(VIDEO_TIMESCALE * self.den, self.num)

    def ticks(self, index: int) -> int:
        """Where frame ``index`` is, in ticks after frame 0, rounded."""
        return (2 * index * self.num + self.den) // (2 * self.den)

    def nearest(self, ticks: int) -> int:
        """Which frame is nearest to ``ticks``."""
        return (2 * ticks * self.den + self.num) // (2 * self.num)


class Grid(NamedTuple):
    """Where frames are at a constant rate: ``anchor`` is the place of frame 0 in ticks."""

    step: FrameStep
    anchor: int


class _Fit(NamedTuple):
    """How a step fits: ``low..high`` is where frames are against the grid on the first one; ``spread`` its width."""

    spread: int
    low: int
    high: int
    step: FrameStep


def fit_grid(times: Sequence[int], claims: Sequence[Fraction], policy: TimelinePolicy) -> Grid | None:
    """
    Find the grid that frames are on.

    :param times: decode times of frames that follow each other, in ticks of 1/90000 s.
    :param claims: frame rates that the bitstream or metadata claims, the most trusted first. One that fits is believed
        before the numbers alone would tell.
    :returns: ``None`` if there are too few frames, no rate fits, or more than one does. The grid goes through the first
        frame as far as that leaves no other frame at its tolerance.
    """
    times = _unclamped(times)
    deltas = len(times) - 1
    if deltas < policy.candidate_deltas:
        return None
    widest, margin = _widest(policy), policy.rate_margin_us * 9 // 100
    if deltas < policy.measured_deltas:
        fits = [fit for rate in claims if (fit := _fit(times, FrameStep.of_rate(rate), widest))]
        return _anchored(fits[0], times[0], policy) if fits else None
    rates = {*claims, *COMMON_RATES}
    fits = sorted(fit for rate in rates if (fit := _fit(times, FrameStep.of_rate(rate), widest + margin)))
    if not fits or fits[0].spread > widest:
        return None
    if len(fits) > 1 and fits[1].spread - fits[0].spread < margin:
        return None
    return _anchored(fits[0], times[0], policy)


def anchor_grid(times: Sequence[int], step: FrameStep, policy: TimelinePolicy) -> Grid:
    """
    The grid that frames are on whose step is known.

    :param times: decode times of one or more frames that follow each other, in ticks of 1/90000 s. If they do not fit,
        because one is astray, the first says where the grid is.
    """
    times = _unclamped(times)
    fit = _fit(times, step, _widest(policy)) if len(times) > 1 else None
    return Grid(step, times[0]) if fit is None else _anchored(fit, times[0], policy)


def _widest(policy: TimelinePolicy) -> int:
    """Within how many ticks all frames of a grid are, if they fit it."""
    return 2 * policy.rate_fit_us * 9 // 100


def _unclamped(times: Sequence[int]) -> Sequence[int]:
    """
    Frames from the last one on that has the first one's time.

    GStreamer's FLV muxer writes no negative decode times: with B-frames, the first ones all have the time 0.
    """
    begin = 0
    while begin + 1 < len(times) and times[begin + 1] == times[0]:
        begin += 1
    return times[begin:] if begin else times


def _fit(times: Sequence[int], step: FrameStep, widest: int) -> _Fit | None:
    """
    Lay frames on a grid.

    :returns: ``None`` as soon as they spread wider than ``widest`` or two fall on one place, or if more than a third
        leave places free before them.
    """
    origin = times[0]
    # Cheap first: the mean distance is the step, or longer where frames are missing.
    if not 2 * step.num < 3 * step.den * (times[-1] - origin) // (len(times) - 1) < 6 * step.num:
        return None
    low = high = previous = neighbours = 0
    for time in times[1:]:
        index = step.nearest(time - origin)
        if index <= previous:
            return None
        neighbours += index == previous + 1
        previous = index
        residual = time - origin - step.ticks(index)
        if residual < low:
            low = residual
        elif residual > high:
            high = residual
        if high - low > widest:
            return None
    if 3 * neighbours < 2 * (len(times) - 1):
        return None
    return _Fit(high - low, low, high, step)


def _anchored(fit: _Fit, origin: int, policy: TimelinePolicy) -> Grid:
    slack = policy.grid_tolerance_us * 9 // 200
    anchor = max(min(0, fit.low + slack), fit.high - slack)
    if fit.spread > 2 * slack:
        anchor = (fit.low + fit.high) // 2
    return Grid(fit.step, origin + anchor)
