"""
Room for ladders on the processors of this machine: a ladder begins only if all that run can keep up.

What a ladder takes is estimated by its pixels, from measurements with one core of an EPYC server, and corrected by what
its child turns out to take.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable, Sequence
from fractions import Fraction
from pathlib import Path

from rapidrtmp.media import VideoConfig
from rapidrtmp.transcode.rungs import RungSize

__all__ = ["ROOM", "Room", "available_cores", "estimated_cores"]

#: So much of the processors is for ladders; the rest is the server's.
SHARE = 0.7
#: Core-seconds for a million pixels: of decoding, and of scaling and coding by preset of libx264.
DECODING = 0.0021
CODING = {
    "ultrafast": 0.0063,
    "superfast": 0.009,
    "veryfast": 0.0126,
    "faster": 0.02,
    "fast": 0.026,
    "medium": 0.032,
    "slow": 0.055,
    "slower": 0.1,
    "veryslow": 0.18,
}
#: What hardware leaves to the processor: scaling.
ON_HARDWARE = 0.003
#: The tones of HDR are mapped for so much, of each million pixels of a rung.
TONE_MAPPING = 0.018
#: With B-frames coding takes so many times as much.
B_FRAMES = 1.3
#: More than was measured of a ladder is kept for it.
SPARE = 1.2


def available_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """The processors that this process may use: by affinity and, in a container, by quota (cgroup v2 and v1)."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for quota, period in (_read(cgroup / "cpu.max"), (_first(cgroup, "quota"), _first(cgroup, "period"))):
        if quota > 0 and period > 0:
            cores = min(cores, quota / period)
    return cores


def _read(path: Path) -> tuple[float, float]:
    """Quota and period of ``cpu.max``; zeros where there is no limit."""
    try:
        quota, period = path.read_text().split()
        return float(quota), float(period)
    except (OSError, ValueError):  # "max" is no number
        return 0.0, 0.0


def _first(cgroup: Path, what: str) -> float:
    try:
        return float((cgroup / "cpu" / f"cpu.cfs_{what}_us").read_text())
    except (OSError, ValueError):
        return 0.0


def estimated_cores(
    config: VideoConfig,
    frame_rate: Fraction | None,
    sizes: Sequence[RungSize],
    preset: str,
    *,
    on_hardware: bool,
    maps_tones: bool = False,
    has_b_frames: bool = False,
) -> float:
    """
    How many cores a ladder should take.

    :param frame_rate: of the source; 30 where it is not known.
    """
    rate = float(frame_rate or 30) / 1_000_000
    coding = ON_HARDWARE if on_hardware else CODING.get(preset, CODING["veryfast"])
    coding *= B_FRAMES if has_b_frames else 1
    coding += TONE_MAPPING if maps_tones else 0
    pixels = sum(size.width * size.height for size in sizes)
    return rate * (config.width * config.height * DECODING + pixels * coding)


class Room:
    """
    What there is, and what is taken of it.

    :param cores: how many there are, asked once, when it is first needed.
    """

    def __init__(self, cores: Callable[[], float] = available_cores) -> None:
        self._cores = cores
        self._limit = 0.0
        self._taken: dict[Hashable, float] = {}

    def take(self, holder: Hashable, cores: float) -> bool:
        """Whether there is room for so much; then it is taken. One that is there already has its own besides."""
        self._limit = self._limit or SHARE * self._cores()
        others = math.fsum(taken for each, taken in self._taken.items() if each != holder)
        if others + cores > self._limit:
            return False
        self._taken[holder] = cores
        return True

    def measured(self, holder: Hashable, cores: float) -> None:
        """Learn what one takes indeed."""
        if holder in self._taken:
            self._taken[holder] = cores * SPARE

    def leave(self, holder: Hashable) -> None:
        """What it took is free again."""
        self._taken.pop(holder, None)


#: That of this process: all of its applications share it.
ROOM = Room()
