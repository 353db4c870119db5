"""The multivariant playlist of a recording: what there is to play, and the pictures to look for a moment by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rapidrtmp.archive.journal import Journal
from rapidrtmp.archive.playlist import VERSION
from rapidrtmp.codec.table import codec_of_string
from rapidrtmp.media import MediaKind
from rapidrtmp.names import I_FRAMES_PLAYLIST

__all__ = ["multivariant_text"]


def multivariant_text(journal: Journal, media_uri: str) -> Iterator[str]:
    """
    The playlist, in pieces of text; some of them are empty.

    :param journal: has a segment that can be played.
    :param media_uri: of the playlist of the recording.
    """
    header = journal.header
    peak = pictures_peak = total = ticks = 0
    for segment in journal.segments:
        if not segment.is_gap and segment.duration:
            rate = header.timescale * 8
            peak = max(peak, segment.size * rate // segment.duration)
            pictures_peak = max(pictures_peak, segment.parts[0].size * rate // segment.duration)
            total += segment.size
            ticks += segment.duration
        yield ""
    average = total * 8 * header.timescale // max(ticks, 1)
    yield f"#EXTM3U\n#EXT-X-VERSION:{VERSION}\n"
    yield f"#EXT-X-STREAM-INF:{_attributes(journal, header.codecs, max(peak, 1))},AVERAGE-BANDWIDTH={average}\n"
    yield f"{media_uri}\n"
    video = [text for text in header.codecs if (codec := codec_of_string(text)) and codec.kind is MediaKind.VIDEO]
    if video and pictures_peak:
        pictures = _attributes(journal, video, pictures_peak)
        yield f'#EXT-X-I-FRAME-STREAM-INF:{pictures},URI="{I_FRAMES_PLAYLIST}"\n'


def _attributes(journal: Journal, codecs: Sequence[str], peak: int) -> str:
    """What is said of all that can be chosen (4.4.6.2)."""
    header = journal.header
    resolution = f",RESOLUTION={header.width}x{header.height}" if header.width else ""
    return f'BANDWIDTH={peak},CODECS="{",".join(codecs)}"{resolution}'
