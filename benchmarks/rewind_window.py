"""
What a segment of a rewind window takes in memory, and a version of its playlist in time: as text, and as values.

    python -m benchmarks.rewind_window [SEGMENTS]
"""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

from rapidrtmp.hls.rewind.window import RewindWindow
from rapidrtmp.hls.segment import ListedSegment, OpenSegment
from rapidrtmp.interfaces import Constants
from rapidrtmp.m3u8.model import InitSegment
from rapidrtmp.m3u8.write import render_segment

SEGMENTS = 86_400  # two days of 2 s
PARTS, TICKS, TIMESCALE = 6, 30_000, 90_000
INIT = InitSegment("init_1.mp4")


def make_segment(number: int) -> ListedSegment:
    """One of 2 s, with numbers as large as those of a stream of today."""
    start = number * PARTS * TICKS
    utc_ms = 1_790_000_000_000 + 2000 * number
    segment = OpenSegment(374_000_000 + number, INIT, utc_ms, start, TIMESCALE, keyframe=True, discontinuity=False)
    for at in range(start, start + PARTS * TICKS, TICKS):
        segment.add(at, at + TICKS, independent=at == start)
    return segment.complete(start + PARTS * TICKS, size=650_000 + number)


def make_window(count: int) -> RewindWindow:
    """As a stream has it."""
    window = RewindWindow(Constants(2, 333), 2000 * count, 0)
    for number in range(count):
        window.append(make_segment(number))
    return window


def bytes_each(make: Callable[[], object], count: int) -> float:
    """The memory of what is made, per segment."""
    gc.collect()
    tracemalloc.start()
    kept = make()
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size / count


def least_ms(work: Callable[[], object]) -> float:
    """The CPU time of some work, the least of five."""
    times = []
    for _ in range(5):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return 1000 * min(times)


def main() -> None:
    """Measure, and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else SEGMENTS

    def values(prepare: Callable[[ListedSegment], ListedSegment]) -> list[ListedSegment]:
        return [prepare(make_segment(number)) for number in range(count)]

    def without_names(segment: ListedSegment) -> ListedSegment:
        return replace(segment, parts=(), part_uris=())

    print(f"bytes per segment, of {count}")
    print(f"  values with their parts        {bytes_each(lambda: values(lambda each: each), count):6.0f}")
    print(f"  values with names of parts     {bytes_each(lambda: values(ListedSegment.bare), count):6.0f}")
    print(f"  values without                 {bytes_each(lambda: values(without_names), count):6.0f}")
    print(f"  rows and text                  {bytes_each(lambda: make_window(count), count):6.0f}")
    window, listed = make_window(count), values(without_names)
    print("CPU-ms per version of the playlist")
    print(f"  rendered from values           {least_ms(lambda: ''.join(map(render_segment, listed)).encode()):8.1f}")
    print(f"  copied from the text           {least_ms(window.render):8.1f}")


if __name__ == "__main__":
    main()
