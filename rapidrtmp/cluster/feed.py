"""
The owner's side of a feed: what is done to the shelf of a stream, sent to the nodes that follow it.

A follower first gets all that is up and promised, then what changes. While none follows, nothing is kept and nothing is
done. The owner never waits: a follower that does not read is cut off, and comes back for all that is up then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rapidrtmp.cluster.feed_frames import FeedFrame, Kind, write_frame
from rapidrtmp.cluster.followed_shelf import FollowedShelf
from rapidrtmp.cluster.pieces import PieceFolder
from rapidrtmp.interfaces import Playlist
from rapidrtmp.live.shelf import ShelfObject
from rapidrtmp.names import StreamName

__all__ = ["PING_S", "Feed", "Follower", "facts_of"]

#: How often followers hear that the owner is there.
PING_S = 1.0
#: A follower may leave so much unread, or twice what is on the shelf.
MIN_UNREAD_BYTES = 8 << 20
#: Tell pieces of one node apart, whichever stream they are of.
_numbers = count(1)


class Follower(Protocol):
    """
    A node that follows.

    :ivar reads_files: whether it is on this machine, and reads pieces from the owner's files.
    """

    reads_files: bool

    @property
    def unread_bytes(self) -> int:
        """How much has been sent to it and not taken."""

    def send(self, data: bytes) -> None:
        """Send it something."""

    def close(self) -> None:
        """Let it have what was sent, and no more."""

    def abort(self) -> None:
        """Cut it off."""


@dataclass(slots=True)
class _Piece:
    """Bytes that objects on the shelf consist of; ``uses`` counts those."""

    number: int
    data: bytes
    uses: int = 0
    is_written: bool = False
    is_sent: bool = False


class Feed:
    """
    The feed of one stream.

    :param fence: tells the fence under which this node owns it.
    :param state: tells how the stream is: ``live``, ``interrupted`` or ``ended``.
    :param folder: where its pieces go.
    """

    _log = Logger()

    def __init__(
        self,
        name: StreamName,
        shelf: FollowedShelf,
        fence: Callable[[], int],
        state: Callable[[], str],
        folder: PieceFolder,
        clock: IReactorTime,
    ) -> None:
        self._name = name
        self._shelf = shelf
        self._fence = fence
        self._state = state
        self._folder = folder
        self._clock = clock
        self._followers: dict[Follower, list[bytes]] = {}  # and what is to be sent to each in this turn
        self._pieces: dict[int, _Piece] = {}  # by the identity of their bytes, which they keep
        self._of_names: dict[str, list[_Piece]] = {}
        self._flushing: IDelayedCall | None = None
        self._said_state = ""
        self._has_spoken = False  # since it was looked last: followers know that it lives
        self._pinging = LoopingCall(self._ping)
        self._pinging.clock = clock

    def __len__(self) -> int:
        """How many nodes follow."""
        return len(self._followers)

    # ── who follows ──────────────────────────────────────────────────────────────────────────────────────────────────

    def follow(self, follower: Follower) -> None:
        """Send a node all there is, and from now on what changes."""
        if not self._followers:
            self._begin()
        if follower.reads_files:
            for piece in self._pieces.values():
                self._write(piece)
        self._followers[follower] = list(self._snapshot(follower))
        self._later()

    def leave(self, follower: Follower) -> None:
        """A node follows no more."""
        if self._followers.pop(follower, None) is not None and not self._followers:
            self._end()

    def close(self, state: str) -> None:
        """Tell all followers how it ended, and have no more."""
        if not self._followers:
            return
        self._say(Kind.STATE, meta={"state": state})
        self._flush()
        followers, self._followers = self._followers, {}
        for follower in followers:
            follower.close()
        self._end()

    def _begin(self) -> None:
        self._shelf.observer = self
        for name, stored in self._shelf.objects:
            self._keep(name, stored.pieces)
        self._said_state = self._state()
        self._pinging.start(PING_S, now=False)

    def _end(self) -> None:
        self._shelf.observer = None
        if self._pinging.running:
            self._pinging.stop()
        for piece in self._pieces.values():
            if piece.is_written:
                self._folder.delete(piece.number)
        self._pieces.clear()
        self._of_names.clear()

    def _snapshot(self, follower: Follower) -> Iterator[bytes]:
        folder = str(self._folder.path) if follower.reads_files else ""
        yield self._frame(Kind.BEGIN, meta={"folder": folder})
        yield self._frame(Kind.STATE, meta={"state": self._said_state})
        for name, stored in self._shelf.objects:
            if not follower.reads_files:
                for piece in self._of_names[name]:
                    yield self._frame(Kind.PIECE, meta={"number": piece.number}, body=piece.data)
            yield self._put_frame(name, stored)
        for name in self._shelf.promised:
            yield self._frame(Kind.PROMISE, name)
        for name, playlist in self._shelf.playlists:
            yield self._list_frame(name, playlist)
        yield self._frame(Kind.READY)

    # ── what is done to the shelf (ShelfObserver) ────────────────────────────────────────────────────────────────────

    def put(self, name: str, put: ShelfObject) -> None:
        """An object was put up."""
        pieces = self._keep(name, put.pieces)
        for piece in pieces:
            if not piece.is_sent:
                piece.is_sent = True
                self._send_piece(piece)
        self._say_bytes(self._put_frame(name, put))

    def put_playlist(self, name: str, playlist: Playlist) -> None:
        """A version of a playlist was."""
        self._say_bytes(self._list_frame(name, playlist))

    def announced(self, name: str) -> None:
        """A name was promised."""
        self._say(Kind.PROMISE, name)

    def withdrawn(self, name: str) -> None:
        """A name was taken down."""
        self._release(name)
        self._say(Kind.WITHDRAW, name)

    # ── pieces ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _keep(self, name: str, data: Sequence[bytes]) -> list[_Piece]:
        """The pieces of an object that is up; those that are of others as well are known."""
        pieces = []
        for each in data:
            piece = self._pieces.get(id(each))
            if piece is None:
                piece = self._pieces[id(each)] = _Piece(next(_numbers), each)
            piece.uses += 1
            pieces.append(piece)
        self._release(name)
        self._of_names[name] = pieces
        return pieces

    def _release(self, name: str) -> None:
        for piece in self._of_names.pop(name, ()):
            piece.uses -= 1
            if not piece.uses:
                self._pieces.pop(id(piece.data), None)
                if piece.is_written:
                    self._folder.delete(piece.number)

    def _write(self, piece: _Piece) -> None:
        if piece.is_written:
            return
        piece.is_written = True
        try:
            self._folder.write(piece.number, piece.data)
        except OSError as error:
            self._log.error("{stream}: other nodes cannot read it: {error}", stream=self._name, error=error)

    def _send_piece(self, piece: _Piece) -> None:
        sent = b""
        for follower, pending in self._followers.items():
            if follower.reads_files:
                self._write(piece)
            else:
                sent = sent or self._frame(Kind.PIECE, meta={"number": piece.number}, body=piece.data)
                pending.append(sent)

    # ── frames ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _frame(self, kind: Kind, name: str = "", meta: dict[str, object] | None = None, body: bytes = b"") -> bytes:
        return write_frame(FeedFrame(kind, self._fence(), name, meta or {}, body))

    def _put_frame(self, name: str, stored: ShelfObject) -> bytes:
        pieces = [piece.number for piece in self._of_names[name]]
        said = {"type": stored.content_type, "cache": stored.cache_control, "size": stored.size, "pieces": pieces}
        return self._frame(Kind.PUT, name, said)

    def _list_frame(self, name: str, playlist: Playlist) -> bytes:
        return self._frame(Kind.LIST, name, facts_of(playlist), playlist.body + (playlist.delta or b""))

    def _say(self, kind: Kind, name: str = "", meta: dict[str, object] | None = None) -> None:
        self._say_bytes(self._frame(kind, name, meta))

    def _say_bytes(self, frame: bytes) -> None:
        for pending in self._followers.values():
            pending.append(frame)
        self._has_spoken = True
        self._later()

    def _later(self) -> None:
        """Send all that is said in this turn of the reactor at once, behind it."""
        if self._flushing is None:
            self._flushing = self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        if self._flushing is not None and self._flushing.active():
            self._flushing.cancel()
        self._flushing = None
        most = max(MIN_UNREAD_BYTES, 2 * self._shelf.size)
        for follower, pending in list(self._followers.items()):
            if not pending:
                continue
            data = b"".join(pending)
            pending.clear()
            if follower.unread_bytes + len(data) > most and follower.unread_bytes:
                self._log.warn("{stream}: a node that follows does not read, and is cut off", stream=self._name)
                self.leave(follower)
                follower.abort()
            else:
                follower.send(data)

    def _ping(self) -> None:
        state = self._state()
        if state != self._said_state:
            self._said_state = state
            self._say(Kind.STATE, meta={"state": state})
        if not self._has_spoken:
            self._say(Kind.PING)
        self._has_spoken = False


def facts_of(playlist: Playlist) -> dict[str, object]:
    """The facts of a version, without its text."""
    return {
        "delta": None if playlist.delta is None else len(playlist.delta),
        "last": playlist.last_sequence,
        "parts": playlist.open_parts,
        "lastParts": playlist.last_segment_parts,
        "target": playlist.target_ms,
        "partTarget": playlist.part_target_ms,
        "ended": playlist.ended,
        "first": playlist.first_sequence,
        "blocks": playlist.blocks,
    }
