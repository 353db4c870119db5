"""
The init segment: what a player must know before the first fragment (``ftyp`` + ``moov``, without a sample).

It depends on the tracks alone, so equal tracks make equal bytes: the packager compares them to know whether viewers
need a new one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from rapidrtmp.cmaf import boxes
from rapidrtmp.codec.table import CODECS, carried
from rapidrtmp.errors import MediaError, MisuseError
from rapidrtmp.media import AudioConfig, Track, VideoConfig

__all__ = ["write_init_segment"]


def write_init_segment(tracks: Sequence[Track]) -> bytes:
    """
    Write the init segment of one or several tracks (ISO/IEC 14496-12, 8.2.1; 23000-19, 7.3).

    A single track is a CMAF header and carries the brand ``cmfc``. Several are muxed, which HLS allows and CMAF does
    not, so that brand is left out.

    :param tracks: in the order of the file, with different ids.
    :raises MediaError: a codec that has no sample entry here, or a size or rate that its field cannot hold.
    :raises MisuseError: no tracks, or two with one id.
    """
    ids = [track.id for track in tracks]
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
        header = boxes.tkhd(track.id, width=_display_width(config), height=config.height << 16)
        handler = boxes.hdlr(b"vide", _name(track, "RapidRTMP video"))
        media_header, entry = boxes.vmhd(), _video_entry(track, config)
    else:
        header = boxes.tkhd(track.id, audible=True)
        handler = boxes.hdlr(b"soun", _name(track, "RapidRTMP audio"))
        media_header, entry = boxes.smhd(), _audio_entry(track, config)
    information = boxes.box(b"minf", media_header, boxes.dinf(), boxes.stbl(entry))
    media = boxes.box(b"mdia", boxes.mdhd(track.timescale, track.language), handler, information)
    return boxes.box(b"trak", header, media)


def _name(track: Track, otherwise: str) -> bytes:
    """What people may call the track, without what would end it early."""
    return (track.name or otherwise).replace("\0", "").encode()


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


def _video_entry(track: Track, config: VideoConfig) -> bytes:
    """The sample entry of a video track: the codec's record first, then colour, aspect and brightness, if known."""
    kind, record = _codec_boxes(track)
    children = [record]
    if config.colour is not None:
        children.append(boxes.colr(config.colour))
    if not _is_square(config):
        children.append(boxes.pasp(*config.pixel_aspect))
    if config.mastering is not None:
        children.append(boxes.mdcv(config.mastering))
    if config.light is not None:
        children.append(boxes.clli(config.light))
    return boxes.visual_sample_entry(kind, config.width, config.height, *children)


def _audio_entry(track: Track, config: AudioConfig) -> bytes:
    """The sample entry of an audio track."""
    kind, record = _codec_boxes(track)
    return boxes.audio_sample_entry(kind, config.channels, config.sample_rate, record)


def _codec_boxes(track: Track) -> tuple[bytes, bytes]:
    """
    The code of a track's sample entry, and the box in it that holds the codec's record.

    :raises MediaError: its codec is not one of those carried; they are listed.
    """
    codec = CODECS.get(track.codec)
    if codec is None or codec.reader is None:
        known = ", ".join(each.fourcc for each in carried() if each.kind is track.kind)
        raise MediaError(f"no MP4 sample entry for codec {track.codec!r}, only for {known}")
    record = codec.write_box(track.config.record)
    return codec.sample_entry.encode("ascii"), boxes.box(codec.box.encode("ascii"), record)
