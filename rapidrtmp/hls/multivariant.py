"""The multivariant playlist: what there is to choose from, by measurement (RFC 8216 bis, 4.4.6)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import count
from typing import NamedTuple

from rapidrtmp.hls.playlist import VERSION
from rapidrtmp.m3u8.rate import Rate, announced
from rapidrtmp.media import AudioConfig, Track, VideoConfig

__all__ = ["REWIND_DATA", "CaptionTrack", "Multivariant", "Variant", "render_multivariant"]

#: The EXT-X-SESSION-DATA that tells players how far back they can go, in seconds.
REWIND_DATA = "org.rapidrtmp.rewind"

#: About what players should start with.
STARTING_RATE = 2_000_000
#: The group of all captions.
CAPTIONS = "captions"
_VIDEO_RANGES = {16: "PQ", 18: "HLG"}


class CaptionTrack(NamedTuple):
    """
    Captions in one language.

    :ivar name: what viewers choose by.
    :ivar uri: of its playlist.
    """

    language: str
    name: str
    uri: str


class Variant(NamedTuple):
    """
    A rendition that players choose.

    :ivar uri: of its playlist.
    :ivar tracks: what is in it, video first.
    :ivar rate: its bit rate, as measured; likewise ``frame_rate``, ``None`` where it is unknown or there is no video.
    """

    uri: str
    tracks: tuple[Track, ...]
    rate: Rate
    frame_rate: Fraction | None = None


class Multivariant(Rate):
    """
    The multivariant playlist of a stream, with the measured rate of its muxed rendition.

    :param rewind_ms: how long its rewind window is; 0 if it has none.
    """

    def __init__(self, media_uri: str, rewind_ms: int = 0) -> None:
        super().__init__()
        self._media_uri = media_uri
        self._rewind_ms = rewind_ms
        self._shown: object = None
        self._peaks: dict[str, int] = {}  # what was announced of each variant

    def render_if_changed(
        self,
        tracks: tuple[Track, ...],
        frame_rate: Fraction | None,
        video: Sequence[Variant] = (),
        audio: Sequence[Variant] = (),
        pictures: Sequence[Variant] = (),
        captions: Sequence[CaptionTrack] = (),
    ) -> bytes | None:
        """
        The playlist, if it would name other things or a peak is a step higher than it says; else ``None``.

        :param tracks: those of the muxed rendition.
        :param video: other sizes of its picture. Where there is ``audio``, the leading one is the first, without audio.
        :param audio: the audio tracks that go with each of those, or are all there is; then the muxed rendition is not
            listed.
        :param pictures: the playlists of I-frames that go with them.
        :param captions: what is said in it, as text.
        """
        muxed = Variant(self._media_uri, tracks, self, frame_rate)
        if video or not audio:
            listed = [*video] if audio else [muxed, *video]
            if audio:  # what was measured of the leading track is of the muxed rendition
                listed[0] = listed[0]._replace(rate=self, frame_rate=frame_rate)
            rates = [self._announce(variant, audio, is_muxed=variant.rate is self) for variant in listed]
        else:
            groups = _groups(audio).values()
            listed = [choices[0] for choices in groups]
            rates = [self._announce_audio(choices) for choices in groups]
        count = len(listed)
        listed += pictures
        rates += [self._announce(each, (), is_muxed=False) for each in pictures]
        shown = [*((each.uri, each.tracks, each.frame_rate) for each in (*listed, *audio)), *captions]
        if shown == self._shown and all(
            peak <= self._peaks[each.uri] for each, (peak, _) in zip(listed, rates, strict=True)
        ):
            return None
        self._shown = shown
        for variant, (peak, _) in zip(listed, rates, strict=True):
            self._peaks[variant.uri] = max(peak, self._peaks[variant.uri])
        bandwidths = [
            (self._peaks[each.uri], min(average, self._peaks[each.uri]))
            for each, (_, average) in zip(listed, rates, strict=True)
        ]
        described = list(zip(listed, bandwidths, strict=True))
        return _render(described[:count], audio, self._rewind_ms, described[count:], captions)

    def _announce(self, variant: Variant, audio: Sequence[Variant], *, is_muxed: bool) -> tuple[int, int]:
        """BANDWIDTH and AVERAGE-BANDWIDTH of a variant, with the largest audio track that goes with it (4.4.6.2)."""
        rate = variant.rate
        peak = max((each.rate.peak for each in audio), default=0)
        average = max((each.rate.average for each in audio), default=0)
        if audio and is_muxed:  # the first of them is in it
            peak, average = peak - audio[0].rate.peak, average - audio[0].rate.average
        average = rate.average and rate.average + average
        said = announced(max(rate.peak + peak, average))
        self._peaks.setdefault(variant.uri, 0)
        return said, announced(average) if average else max(said, self._peaks[variant.uri])

    def _announce_audio(self, choices: Sequence[Variant]) -> tuple[int, int]:
        """The same of audio without video, by the largest track of its group."""
        self._peaks.setdefault(choices[0].uri, 0)
        peak = max(each.rate.peak for each in choices) or self.peak
        average = max(each.rate.average for each in choices) or peak
        return announced(max(peak, average)), announced(average)

    def render_muxed(self, tracks: Sequence[Track], frame_rate: Fraction | None) -> bytes:
        """The playlist with the muxed rendition alone, and its measured rates."""
        return render_multivariant(tracks, self._media_uri, _bandwidth(self), frame_rate, self._rewind_ms)

    def render_rewind(
        self, uri: str, tracks: tuple[Track, ...], frame_rate: Fraction | None, pictures: Sequence[Variant]
    ) -> bytes:
        """
        The playlist that names the long one.

        :param uri: of that.
        :param pictures: the playlist of its I-frames, if there is one.
        """
        described = [(each, _bandwidth(each.rate)) for each in pictures]
        return _render([(Variant(uri, tracks, self, frame_rate), _bandwidth(self))], (), self._rewind_ms, described)


def _bandwidth(rate: Rate) -> tuple[int, int]:
    """BANDWIDTH and AVERAGE-BANDWIDTH, as measured."""
    peak = announced(max(rate.peak, rate.average))
    return peak, min(announced(rate.average), peak) if rate.average else peak


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
    return _render([(Variant(media_uri, tuple(tracks), Rate(), frame_rate), bandwidth)], (), rewind_ms)


#: Renditions with what is announced of each.
_Described = Sequence[tuple[Variant, tuple[int, int]]]


def _render(
    variants: _Described,
    audio: Sequence[Variant],
    rewind_ms: int,
    pictures: _Described = (),
    captions: Sequence[CaptionTrack] = (),
) -> bytes:
    """
    The playlist of variants with their bandwidths, each with every group of audio, or the one that it is of; and of
    ``pictures`` and ``captions``.
    """
    data = f'#EXT-X-SESSION-DATA:DATA-ID="{REWIND_DATA}",VALUE="{rewind_ms // 1000}"\n' if rewind_ms else ""
    groups: dict[str, list[Variant]] = _groups(audio) or {"": []}
    text = "".join(_render_group(*item) for item in groups.items())
    text += "".join(map(_render_captions, captions))
    is_alone = len(variants) == 1 and not audio
    for group, choices in groups.items():
        goes_with = [each for each in variants if each[0] not in audio or each[0] in choices]
        for variant, bandwidth in _middle_first(goes_with):
            tracks = _one_of_each(choices)
            text += _render_variant(variant, bandwidth, tracks, group, is_alone=is_alone, has_captions=bool(captions))
    text += "".join(_render_pictures(*each) for each in pictures)
    return f"#EXTM3U\n#EXT-X-VERSION:{VERSION}\n{data}{text}".encode()


def _middle_first(variants: _Described) -> list[tuple[Variant, tuple[int, int]]]:
    """Players start with the first one: that is a middling one. Then the others, the largest first."""
    middle = min(variants, key=lambda each: abs(each[1][0] - STARTING_RATE))
    return sorted(variants, key=lambda each: (each is not middle, -each[1][0]))


def _render_variant(
    variant: Variant,
    bandwidth: tuple[int, int],
    audio: Sequence[Track],
    group: str,
    *,
    is_alone: bool,
    has_captions: bool,
) -> str:
    attributes = _attributes(variant, bandwidth, (*variant.tracks, *audio))
    if not is_alone:
        attributes.append("CLOSED-CAPTIONS=NONE")
    if group:
        attributes.append(f'AUDIO="{group}"')
    if has_captions:
        attributes.append(f'SUBTITLES="{CAPTIONS}"')
    return f"#EXT-X-STREAM-INF:{','.join(attributes)}\n{variant.uri}\n"


def _render_captions(track: CaptionTrack) -> str:
    """The EXT-X-MEDIA of one language (4.4.6.1)."""
    attributes = [
        f'TYPE=SUBTITLES,GROUP-ID="{CAPTIONS}",NAME="{_quotable(track.name) or track.language}"',
        f'LANGUAGE="{track.language}",DEFAULT=NO,AUTOSELECT=YES,FORCED=NO,URI="{track.uri}"',
    ]
    return f"#EXT-X-MEDIA:{','.join(attributes)}\n"


def _render_pictures(variant: Variant, bandwidth: tuple[int, int]) -> str:
    """4.4.6.3."""
    attributes = [*_attributes(variant, bandwidth, variant.tracks), f'URI="{variant.uri}"']
    return f"#EXT-X-I-FRAME-STREAM-INF:{','.join(attributes)}\n"


def _attributes(variant: Variant, bandwidth: tuple[int, int], tracks: Sequence[Track]) -> list[str]:
    """What is said of all that can be chosen (4.4.6.2)."""
    peak, average = bandwidth
    attributes = [
        f"BANDWIDTH={peak}",
        f"AVERAGE-BANDWIDTH={average}",
        f'CODECS="{",".join(dict.fromkeys(track.config.codec_string for track in tracks))}"',
    ]
    for config in (track.config for track in tracks):
        if isinstance(config, VideoConfig):
            horizontal, vertical = config.pixel_aspect if all(config.pixel_aspect) else (1, 1)
            attributes.append(f"RESOLUTION={round(config.width * horizontal / vertical)}x{config.height}")
            if variant.frame_rate is not None:
                attributes.append(f"FRAME-RATE={float(variant.frame_rate):.3f}")
            transfer = config.colour.transfer if config.colour else 2
            attributes.append(f"VIDEO-RANGE={_VIDEO_RANGES.get(transfer, 'SDR')}")
    return attributes


# ── audio to choose from ─────────────────────────────────────────────────────────────────────────────────────────────


def _groups(audio: Sequence[Variant]) -> dict[str, list[Variant]]:
    """Audio by codec, for players do not switch from one to another (4.4.6.1.1), that of the first track first."""
    groups: dict[str, list[Variant]] = {}
    for choice in audio:
        family = choice.tracks[0].codec.strip(".").lower()
        groups.setdefault(f"audio-{family}", []).append(choice)
    return groups


def _one_of_each(group: Sequence[Variant]) -> list[Track]:
    """Tracks of a group, each codec string once."""
    return list({choice.tracks[0].config.codec_string: choice.tracks[0] for choice in group}.values())


def _render_group(group: str, choices: Sequence[Variant]) -> str:
    """The EXT-X-MEDIA of one group (4.4.6.1); what is played unless the viewer chooses otherwise stands first."""
    names: set[str] = set()
    lines = []
    for index, choice in enumerate(choices):
        track = choice.tracks[0]
        name = _unused(_quotable(track.name) or f"Audio {(track.id - 1) // 2 + 1}", names)
        names.add(name)
        attributes = ["TYPE=AUDIO", f'GROUP-ID="{group}"', f'NAME="{name}"']
        if track.language != "und":
            attributes.append(f'LANGUAGE="{_quotable(track.language)}"')
        attributes += [f"DEFAULT={'NO' if index else 'YES'}", "AUTOSELECT=YES"]
        if isinstance(track.config, AudioConfig):
            attributes.append(f'CHANNELS="{track.config.channels}"')
        lines.append(f'#EXT-X-MEDIA:{",".join(attributes)},URI="{choice.uri}"\n')
    return "".join(lines)


def _unused(name: str, names: set[str]) -> str:
    """A name that no other has in its group."""
    return next(each for number in count(1) if (each := name if number == 1 else f"{name} ({number})") not in names)


def _quotable(text: str) -> str:
    """A text without what cannot stand in quotes (4.2)."""
    return "".join(char for char in text if char.isprintable() and char != '"')
