"""The multivariant playlist: what there is to choose from, by measurement (RFC 8216 bis, 4.4.6)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import count
from typing import NamedTuple

from rapidrtmp.hls.playlist import VERSION
from rapidrtmp.media import AudioConfig, Track, VideoConfig

__all__ = ["REWIND_DATA", "Choice", "Multivariant", "Rate", "render_multivariant"]

#: The EXT-X-SESSION-DATA that tells players how far back they can go, in seconds.
REWIND_DATA = "org.rapidrtmp.rewind"

#: BANDWIDTH is announced in these steps of bits a second, so that it seldom changes.
STEP = 50_000
_VIDEO_RANGES = {16: "PQ", 18: "HLG"}


class Rate:
    """
    The bit rate of one rendition, by what has been measured of it so far.

    :ivar peak: the highest of a segment, in bits a second; likewise ``average`` over all of them.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._bytes = 0
        self._duration_ms = 0

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


class Choice(NamedTuple):
    """A rendition of one track that players choose, or one of its video alone: its playlist, and how fast it is."""

    uri: str
    track: Track
    rate: Rate


class Multivariant(Rate):
    """
    The multivariant playlist of a stream, with the measured rate of its muxed rendition.

    :param rewind_ms: how long its rewind window is; 0 if it has none.
    """

    def __init__(self, media_uri: str, rewind_ms: int = 0) -> None:
        super().__init__()
        self._media_uri = media_uri
        self._rewind_ms = rewind_ms
        self._rendered: tuple[tuple[Track, ...], Fraction | None, tuple[str, ...]] = ((), None, ())
        self._rendered_peak = 0

    def render_if_changed(
        self, tracks: tuple[Track, ...], frame_rate: Fraction | None, choices: Sequence[Choice] = ()
    ) -> bytes | None:
        """
        The playlist, if it would name other things or the peak is a step higher than it says; else ``None``.

        :param tracks: those of the muxed rendition.
        :param choices: the renditions of single tracks, video first; where there are some they take its place.
        """
        more_peak, more_average = _beyond(choices)
        average_rate = self.average and self.average + more_average
        peak = _announced(max(self.peak + more_peak, average_rate))
        shown = (tracks, frame_rate, tuple(choice.uri for choice in choices))
        if peak <= self._rendered_peak and shown == self._rendered:
            return None
        self._rendered_peak = peak = max(peak, self._rendered_peak)
        self._rendered = shown
        average = min(_announced(average_rate), peak) if average_rate else peak
        return self.render(tracks, frame_rate, (peak, average), choices)

    def render(
        self,
        tracks: Sequence[Track],
        frame_rate: Fraction | None,
        bandwidth: tuple[int, int],
        choices: Sequence[Choice] = (),
    ) -> bytes:
        """See :func:`render_multivariant`."""
        return render_multivariant(tracks, self._media_uri, bandwidth, frame_rate, self._rewind_ms, choices)

    def render_muxed(self, tracks: Sequence[Track], frame_rate: Fraction | None) -> bytes:
        """The playlist with the muxed rendition alone, and its measured rates."""
        peak = _announced(max(self.peak, self.average))
        average = min(_announced(self.average), peak) if self.average else peak
        return self.render(tracks, frame_rate, (peak, average))


def _beyond(choices: Sequence[Choice]) -> tuple[int, int]:
    """By how much the largest of the audio tracks is beyond the first, which the muxed rendition has in it."""
    rates = [choice.rate for choice in choices[1:]]
    if not rates:
        return 0, 0
    first = rates[0]
    return max(each.peak for each in rates) - first.peak, max(each.average for each in rates) - first.average


def _announced(rate: int) -> int:
    """A tenth to spare, in whole steps."""
    return max(1, -(-rate * 11 // (10 * STEP))) * STEP


def render_multivariant(
    tracks: Sequence[Track],
    media_uri: str,
    bandwidth: tuple[int, int],
    frame_rate: Fraction | None,
    rewind_ms: int = 0,
    choices: Sequence[Choice] = (),
) -> bytes:
    """
    The playlist of a stream with one variant, or with one for each codec of audio that there is a choice of.

    :param tracks: those of its muxed rendition.
    :param bandwidth: BANDWIDTH and AVERAGE-BANDWIDTH, bits a second.
    :param frame_rate: as measured; ``None`` where it is unknown or there is no video.
    :param rewind_ms: how long its rewind window is; players that know :data:`REWIND_DATA` offer it. 0 if there is none.
    :param choices: the renditions of single tracks, video first, which take the place of the muxed one.
    """
    data = f'#EXT-X-SESSION-DATA:DATA-ID="{REWIND_DATA}",VALUE="{rewind_ms // 1000}"\n' if rewind_ms else ""
    if choices:
        video, *audio = choices
        groups = _groups(audio)
        media = "".join(map(_render_group, groups.items()))
        variants = [
            _variant(video.uri, [video.track, *_one_of_each(group)], bandwidth, frame_rate, id)
            for id, group in groups.items()
        ]
    else:
        media, variants = "", [_variant(media_uri, tracks, bandwidth, frame_rate)]
    return f"#EXTM3U\n#EXT-X-VERSION:{VERSION}\n{data}{media}{''.join(variants)}".encode()


def _variant(
    uri: str, tracks: Sequence[Track], bandwidth: tuple[int, int], frame_rate: Fraction | None, audio: str = ""
) -> str:
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
    if audio:
        attributes += [f'AUDIO="{audio}"', "CLOSED-CAPTIONS=NONE"]
    return f"#EXT-X-STREAM-INF:{','.join(attributes)}\n{uri}\n"


# ── audio to choose from ─────────────────────────────────────────────────────────────────────────────────────────────


def _groups(audio: Sequence[Choice]) -> dict[str, list[Choice]]:
    """Audio by codec, for players do not switch from one to another (4.4.6.1.1), that of the first track first."""
    groups: dict[str, list[Choice]] = {}
    for choice in audio:
        family = choice.track.codec.strip(".").lower()
        groups.setdefault(f"audio-{family}", []).append(choice)
    return groups


def _one_of_each(group: Sequence[Choice]) -> list[Track]:
    """Tracks of a group, each codec string once."""
    return list({choice.track.config.codec_string: choice.track for choice in group}.values())


def _render_group(item: tuple[str, Sequence[Choice]]) -> str:
    """The EXT-X-MEDIA of one group (4.4.6.1); what is played unless the viewer chooses otherwise stands first."""
    group, choices = item
    names: set[str] = set()
    lines = []
    for index, choice in enumerate(choices):
        name = _unused(_quotable(choice.track.name) or f"Audio {(choice.track.id - 1) // 2 + 1}", names)
        names.add(name)
        attributes = ["TYPE=AUDIO", f'GROUP-ID="{group}"', f'NAME="{name}"']
        if choice.track.language != "und":
            attributes.append(f'LANGUAGE="{_quotable(choice.track.language)}"')
        attributes += [f"DEFAULT={'NO' if index else 'YES'}", "AUTOSELECT=YES"]
        if isinstance(choice.track.config, AudioConfig):
            attributes.append(f'CHANNELS="{choice.track.config.channels}"')
        lines.append(f'#EXT-X-MEDIA:{",".join(attributes)},URI="{choice.uri}"\n')
    return "".join(lines)


def _unused(name: str, names: set[str]) -> str:
    """A name that no other has in its group."""
    return next(each for number in count(1) if (each := name if number == 1 else f"{name} ({number})") not in names)


def _quotable(text: str) -> str:
    """A text without what cannot stand in quotes (4.2)."""
    return "".join(char for char in text if char.isprintable() and char != '"')
