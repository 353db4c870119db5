"""
The shelf: what one live stream serves over HTTP right now, and who waits for what comes next.

Sinks write through :class:`~rapidrtmp.interfaces.IShelf`; the HTTP side reads with the rest of :class:`Shelf`. It
knows nothing of segments: an object is bytes under a name, a playlist is a text with the position it reaches. Every
waiter gets a Deferred of its own, so that one player's leaving cancels no other request.
"""

from __future__ import annotations

import gzip
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from rapidrtmp.errors import RapidRTMPError
from rapidrtmp.interfaces import IMMUTABLE, PLAYLIST_TYPE, IMediaObject, IPlaylistVersion, IShelf, Playlist

__all__ = ["PlaylistVersion", "Shelf", "ShelfObject", "TooManyWaitersError", "contains"]

T = TypeVar("T")


#: How many waiters are answered in one turn of the reactor.
SLICE = 64


class TooManyWaitersError(RapidRTMPError):
    """One more request would wait here than the bound allows: 503."""


@implementer(IMediaObject)
class ShelfObject:
    """
    Bytes under a name, joined, hashed and compressed once each, and only when asked for.

    :ivar size: in bytes.
    :ivar content_type: for the header of that name; likewise ``cache_control``.
    """

    def __init__(self, pieces: Sequence[bytes], content_type: str, cache_control: str) -> None:
        self._pieces: Sequence[bytes] = pieces
        self.size = sum(map(len, pieces))
        self.content_type = content_type
        self.cache_control = cache_control

    @property
    def pieces(self) -> Sequence[bytes]:
        """What makes it up, in order."""
        return self._pieces

    @cached_property
    def body(self) -> bytes:
        """All of it. The pieces are let go: they may be shared with the parts of a segment."""
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = (body,)
        return body

    @cached_property
    def gzipped(self) -> bytes:
        """The body compressed; for text only."""
        return gzip.compress(self.body, compresslevel=5, mtime=0)

    @cached_property
    def etag(self) -> str:
        """A strong entity tag, quotes included (RFC 9110, 8.8.3)."""
        return f'"{hashlib.blake2b(self.body, digest_size=12).hexdigest()}"'


@implementer(IPlaylistVersion)
class PlaylistVersion:
    """
    One version of a live playlist, ready to be sent to any number of players.

    :ivar facts: the version as the sink described it.
    :ivar full: the whole playlist.
    :ivar delta: its delta update; the whole where there is none.
    """

    def __init__(self, facts: Playlist) -> None:
        self.facts = facts
        self.full = ShelfObject((facts.body,), PLAYLIST_TYPE, "")
        self.delta = self.full if facts.delta is None else ShelfObject((facts.delta,), PLAYLIST_TYPE, "")


def contains(playlist: Playlist, sequence: int, part: int | None) -> bool:
    """
    Whether a playlist answers ``_HLS_msn=sequence[&_HLS_part=part]`` (RFC 8216 bis, 6.2.5.2).

    A part beyond the last one of a complete segment stands for the first part of the next segment. A final playlist
    answers everything.
    """
    if playlist.ended:
        return True
    if part is None or sequence < playlist.last_sequence:
        return sequence <= playlist.last_sequence
    if sequence == playlist.last_sequence:
        return part < playlist.last_segment_parts or playlist.open_parts > 0
    return sequence == playlist.last_sequence + 1 and part < playlist.open_parts


_Position = tuple[int, int | None]


