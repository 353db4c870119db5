"""
The codec table: what there is to know of each codec, one row each. Everything that asks "which codec" asks here.

A codec that is *carried* has functions that read its configuration and its frames, and one that writes the box which
holds its configuration in MP4. A row without them names a codec that is known, so that headers can be read past, files
inspected and refusals worded, but whose frames are not taken. To carry one more: write one file, and complete its row.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rapidrtmp.codec.aac import REFUSED_KINDS, AacReader, AacSearch, read_audio_config
from rapidrtmp.codec.aac_silence import silent_frame
from rapidrtmp.codec.ac3 import Ac3Reader, ac3_of_frame, read_dac3
from rapidrtmp.codec.ac3_silence import silent_ac3, silent_eac3
from rapidrtmp.codec.av1 import Av1Reader, Av1Search, is_known_av1, read_av1_config
from rapidrtmp.codec.avc import AvcReader, AvcSearch, read_avc_config
from rapidrtmp.codec.avc_closing import AvcCloser
from rapidrtmp.codec.avc_slice import avc_follows
from rapidrtmp.codec.eac3 import Eac3Pieces, Eac3Reader, eac3_of_frame, read_dec3
from rapidrtmp.codec.esds import read_esds, write_esds
from rapidrtmp.codec.flac import FlacReader, read_dfla, read_stream_info, silent_flac, write_dfla
from rapidrtmp.codec.hevc import HevcReader, HevcSearch, is_known_hevc, read_hevc_config
from rapidrtmp.codec.mp3 import Mp3Reader, mp3_of_frame, read_mp3_esds, read_mp3_record, silent_mp3, write_mp3_esds
from rapidrtmp.codec.nal_pieces import NalPieces
from rapidrtmp.codec.opus import (
    OpusReader,
    opus_of_channels,
    opus_of_packet,
    read_dops,
    read_opus_head,
    silent_packet,
    write_dops,
)
from rapidrtmp.codec.pieces import PieceReader
from rapidrtmp.codec.several import SeveralFrames
from rapidrtmp.codec.vp9 import Vp9Reader, Vp9Search, is_known_vp9, read_vp9_config, read_vpcc, write_vpcc
from rapidrtmp.media import AudioConfig, CodecConfig, Frame, MediaKind, Track

__all__ = [
    "AAC",
    "AV1",
    "AVC",
    "CODECS",
    "HEVC",
    "VP9",
    "Codec",
    "ConfigSearch",
    "GopCloser",
    "SampleReader",
    "carried",
    "codec_of_entry",
    "codec_of_string",
    "codecs_of_entry",
    "display_name",
    "fourccs_carried",
    "names_carried",
]


class SampleReader(Protocol):
    """Reads one track's coded frames, in the order in which they come."""

    @property
    def config(self) -> Any:
        """The configuration in force; another object after a frame that has changed it."""

    @property
    def keyframe(self) -> bool:
        """Whether decoding may start at the frame read last."""

    @property
    def samples(self) -> int:
        """How long that lasts, in samples of the track's clock; 0 for video, which does not say."""

    def read(self, body: bytes) -> bytes | None:
        """
        Read the body of a frames packet.

        :returns: the sample as MP4 stores it; ``None`` if there is nothing in it to be shown or heard, or if it is a
            piece of a sample, or several: see :class:`~rapidrtmp.codec.pieces.PieceReader`.
        :raises MediaError: it cannot be read.
        """


class ConfigSearch(Protocol):
    """
    Looks for a track's configuration where there was no proper sequence start.

    :ivar is_warm: whether what was looked at last was for the configuration, and no frame was lost with it.
    """

    is_warm: bool

    def look_at_config(self, body: bytes) -> CodecConfig | None:
        """
        Look at the body of a sequence start that is no configuration.

        :returns: the configuration, once all of it has been seen.
        :raises MediaError: there is nothing of use in it.
        """

    def look_at_frame(self, body: bytes) -> CodecConfig | None:
        """
        Look at the body of a frames packet; the rest likewise.

        :raises MediaError: it cannot be read.
        """


