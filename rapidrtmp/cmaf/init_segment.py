"""
The init segment: what a player must know before the first fragment (``ftyp`` + ``moov``, without a sample).

It depends on the tracks alone, so equal tracks make equal octets: whoever serves it can tell by comparing them whether
viewers need a new one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from rapidrtmp.cmaf import boxes
from rapidrtmp.errors import MediaError, MisuseError
from rapidrtmp.media import AudioConfig, Track, VideoConfig

__all__ = ["write_init_segment"]


def write_init_segment(tracks: Sequence[Track]) -> bytes:
    """
    Write the init segment of one or several tracks (ISO/IEC 14496-12, 8.2.1; 23000-19, 7.3).

    A single track is a CMAF header and carries the brand ``cmfc``. Several are muxed, which HLS allows and CMAF does
    not, so that brand is left out.

    :param tracks: in the order of the file, with different ids.
    :raises MediaError: a codec that has no sample entry here, or a size or rate that its field can not hold.
    :raises MisuseError: no tracks, or two with one id.
    """
    ids = [track.track_id for track in tracks]
    if not ids or len(set(ids)) < len(ids):
        raise MisuseError(f"an init segment needs tracks with different ids, not {ids}")
    brands = (b"iso6", b"cmfc", b"mp41") if len(ids) == 1 else (b"iso6", b"mp41")
    try:
        movie = (boxes.mvhd(max(ids) + 1), *map(_trak, tracks), boxes.mvex(*map(boxes.trex, ids)))
    except struct.error as error:
        raise MediaError(f"a value does not fit its field in the init segment of {list(tracks)}: {error}") from error
    return boxes.ftyp(b"iso6", *brands) + boxes.box(b"moov", *movie)


def _trak(track: Track) -> bytes:
    """All of one track (8.3.1)."""
    config = track.config
    if isinstance(config, VideoConfig):
        header = boxes.tkhd(track.track_id, width=_display_width(config), height=config.height << 16)
        handler = boxes.hdlr(b"vide", b"RapidRTMP video")
        media_header, entry = boxes.vmhd(), _video_entry(config)
    else:
        header = boxes.tkhd(track.track_id, audible=True)
        handler = boxes.hdlr(b"soun", b"RapidRTMP audio")
        media_header, entry = boxes.smhd(), _audio_entry(config)
    information = boxes.box(b"minf", media_header, boxes.dinf(), boxes.stbl(entry))
    return boxes.box(b"trak", header, boxes.box(b"mdia", boxes.mdhd(track.timescale), handler, information))


def _is_square(config: VideoConfig) -> bool:
    """Whether pixels are square; an aspect with a 0 means "unspecified" (H.264, E.2.1) and is taken for square."""
    horizontal, vertical = config.pixel_aspect
    return horizontal == vertical or not (horizontal and vertical)


def _display_width(config: VideoConfig) -> int:
    """The width to show, in 16.16 fixed point: pixels stretched sideways, lines left alone."""
    if _is_square(config):
        return config.width << 16
    horizontal, vertical = config.pixel_aspect
    return ((config.width * horizontal << 16) + vertical // 2) // vertical


# ── sample entries ───────────────────────────────────────────────────────────────────────────────────────────────────


#: What writes a codec's configuration record as the first box of its video sample entry.
_VIDEO_RECORDS: dict[str, Callable[[bytes], bytes]] = {"avc1": boxes.avcc}
#: The same for audio.
_AUDIO_RECORDS: dict[str, Callable[[bytes], bytes]] = {"mp4a": boxes.esds}


def _video_entry(config: VideoConfig) -> bytes:
    """The sample entry of a video track: the codec's record first, then colour and aspect where there are any."""
    children = [_writer_of(config.codec, _VIDEO_RECORDS)(config.record)]
    if config.colour is not None:
        children.append(boxes.colr(config.colour))
    if not _is_square(config):
        children.append(boxes.pasp(*config.pixel_aspect))
    return boxes.visual_sample_entry(config.codec.encode("ascii"), config.width, config.height, *children)


def _audio_entry(config: AudioConfig) -> bytes:
    """The sample entry of an audio track."""
    record = _writer_of(config.codec, _AUDIO_RECORDS)(config.record)
    return boxes.audio_sample_entry(config.codec.encode("ascii"), config.channels, config.sample_rate, record)


def _writer_of(codec: str, writers: dict[str, Callable[[bytes], bytes]]) -> Callable[[bytes], bytes]:
    """The writer of a codec's record, or a ``MediaError`` that lists the codecs there are."""
    try:
        return writers[codec]
    except KeyError:
        raise MediaError(f"no MP4 sample entry for codec {codec!r}, only for {', '.join(writers)}") from None