@implementer(IShelf)
class Shelf:
    """
    The objects, playlists and waiters of one stream.

    :param clock: lets many waiters be answered in slices; without one, all are at once.
    :ivar is_crowded: see :class:`IShelf <rapidrtmp.interfaces.IShelf>`.
    :ivar size: about how many bytes its objects take; what parts and their segment share counts for each.
    :ivar max_waiters: how many requests may wait here at one time.
    :ivar segment_listed: called once, with the name of the playlist that is the first to list a segment.
    :ivar target_found: called with the longest target duration there ever was, in milliseconds, whenever that grows.
    """

    def __init__(self, max_waiters: int = 10_000, clock: IReactorTime | None = None) -> None:
        self.max_waiters = max_waiters
        self.is_crowded = False
        self.size = 0
        self.target_found: Callable[[int], None] = lambda _target_ms: None
        self.segment_listed: Callable[[str], object] = lambda _name: None
        self._lists_segments = False
        self._longest_target_ms = 0
        self._objects: dict[str, ShelfObject] = {}
        self._playlists: dict[str, PlaylistVersion] = {}
        self._expected: dict[str, set[Deferred[IMediaObject | None]]] = {}
        self._blocked: dict[str, dict[_Position, set[Deferred[IPlaylistVersion | None]]]] = {}
        self._waiting = 0
        self._due: deque[tuple[set[Deferred[Any]], object]] = deque()  # those that are left of large crowds
        self._holds = True
        self._clock = clock

    # ── what sinks do (IShelf) ───────────────────────────────────────────────────────────────────────────────────────

    def put(self, name: str, pieces: Sequence[bytes], content_type: str, cache_control: str = IMMUTABLE) -> None:
        """See :meth:`IShelf.put <rapidrtmp.interfaces.IShelf.put>`."""
        before = self._objects.get(name)
        stored = self._objects[name] = ShelfObject(pieces, content_type, cache_control)
        self.size += stored.size - (before.size if before is not None else 0)
        self._fire(self._expected.pop(name, set()), stored)

    def put_playlist(self, name: str, playlist: Playlist) -> None:
        """See :meth:`IShelf.put_playlist <rapidrtmp.interfaces.IShelf.put_playlist>`."""
        if playlist.target_ms > self._longest_target_ms:
            self._longest_target_ms = playlist.target_ms
            self.target_found(playlist.target_ms)
        if not self._lists_segments and playlist.last_sequence >= playlist.first_sequence:
            self._lists_segments = True
            self.segment_listed(name)
        version = self._playlists[name] = PlaylistVersion(playlist)
        self._fire(self._expected.pop(name, set()), version.full)
        blocked = self._blocked.get(name)
        if not blocked:
            return
        for position in [position for position in blocked if contains(playlist, *position)]:
            self._fire(blocked.pop(position), version)

    def announce(self, name: str) -> None:
        """See :meth:`IShelf.announce <rapidrtmp.interfaces.IShelf.announce>`."""
        if name not in self._objects and name not in self._playlists:
            self._expected.setdefault(name, set())

    def withdraw(self, name: str) -> None:
        """See :meth:`IShelf.withdraw <rapidrtmp.interfaces.IShelf.withdraw>`."""
        removed = self._objects.pop(name, None)
        if removed is not None:
            self.size -= removed.size
        self._playlists.pop(name, None)
        self._fire(self._expected.pop(name, set()), None)
        for waiters in self._blocked.pop(name, {}).values():
            self._fire(waiters, None)

    # ── what HTTP does ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_followed(self) -> bool:
        """Whether other processes serve what is here."""
        return False

    @property
    def waiting(self) -> int:
        """How many requests wait here now."""
        return self._waiting

    @property
    def target_ms(self) -> int:
        """The longest target duration among its playlists, in milliseconds; 0 if there are none."""
        return max((version.facts.target_ms for version in self._playlists.values()), default=0)

    @property
    def reached(self) -> int:
        """The highest media sequence number that any of its playlists can have spoken of; 0 if there are none."""
        return max((version.facts.last_sequence + 2 for version in self._playlists.values()), default=0)

    def find(self, name: str) -> ShelfObject | None:
        """The object of that name, if it is up."""
        return self._objects.get(name)

    def find_playlist(self, name: str) -> PlaylistVersion | None:
        """The newest version of the playlist of that name, if there is one."""
        return self._playlists.get(name)

    def is_announced(self, name: str) -> bool:
        """Whether ``name`` was promised and is not up yet."""
        return name in self._expected

    def wait_for(self, name: str) -> Deferred[IMediaObject | None]:
        """
        A Deferred of the caller's own: fires with the announced object when it is put, with ``None`` when the promise
        is taken back. Cancel it to stop waiting.

        :raises TooManyWaitersError: when the bound is reached.
        """
        self._check_room()
        waiters = self._expected[name]
        waiter: Deferred[IMediaObject | None] = Deferred(lambda _: self._gone(waiters, waiter))
        self._admit(waiters, waiter)
        return waiter

    def wait_for_playlist(self, name: str, sequence: int, part: int | None) -> Deferred[IPlaylistVersion | None]:
        """
        A Deferred of the caller's own: fires with the first version that :func:`contains` the position, with ``None``
        when the shelf is cleared. The playlist need not exist yet. Cancel it to stop waiting.

        :raises TooManyWaitersError: when the bound is reached.
        """
        self._check_room()
        positions = self._blocked.setdefault(name, {})
        waiters = positions.setdefault((sequence, part), set())

        def leave(_: object) -> None:
            self._gone(waiters, waiter)
            if not waiters:
                positions.pop((sequence, part), None)

        waiter: Deferred[IPlaylistVersion | None] = Deferred(leave)
        self._admit(waiters, waiter)
        return waiter

    def stop_holding(self) -> None:
        """Let the time of all that wait be over (their Deferreds fail with ``TimeoutError``); hold no more requests."""
        self._holds = False
        for announced in list(self._expected.values()):
            self._send_away(announced)
        for positions in list(self._blocked.values()):
            for blocked in list(positions.values()):
                self._send_away(blocked)

    def clear(self) -> None:
        """Take everything down and send every waiter away."""
        for name in {*self._objects, *self._playlists, *self._expected, *self._blocked}:
            self.withdraw(name)

    # ── waiters ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_room(self) -> None:
        if not self._holds:
            raise TooManyWaitersError("the server is shutting down, and lets no more requests wait")
        if self._waiting >= self.max_waiters:
            raise TooManyWaitersError(f"{self._waiting} requests wait for this stream already")

    def _admit(self, waiters: set[Deferred[T]], waiter: Deferred[T]) -> None:
        waiters.add(waiter)
        self._waiting += 1

    def _gone(self, waiters: set[Deferred[T]], waiter: Deferred[T]) -> None:
        if waiter in waiters:
            waiters.discard(waiter)
            self._waiting -= 1

    def _send_away(self, waiters: set[Deferred[T]]) -> None:
        for waiter in list(waiters):
            self._gone(waiters, waiter)
            waiter.errback(TimeoutError("the server is shutting down"))

    def _fire(self, waiters: set[Deferred[T]], result: T) -> None:
        """
        Answer all; beyond a slice, the rest in later turns of the reactor, for frames must not wait for players.

        What came first is answered first: those that wait for a part before those that wait for the playlist with it.
        """
        if self._clock is None or not self._due:
            self._answer(waiters, result, SLICE if self._clock is not None else len(waiters))
        if waiters and self._clock is not None:
            self._due.append((waiters, result))
            if len(self._due) == 1:
                self._clock.callLater(0, self._answer_due, self._clock)

    def _answer_due(self, clock: IReactorTime) -> None:
        left = SLICE
        while self._due and left:
            waiters, result = self._due[0]
            left -= self._answer(waiters, result, left)
            if not waiters:
                self._due.popleft()
        if self._due:
            clock.callLater(0, self._answer_due, clock)

    def _answer(self, waiters: set[Deferred[Any]], result: object, most: int) -> int:
        """Answer so many at most; how many that were."""
        answered = 0
        while waiters and answered < most:
            waiter = waiters.pop()
            self._waiting -= 1
            answered += 1
            waiter.callback(result)
        return answered
