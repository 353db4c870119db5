"""What viewers are served: the shelf that sinks fill, and a stream as the HTTP side sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from rapidrtmp.names import StreamName

__all__ = [
    "IMMUTABLE",
    "PLAYLIST_TYPE",
    "IMediaObject",
    "IPlayable",
    "IPlaylistVersion",
    "IShelf",
    "IStreamDirectory",
    "IViewers",
    "PlayableFacts",
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

    is_crowded: bool = Attribute("Whether the stream takes more memory than it should: a playlist is to list less.")

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
        """Take an object down, or a promise back (requests that wait get 404). An unknown name is no error."""


# ── what HTTP sees ────────────────────────────────────────────────────────────────────────────────────────────────────


class IMediaObject(Interface):
    """Bytes under a name: they never change, only the name may come to mean another object."""

    body: bytes = Attribute("All of it.")
    gzipped: bytes = Attribute("The body compressed; for text only.")
    etag: str = Attribute("A strong entity tag, quotes included (RFC 9110, 8.8.3).")
    content_type: str = Attribute("For the header of that name.")
    cache_control: str = Attribute("Likewise; empty for a playlist, whose age HTTP reckons.")


class IPlaylistVersion(Interface):
    """One version of a live playlist, ready to be sent to any number of players."""

    facts: Playlist = Attribute("The version as its sink described it.")
    full: IMediaObject = Attribute("The whole playlist.")
    delta: IMediaObject = Attribute("Its delta update; the whole where there is none.")


class IViewers(Interface):
    """Counts the viewers of a stream by their requests, on a clock in milliseconds that everything here shares."""

    def saw(address: str, agent: str, thing: str, now_ms: int) -> None:
        """Count one request; ``thing`` names what was asked for, ``""`` for what all ask for again and again."""

    def enter(address: str, agent: str) -> Callable[[], None]:
        """Count one that is sent everything over one connection; what is returned is to be called when it leaves."""

    def knows(address: str, agent: str, now_ms: int) -> bool:
        """Whether this client is among those who watch."""

    def stands_for(address: str, agent: str, now_ms: int) -> int:
        """How many of those who watch this client stands for."""

    def count(now_ms: int) -> int:
        """How many watch now."""

    def count_of(address: str, now_ms: int) -> int:
        """How many watch now from an address, or its IPv6 /64."""

    def bound_prefixes(most: int) -> None:
        """Count those of one address, or IPv6 /64, as so many at most; 0 for no bound."""


@dataclass(frozen=True, slots=True)
class PlayableFacts:
    """
    How a stream is.

    :ivar is_interrupted: its publisher is gone and may return: nothing new comes meanwhile.
    :ivar is_over: nothing new comes any more.
    :ivar target_ms: the longest target duration among its playlists, in milliseconds; 0 if there are none.
    """

    is_interrupted: bool
    is_over: bool
    target_ms: int


class IPlayable(Interface):
    """
    A stream as HTTP sees it, whichever process it lives in: what is up, and what can be waited for.

    Nothing here blocks. A Deferred belongs to its caller, who cancels it to stop waiting. Too many that wait raise
    ``TooManyWaitersError``.
    """

    name: StreamName = Attribute("Its public name.")
    viewers: IViewers = Attribute("Counts who watches.")
    facts: PlayableFacts = Attribute("How it is now.")
    lag_s: float = Attribute("How long, in seconds, others may have known what is not known here: 0 for the source.")

    def find(name: str) -> IMediaObject | None:
        """The object of that name, if it is up."""

    def version(name: str) -> IPlaylistVersion | None:
        """The newest version of the playlist of that name, if there is one."""

    def is_announced(name: str) -> bool:
        """Whether ``name`` was promised and is not up yet."""

    def wait(name: str) -> Deferred[IMediaObject | None]:
        """Wait for an object that is not up: fires with it, or with ``None`` when its promise is taken back."""

    def wait_for_version(name: str, sequence: int, part: int | None) -> Deferred[IPlaylistVersion | None]:
        """
        Wait for a version of a playlist, which need not exist yet, that has this segment, or this part of it; fires
        with ``None`` when the stream is gone.
        """


class IStreamDirectory(Interface):
    """Finds streams by name."""

    def find(name: StreamName) -> IPlayable | None:
        """The stream of that name: live, interrupted, or ended and still served."""