class GopCloser(Protocol):
    """
    Makes of a track's open GOPs closed ones. It may begin at any frame of a range of the timeline whose GOPs were
    closed so far; where another range begins it is to learn of that.

    :ivar left_open: how many keyframes in a row, up to the last one, are such that only some decoders begin there.
    """

    left_open: int

    def begin(self, config: Any) -> None:
        """
        Learn that a range begins with the next frame, a keyframe; nothing before it is of use then.

        :param config: ``None`` if it is as it was.
        """

    def close(self, frame: Frame) -> Sequence[Frame]:
        """The next frame as a part of a closed GOP, and in front of it a keyframe that comes again."""


def _as_it_is(record: bytes) -> bytes:
    return record


def _nothing(_record: bytes) -> bytes:
    return b""


@dataclass(frozen=True, slots=True)
class Codec:
    """
    One codec.

    :ivar fourcc: its code in Enhanced RTMP.
    :ivar entry: the sample entry it has in MP4, if that is not its FourCC.
    :ivar kind: what it codes.
    :ivar name: for people.
    :ivar read_config: reads the configuration that a sequence start brings, if the codec is carried; raises
        ``MediaError``. The configuration's ``record`` holds the bytes from which it can be read again.
    :ivar config_of_frame: makes a configuration of the body of a frames packet, if frames describe themselves;
        likewise.
    :ivar config_of_channels: makes one of the number of channels, where frames do not describe themselves well enough
        with so many of them; else ``None``.
    :ivar search: makes the search for a configuration that some frames, or none, may tell.
    :ivar reader: makes the reader of a track's frames, from its first configuration.
    :ivar pieces: makes the reader of messages that are no whole frames, from the reader of those that are, and from
        what it was for the track's configuration before.
    :ivar closer: makes what closes the GOPs of a track whose reader tells of open ones (``open_gops``).
    :ivar follows: whether nothing is missing between two samples, of a configuration, that came apart; the second is no
        keyframe.
    :ivar box: the box in the sample entry that holds the configuration record.
    :ivar write_box: from the record to the payload of that box; ``read_box`` back again, raising ``MediaError``.
    :ivar other_entries: sample entries of the same codec in the files of others.
    :ivar strings: its codec strings that do not begin with its sample entry.
    :ivar flv_numbers: its numbers in classic FLV tags.
    :ivar reorders: whether its coded frames carry a composition time of their own in Enhanced RTMP.
    :ivar silence: makes a frame without sound for a configuration, for where a track pauses; ``b""`` if it has none.
    :ivar is_known: whether a configuration that comes, the second one, says nothing that one in force does not say.
    :ivar decoder: what FFmpeg calls its decoder; ``""`` where it is not carried.
    :ivar describes_itself: whether a sequence start may say nothing, since frames tell all.
    :ivar sequence_start: from the record to what a sequence start says in Enhanced RTMP.
    """

    fourcc: str
    kind: MediaKind
    name: str
    read_config: Callable[[bytes], CodecConfig] | None = None
    config_of_frame: Callable[[bytes], CodecConfig] | None = None
    config_of_channels: Callable[[int], CodecConfig | None] | None = None
    search: Callable[[], ConfigSearch] | None = None
    reader: Callable[[Any], SampleReader] | None = None
    pieces: Callable[[Any, Any], PieceReader] | None = None
    closer: Callable[[Any], GopCloser] | None = None
    follows: Callable[[Any, bytes, bytes], bool] | None = None
    entry: str = ""
    box: str = ""
    write_box: Callable[[bytes], bytes] = _as_it_is
    read_box: Callable[[bytes], bytes] = _as_it_is
    other_entries: tuple[str, ...] = ()
    strings: tuple[str, ...] = ()
    flv_numbers: tuple[int, ...] = ()
    silence: Callable[[AudioConfig], bytes] | None = None
    is_known: Callable[[Any, Any], bool] = operator.eq
    reorders: bool = False
    describes_itself: bool = False
    decoder: str = ""
    sequence_start: Callable[[bytes], bytes] = _as_it_is

    @property
    def sample_entry(self) -> str:
        """The code of the sample entry that it is stored in."""
        return self.entry or self.fourcc

    def make_track(self, id: int, config: CodecConfig, language: str = "und", name: str = "") -> Track:
        """A track of this codec."""
        return Track(id, self.kind, self.fourcc, config, language, name)


