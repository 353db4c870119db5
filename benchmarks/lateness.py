"""How late a server publishes the parts of its streams, as its own histogram counts it."""

from __future__ import annotations

import re
import urllib.request
from typing import Any

from benchmarks.servers import Running

_BUCKET = re.compile(r'rapidrtmp_part_publish_delay_seconds_bucket\{le="([^"]+)".*\} ([0-9.e+]+)')
_SUM = re.compile(r"rapidrtmp_part_publish_delay_seconds_sum\{.*\} ([0-9.e+-]+)")
#: Where the sum of all delays stands among the counts by bound.
SUM = -1.0


def lateness(server: Running) -> dict[float, float]:
    """How many parts were published within how many seconds, and the sum of these seconds under :data:`SUM`."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    counts = {float(bound): float(count) for bound, count in _BUCKET.findall(text)}
    return {SUM: sum(map(float, _SUM.findall(text))), **counts}


def figures(before: dict[float, float], after: dict[float, float]) -> dict[str, Any]:
    """The lateness of the parts between two looks, in milliseconds: its mean, and upper bounds as the buckets know."""
    total_s, *counts = [(bound, after[bound] - before.get(bound, 0)) for bound in sorted(after)]
    parts = counts[-1][1]
    mean_ms = total_s[1] * 1000 / parts if parts else None

    def within(share: float) -> float | None:
        return next((bound * 1000 for bound, count in counts if parts and count >= share * parts), None)

    return {
        "parts": int(parts),
        "mean_ms": mean_ms,
        "p50_ms": within(0.5),
        "p99_ms": within(0.99),
        "max_ms": within(1.0),
    }
