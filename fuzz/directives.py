"""
Delivery directives: the query of a request for a playlist.

The first bytes of an input are the playlist: its flags, target durations and counts. Nothing but ``BadRequestError``
may escape; and what is asked for is what this playlist can give.
"""

from __future__ import annotations

from fuzz.reading import Input
from rapidrtmp.interfaces import BadRequestError, Playlist
from rapidrtmp.playback.directives import read_directives

__all__ = ["run"]


def run(data: bytes) -> None:
    """One request. :raises AssertionError: an invariant does not hold."""
    parts = Input(data)
    flags = parts.number()
    playlist = Playlist(
        body=b"CAN-BLOCK-RELOAD=YES" if flags & 1 else b"",
        delta=b"" if flags & 2 else None,
        last_sequence=parts.number() - 1,
        open_parts=parts.number() % 16,
        last_segment_parts=parts.number() % 16,
        target_ms=1000 * (1 + flags >> 4),
        part_target_ms=parts.number() * 4 if flags & 4 else 0,
        ended=bool(flags & 8),
    )
    try:
        directives = read_directives(playlist, parts.rest().decode("latin-1"))
    except BadRequestError:
        return
    assert not directives.skip or playlist.delta is not None
    if directives.sequence is None:
        assert directives.part is None
    else:
        assert flags & 1
        assert 0 <= directives.sequence <= playlist.last_sequence + 2
        assert directives.part is None or (directives.part >= 0 and playlist.part_target_ms)