_VIDEO, _AUDIO = MediaKind.VIDEO, MediaKind.AUDIO

AVC = Codec(
    "avc1",
    _VIDEO,
    "H.264",
    decoder="h264",
    read_config=read_avc_config,
    search=AvcSearch,
    reader=AvcReader,
    pieces=NalPieces,
    closer=AvcCloser,
    follows=avc_follows,
    box="avcC",
    other_entries=("avc3",),
    flv_numbers=(7,),
    reorders=True,
)
HEVC = Codec(
    "hvc1",
    _VIDEO,
    "HEVC",
    decoder="hevc",
    read_config=read_hevc_config,
    search=HevcSearch,
    reader=HevcReader,
    is_known=is_known_hevc,
    pieces=NalPieces,
    box="hvcC",
    other_entries=("hev1",),
    flv_numbers=(12,),
    reorders=True,
)
AV1 = Codec(
    "av01",
    _VIDEO,
    "AV1",
    decoder="libdav1d",
    read_config=read_av1_config,
    search=Av1Search,
    reader=Av1Reader,
    is_known=is_known_av1,
    box="av1C",
    flv_numbers=(13,),
    describes_itself=True,
)
VP9 = Codec(
    "vp09",
    _VIDEO,
    "VP9",
    decoder="vp9",
    read_config=read_vp9_config,
    search=Vp9Search,
    reader=Vp9Reader,
    is_known=is_known_vp9,
    box="vpcC",
    write_box=write_vpcc,
    read_box=read_vpcc,
    describes_itself=True,
)
AAC = Codec(
    "mp4a",
    _AUDIO,
    "AAC",
    decoder="aac",
    read_config=read_audio_config,
    search=AacSearch,
    reader=AacReader,
    pieces=SeveralFrames,
    box="esds",
    write_box=write_esds,
    read_box=read_esds,
    silence=silent_frame,
    flv_numbers=(10,),
)

#: By FourCC. The classic numbers 12 and 13 are not official, but sent.
CODECS: dict[str, Codec] = {
    codec.fourcc: codec
    for codec in (
        AVC,
        HEVC,
        Codec("vvc1", _VIDEO, "VVC", box="vvcC", other_entries=("vvi1",), reorders=True),
        AV1,
        VP9,
        Codec("vp08", _VIDEO, "VP8", box="vpcC"),
        AAC,
        Codec(
            "Opus",
            _AUDIO,
            "Opus",
            decoder="opus",
            read_config=read_opus_head,
            config_of_frame=opus_of_packet,
            config_of_channels=opus_of_channels,
            reader=OpusReader,
            box="dOps",
            write_box=write_dops,
            read_box=read_dops,
            strings=("opus",),
            silence=silent_packet,
            describes_itself=True,
        ),
        Codec(
            "fLaC",
            _AUDIO,
            "FLAC",
            decoder="flac",
            read_config=read_stream_info,
            reader=FlacReader,
            pieces=SeveralFrames,
            box="dfLa",
            write_box=write_dfla,
            read_box=read_dfla,
            strings=("flac",),
            silence=silent_flac,
        ),
        Codec(
            "ac-3",
            _AUDIO,
            "AC-3",
            decoder="ac3",
            read_config=read_dac3,
            config_of_frame=ac3_of_frame,
            reader=Ac3Reader,
            pieces=SeveralFrames,
            box="dac3",
            silence=silent_ac3,
            describes_itself=True,
            sequence_start=_nothing,
        ),
        Codec(
            "ec-3",
            _AUDIO,
            "E-AC-3",
            decoder="eac3",
            read_config=read_dec3,
            config_of_frame=eac3_of_frame,
            reader=Eac3Reader,
            pieces=Eac3Pieces,
            box="dec3",
            silence=silent_eac3,
            describes_itself=True,
            sequence_start=_nothing,
        ),
        Codec(
            ".mp3",
            _AUDIO,
            "MP3",
            decoder="mp3",
            read_config=read_mp3_record,
            config_of_frame=mp3_of_frame,
            reader=Mp3Reader,
            pieces=SeveralFrames,
            entry="mp4a",
            box="esds",
            write_box=write_mp3_esds,
            read_box=read_mp3_esds,
            strings=("mp4a.40.34", "mp4a.6B", "mp4a.69"),
            silence=silent_mp3,
            flv_numbers=(2, 14),
            describes_itself=True,
            sequence_start=_nothing,
        ),
    )
}


