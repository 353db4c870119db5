"""What streams did in the last ten minutes, a point every five seconds: for plots."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from rapidrtmp.live.stream import LiveStream, StreamState
from rapidrtmp.media import MediaKind

__all__ = ["POINTS", "STEP_MS", "Histories", "Point"]

STEP_MS = 5_000
POINTS = 120


class Point(NamedTuple):
    """
    One moment of a stream.

    :ivar at_ms: on the clock that frames are stamped with.
    :ivar bitrate: in bits a second; likewise ``frame_rate`` of the leading video, in frames a second, 0 without.
    :ivar late_ms: by how much later its media came than the earliest did, each by its own time: by so much are parts
        late as well.
    """

    at_ms: int
    bitrate: int
    frame_rate: float
    viewers: int
    late_ms: int


class _History:
    """The points of one stream, and how far its media was ahead at each."""

    def __init__(self) -> None:
        self.points: deque[Point] = deque(maxlen=POINTS)
        self.leads: deque[int] = deque(maxlen=POINTS)


class Histories:
    """The recent past of streams."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[LiveStream, _History] = WeakKeyDictionary()
        self._due_ms = 0

    def look(self, streams: Iterable[LiveStream], now_ms: int) -> None:
        """Take down how streams are now, if it is time; to be called once a second."""
        if now_ms < self._due_ms:
            return
        self._due_ms = now_ms + STEP_MS
        for stream in streams:
            if stream.state is not StreamState.ENDED:
                self._add(stream, now_ms)

    def _add(self, stream: LiveStream, now_ms: int) -> None:
        history = self._of.setdefault(stream, _History())
        video = next((track for track in stream.tracks if track.kind is MediaKind.VIDEO), None)
        rate = stream.rhythm(video, now_ms).frame_rate if video is not None else None
        lead_ms = stream.health.lead_ms if stream.health is not None else 0
        history.leads.append(lead_ms)
        is_live = stream.publisher is not None
        history.points.append(
            Point(
                now_ms,
                stream.statistics.bits_per_second(now_ms) if is_live else 0,
                round(float(rate), 2) if rate is not None and is_live else 0.0,
                stream.viewers.count(now_ms),
                max(history.leads) - lead_ms,
            )
        )

    def of(self, stream: LiveStream) -> list[Point]:
        """The points of a stream, the oldest first."""
        history = self._of.get(stream)
        return list(history.points) if history is not None else []
