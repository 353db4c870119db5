"""
What is left of a stream whose process is no more, as viewers of another one saw it.

The playlist that they have lists parts of a segment that will never be whole: that one, and what they may have seen
besides, become gaps, as in a stored playlist that is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rapidrtmp.errors import MediaError
from rapidrtmp.hls.names import MEDIA_PLAYLIST, MULTIVARIANT_PLAYLIST, STATE
from rapidrtmp.hls.resume.reopen import bridge, named_media, reopen
from rapidrtmp.hls.resume.state import StoredState
from rapidrtmp.interfaces import Constants, Playlist
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.write import render_media_playlist

__all__ = ["salvage"]


def salvage(seen: Playlist, size: int, find: Callable[[str], bytes | None], utc_ms: int) -> Mapping[str, bytes]:
    """
    What can be resumed of a stream; nothing if that is not possible.

    :param seen: the newest version of its media playlist.
    :param size: how many segments a playlist lists.
    :param find: finds the bytes of an object.
    :param utc_ms: now, in milliseconds since 1970.
    """
    playlist = parse_media_playlist(seen.body)
    constants = Constants(seen.target_ms // 1000, seen.part_target_ms)
    state = StoredState(constants, seen.last_sequence + 2, discontinuity=playlist.last_discontinuity)
    try:
        window = reopen(playlist, constants, size)
    except MediaError:
        return {}
    if window.ended:
        return {}
    found = {name: body for name in named_media(window) if (body := find(name)) is not None}
    for segment in window.segments:
        if not segment.gap and not {segment.uri, segment.map_uri} <= found.keys():
            window.lose(segment.sequence)
    bridge(window, state, utc_ms)
    multivariant = find(MULTIVARIANT_PLAYLIST)
    return {
        **found,
        **({} if multivariant is None else {MULTIVARIANT_PLAYLIST: multivariant}),
        MEDIA_PLAYLIST: render_media_playlist(window.plain()).encode(),
        STATE: StoredState(constants, window.next_sequence, discontinuity=window.last_discontinuity).render(),
    }