#: The codecs of classic FLV tags that have no FourCC, by kind (FLV 10.1, E.4.2.1 and E.4.3.1).
_CLASSIC_NAMES: dict[MediaKind, dict[str, str]] = {
    _VIDEO: {
        "flv:2": "Sorenson H.263",
        "flv:3": "Screen Video",
        "flv:4": "VP6",
        "flv:5": "VP6 with alpha",
        "flv:6": "Screen Video 2",
    },
    _AUDIO: {
        "flv:0": "PCM",
        "flv:1": "ADPCM",
        "flv:3": "PCM",
        "flv:4": "Nellymoser",
        "flv:5": "Nellymoser",
        "flv:6": "Nellymoser",
        "flv:7": "G.711 A-law",
        "flv:8": "G.711 mu-law",
        "flv:11": "Speex",
    },
}


def carried() -> tuple[Codec, ...]:
    """The codecs whose frames are taken, video first."""
    return tuple(codec for codec in CODECS.values() if codec.reader is not None)


def fourccs_carried(kind: MediaKind) -> tuple[str, ...]:
    """The FourCCs of one kind that are taken."""
    return tuple(codec.fourcc for codec in carried() if codec.kind is kind)


def names_carried() -> str:
    """What may be published, for people: ``H.264 and AAC, Opus or FLAC``."""
    return " and ".join(_one_of([codec.name for codec in carried() if codec.kind is kind]) for kind in (_VIDEO, _AUDIO))


def _one_of(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def display_name(kind: MediaKind, codec: str) -> str:
    """
    The name of any codec, for people.

    :param codec: as :class:`~rapidrtmp.codec.flv.Packet` has it: a FourCC, or ``flv:N``; or the codec string of a
        variant that is not carried.
    """
    if codec in REFUSED_KINDS:
        return f"{REFUSED_KINDS[codec]} ({codec})"
    known = CODECS.get(codec)
    if known is not None and known.kind is kind:
        return f"{known.name} ({codec})"
    return _CLASSIC_NAMES[kind].get(codec, repr(codec))


def codec_of_entry(entry: str) -> Codec | None:
    """The codec of a sample entry in an MP4 file, ours or another's."""
    return CODECS.get(entry) or next((codec for codec in CODECS.values() if entry in codec.other_entries), None)


def codecs_of_entry(entry: str) -> tuple[Codec, ...]:
    """All codecs that have this sample entry: what is in it tells which it is."""
    first = codec_of_entry(entry)
    others = (codec for codec in CODECS.values() if codec.sample_entry == entry and codec is not first)
    return () if first is None else (first, *others)


def codec_of_string(codec_string: str) -> Codec | None:
    """The codec that a codec string (RFC 6381) names."""
    named = next((codec for codec in CODECS.values() if codec_string in codec.strings), None)
    return named or codec_of_entry(codec_string.partition(".")[0])
