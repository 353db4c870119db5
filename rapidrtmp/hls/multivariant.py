"""The multivariant playlist: what there is to choose from, by measurement (RFC 8216 bis, 4.4.6)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from rapidrtmp.hls.playlist import VERSION
from rapidrtmp.media import Track, VideoConfig

__all__ = ["REWIND_DATA", "Multivariant", "render_multivariant"]

#: The EXT-X-SESSION-DATA that tells players how far back they can go, in seconds.
REWIND_DATA = "org.rapidrtmp.rewind"

#: BANDWIDTH is announced in these steps of bits a second, so that it seldom changes.
STEP = 50_000
_VIDEO_RANGES = {16: "PQ", 18: "HLG"}


class Multivariant:
    """
    The multivariant playlist of a stream with one rendition, by what has been measured of it so far.

    :param rewind_ms: how long its rewind window is; 0 if it has none.
    :ivar peak: the highest bitrate of a segment, in bits a second; likewise ``average`` over all of them.
    """

    def __init__(self, media_uri: str, rewind_ms: int = 0) -> None:
        self._media_uri = media_uri
        self._rewind_ms = rewind_ms
        self.peak = 0
        self._bytes = 0
        self._duration_ms = 0
        self._rendered: tuple[tuple[Track, ...], Fraction | None] = ((), None)
        self._rendered_peak = 0

    @property
    def average(self) -> int:
        """See the class."""
        return self._bytes * 8000 // self._duration_ms if self._duration_ms else 0

    def measure(self, size: int, duration_ms: int) -> None:
        """Count one segment. One too short to tell a rate counts for the average alone."""
        self._bytes += size
        self._duration_ms += duration_ms
        if duration_ms >= 500:
            self.peak = max(self.peak, size * 8000 // duration_ms)

    def measure_opening(self, size: int, duration_ms: int) -> None:
        """Go by the beginning of the first segment, as long as there is no other."""
        self.peak = size * 8000 // max(duration_ms, 1)

    def render_if_changed(self, tracks: tuple[Track, ...], frame_rate: Fraction | None) -> bytes | None:
        """The playlist, if tracks or frame rate are others or the peak is a step higher than it says; else ``None``."""
        peak = _announced(max(self.peak, self.average))
        if peak <= self._rendered_peak and (tracks, frame_rate) == self._rendered:
            return None
        self._rendered_peak = peak = max(peak, self._rendered_peak)
        self._rendered = (tracks, frame_rate)
        average = min(_announced(self.average), peak) if self.average else peak
        return render_multivariant(tracks, self._media_uri, (peak, average), frame_rate, self._rewind_ms)


def _announced(rate: int) -> int:
    """A tenth to spare, in whole steps."""
    return max(1, -(-rate * 11 // (10 * STEP))) * STEP


def render_multivariant(
    tracks: Sequence[Track],
    media_uri: str,
    bandwidth: tuple[int, int],
    frame_rate: Fraction | None,
    rewind_ms: int = 0,
) -> bytes:
    """
    The playlist of a stream with one rendition.

    :param bandwidth: BANDWIDTH and AVERAGE-BANDWIDTH, bits a second.
    :param frame_rate: as measured; ``None`` where it is unknown or there is no video.
    :param rewind_ms: how long its rewind window is; players that know :data:`REWIND_DATA` offer it. 0 if there is none.
    """
    peak, average = bandwidth
    attributes = [
        f"BANDWIDTH={peak}",
        f"AVERAGE-BANDWIDTH={average}",
        f'CODECS="{",".join(track.config.codec_string for track in tracks)}"',
    ]
    for config in (track.config for track in tracks):
        if isinstance(config, VideoConfig):
            horizontal, vertical = config.pixel_aspect if all(config.pixel_aspect) else (1, 1)
            attributes.append(f"RESOLUTION={round(config.width * horizontal / vertical)}x{config.height}")
            if frame_rate is not None:
                attributes.append(f"FRAME-RATE={float(frame_rate):.3f}")
            transfer = config.colour.transfer if config.colour else 2
            attributes.append(f"VIDEO-RANGE={_VIDEO_RANGES.get(transfer, 'SDR')}")
    data = f'#EXT-X-SESSION-DATA:DATA-ID="{REWIND_DATA}",VALUE="{rewind_ms // 1000}"\n' if rewind_ms else ""
    variant = f"#EXT-X-STREAM-INF:{','.join(attributes)}\n{media_uri}\n"
    return f"#EXTM3U\n#EXT-X-VERSION:{VERSION}\n{data}{variant}".encode()
