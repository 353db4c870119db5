"""The multivariant playlist of a recording: what there is to play, and the pictures to look for a moment by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rapidrtmp.archive.journal import Journal
from rapidrtmp.archive.playlist import VERSION
from rapidrtmp.codec.table import codec_of_string
from rapidrtmp.m3u8.rate import Rate, announced
from rapidrtmp.media import MediaKind
from rapidrtmp.names import I_FRAMES_PLAYLIST

__all__ = ["MEDIA_PLAYLIST", "multivariant_text"]

MEDIA_PLAYLIST = "index.m3u8"


def multivariant_text(renditions: Sequence[tuple[str, Journal]], *, has_pictures: bool = True) -> Iterator[str]:
    """
    The playlist, in pieces of text; some of them are empty. A rendition of which nothing can be played is left out.

    :param renditions: the folder of each, with a slash at its end, and what it is of. The stream as it came is the
        first, in no folder.
    :param has_pictures: whether there are playlists of I-frames.
    """
    yield f"#EXTM3U\n#EXT-X-VERSION:{VERSION}\n"
    pictures = ""
    for folder, journal in renditions:
        header, rate, pictures_peak = journal.header, Rate(), 0
        for segment in journal.segments:
            if not segment.is_gap and segment.duration:
                ms = max(segment.duration * 1000 // header.timescale, 1)
                rate.measure(segment.size, ms, header.target_s * 1000)
                pictures_peak = max(pictures_peak, segment.parts[0].size * 8000 // ms)
            yield ""
        if not rate.average and folder:
            continue
        peak = announced(max(rate.peak, rate.average))
        attributes = f"{_attributes(journal, header.codecs, peak)},AVERAGE-BANDWIDTH={announced(rate.average)}"
        yield f"#EXT-X-STREAM-INF:{attributes}\n{folder}{MEDIA_PLAYLIST}\n"
        video = [text for text in header.codecs if (codec := codec_of_string(text)) and codec.kind is MediaKind.VIDEO]
        if video and pictures_peak:
            of_pictures = _attributes(journal, video, pictures_peak)
            pictures += f'#EXT-X-I-FRAME-STREAM-INF:{of_pictures},URI="{folder}{I_FRAMES_PLAYLIST}"\n'
    yield pictures if has_pictures else ""


def _attributes(journal: Journal, codecs: Sequence[str], peak: int) -> str:
    """What is said of all that can be chosen (4.4.6.2)."""
    header = journal.header
    resolution = f",RESOLUTION={header.width}x{header.height}" if header.width else ""
    return f'BANDWIDTH={peak},CODECS="{",".join(dict.fromkeys(codecs))}"{resolution}'
