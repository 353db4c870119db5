"""What a live stream serves over HTTP right now: the shelf, and the playlists on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zope.interface import Interface

__all__ = [
    "IMMUTABLE",
    "PLAYLIST_TYPE",
    "IShelf",
    "Playlist",
]

#: ``Content-Type`` of every playlist.
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
#: ``Cache-Control`` of an object whose name is never used for other bytes: init segments, segments, parts.
IMMUTABLE = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Playlist:
    """
    One version of a live media playlist, as text and as the facts that HTTP needs to hold requests for it.

    :ivar body: the whole playlist, UTF-8.
    :ivar delta: its delta update (``EXT-X-SKIP``), or ``None`` where nothing can be skipped.
    :ivar last_sequence: media sequence number of the last complete segment; ``first - 1`` if there is none yet.
    :ivar open_parts: how many parts of the segment after it are listed.
    :ivar last_segment_parts: how many parts the last complete segment had.
    :ivar target_ms: the target duration in milliseconds.
    :ivar part_target_ms: the part target, or 0 if there are no parts.
    :ivar ended: whether the playlist is final.
    :ivar first_sequence: media sequence number of the first segment listed.
    :ivar blocks: whether it says that requests for what is still to come are held (``CAN-BLOCK-RELOAD``).
    """

    body: bytes
    delta: bytes | None
    last_sequence: int
    open_parts: int
    last_segment_parts: int
    target_ms: int
    part_target_ms: int
    ended: bool
    first_sequence: int = 0
    blocks: bool = True


class IShelf(Interface):
    """
    What one live stream serves over HTTP right now, by name; ``/APP/KEY/NAME`` reads it.

    Names are relative, without a slash. Nothing here blocks or waits.
    """

    def put(name: str, pieces: Sequence[bytes], content_type: str, cache_control: str = IMMUTABLE) -> None:
        """
        Put an object up, whole; ``pieces`` in order are its bytes (kept, not copied, until first asked for).

        Requests waiting for an announced ``name`` are answered. Putting a name again replaces the object: only for
        names whose ``cache_control`` allows it.
        """

    def put_playlist(name: str, playlist: Playlist) -> None:
        """Put up the next version of a media playlist and answer the requests that waited for what it holds."""

    def announce(name: str) -> None:
        """Promise that ``name`` will be put: requests for it wait, in bounds, instead of failing."""

    def withdraw(name: str) -> None:
        """Take an object down, or a promise back (whoever waits gets 404). An unknown name is no error."""
