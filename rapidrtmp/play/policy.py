"""What players of RTMP and FLV are granted."""

from __future__ import annotations

from dataclasses import dataclass

from rapidrtmp.codec.flv_capabilities import CLASSIC, FIRST_TRACKS, FlvCapabilities
from rapidrtmp.live.stream import PAST_MS

__all__ = ["PlayPolicy"]


@dataclass(frozen=True, slots=True)
class PlayPolicy:
    """
    See the settings of the same names.

    :ivar wait_ms: how long a request for a stream that is not there waits.
    :ivar lag_ms: a player that is further behind skips to the newest keyframe.
    :ivar gops: with the beginning of which GOP a player begins: 1 is the newest, 2 the one before; with 0 it waits for
        the next one. ``None`` for the newest, but over RTMP the newest that is at least ``past_ms`` old.
    :ivar is_optimistic: whether a player that says nothing of what it takes is sent any codec.
    :ivar stalled_ms: a player that has taken nothing of what was due for so long is closed.
    :ivar most_skips: so many skips within ``skips_ms`` are one too many.
    :ivar ring_bytes: what one rendering keeps.
    :ivar gop_bytes: what is kept of a stream for a rendering that begins.
    :ivar most_renderings: of one stream.
    :ivar crowd: from so many players on, pictures are sent several at a time: those within ``gather_ms`` of the stream.
    """

    wait_ms: int = 10_000
    lag_ms: int = 4_000
    gops: int | None = None
    past_ms: int = PAST_MS
    is_optimistic: bool = True
    stalled_ms: int = 30_000
    most_skips: int = 3
    skips_ms: int = 60_000
    ring_bytes: int = 32 << 20
    gop_bytes: int = 32 << 20
    most_renderings: int = 32
    crowd: int = 100
    gather_ms: int = 70

    @property
    def silent(self) -> FlvCapabilities:
        """What is assumed of a player that says nothing."""
        return FIRST_TRACKS if self.is_optimistic else CLASSIC
