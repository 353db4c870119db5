"""Values of playlist lines as text (RFC 8216 bis, 4.2)."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["render_date_time", "render_seconds"]


def render_seconds(start: int, end: int, timescale: int) -> str:
    """
    The time from one tick to another as decimal seconds with 5 places, cut so that neighbours add up without drift.
    """
    units = _in_units(end, timescale) - _in_units(start, timescale)
    return f"{units // 100_000}.{units % 100_000:05d}"


def _in_units(ticks: int, timescale: int) -> int:
    return (ticks * 100_000 * 2 + timescale) // (2 * timescale)


def render_date_time(utc_ms: int) -> str:
    """ISO 8601 in UTC with milliseconds, as EXT-X-PROGRAM-DATE-TIME wants it."""
    moment = datetime.fromtimestamp(utc_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{utc_ms % 1000:03d}Z"
