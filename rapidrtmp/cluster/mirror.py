"""
The follower's side of a feed: a stream that another node owns, as viewers of this one see it.

What arrives is put on a shelf of this node's own, so that requests are answered and held as for a stream of its own. A
player's two connections may end at two nodes, and learn of a part at the owner a moment before it is known here. So a
request for a name that is not known is held for a second before it is answered that there is none.

The shelf outlives feeds: when one is lost the stream is as one whose publisher is gone, and the next feed, from
the node that owns the stream then, continues it. What was said under a lower fence than one that is known is void.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from rapidrtmp.cluster.feed_frames import FeedFrame, Kind
from rapidrtmp.cluster.followed_shelf import FollowedShelf
from rapidrtmp.cluster.pieces import PiecedObject
from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.interfaces import (
    IMMUTABLE,
    IMediaObject,
    IPlayable,
    IPlaylistVersion,
    Owner,
    PlayableFacts,
    Playlist,
)
from rapidrtmp.live.shelf import PlaylistVersion, ShelfObject
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.names import POSTER, StreamName, is_made_when_asked

__all__ = ["LAG_S", "Mirror"]

#: How long a request waits for something that the owner may have said already.
LAG_S = 1.0
#: What a stream has more of all the time, or soon: other names are those of what is there once a snapshot is whole.
_MAY_COME = re.compile(r"[0-9][^.]*\.|\.m4s$|(^|/)index\.m3u8$")
#: What no shelf has: routes of their own answer for it.
_OF_ROUTES = frozenset({POSTER, "viewers.json"})


@implementer(IPlayable)
class Mirror:
    """
    A stream of another node.

    :ivar fence: the highest that is known.
    :ivar state: what the owner says: ``live``, ``interrupted``, ``ended``; ``moved`` or ``gone`` when its feed is over.
    :ivar is_followed: whether there is a feed; ``owner``: whose it is, or was last.
    :ivar asked_s: when a viewer asked last.
    """

    def __init__(self, name: StreamName, shelf: FollowedShelf, viewers: Viewers, clock: IReactorTime) -> None:
        self.name = name
        self.viewers = viewers
        self.shelf = shelf
        self.fence = 0
        self.state = "starting"
        self.is_followed = False
        self.owner: Owner | None = None
        self._clock = clock
        self.asked_s = clock.seconds()
        self._folder = ""
        self._pieces: dict[int, list[Any]] = {}  # those that are sent: their bytes, and how many objects have them
        self._of_names: dict[str, tuple[int, ...]] = {}
        self._doubtful: set[str] | None = None  # while a snapshot comes: what it has not named yet
        self._is_whole = False  # whether a snapshot has come
        self._promised: set[str] = set()  # by the owner, which is not every name that is waited for
        self._doubts: dict[str, IDelayedCall] = {}  # names that are waited for and were not promised

    # ── what the owner says ──────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, frame: FeedFrame) -> None:
        """
        Do what a frame says.

        :raises PeerProtocolError: it makes no sense.
        """
        if frame.fence < self.fence:
            return
        self.fence = frame.fence
        try:
            _REACTIONS[frame.kind](self, frame)
        except (KeyError, TypeError, ValueError) as error:
            raise PeerProtocolError(f"feed: {frame.kind.name} without what belongs to it: {error!r}") from error

    def lost(self) -> None:
        """The feed is over, for whatever reason."""
        self.is_followed = False
        self._doubtful = None

    def close(self) -> None:
        """Wait for nothing any more; the shelf stays as it is."""
        for doubt in self._doubts.values():
            doubt.cancel()
        self._doubts.clear()

    def _begin(self, frame: FeedFrame) -> None:
        self.is_followed = True
        self._folder = frame.meta["folder"]
        self._pieces.clear()
        self._of_names.clear()
        shelf = self.shelf
        self._doubtful = {name for name, _ in (*shelf.objects, *shelf.playlists)} | self._promised
        self._promised = set()

    def _piece(self, frame: FeedFrame) -> None:
        self._pieces[int(frame.meta["number"])] = [frame.body, 0]

    def _put(self, frame: FeedFrame) -> None:
        name, meta = frame.name, frame.meta
        numbers = tuple(map(int, meta["pieces"]))
        size, content_type, cache_control = int(meta["size"]), str(meta["type"]), str(meta["cache"])
        self._confirm(name)
        stored: ShelfObject
        if self._folder:
            if self._is_known(name, size, cache_control):
                return
            files = tuple(f"{self._folder}/{number}" for number in numbers)
            stored = PiecedObject(files, size, content_type, cache_control)
        else:
            for number in numbers:
                self._pieces[number][1] += 1
            stored = ShelfObject([self._pieces[number][0] for number in numbers], content_type, cache_control)
            self._drop(name)
            self._of_names[name] = numbers
        self.shelf.put_object(name, stored)

    def _is_known(self, name: str, size: int, cache_control: str) -> bool:
        """Whether an object that never changes is here, with its bytes."""
        known = self.shelf.find(name)
        if known is None or known.size != size or cache_control != IMMUTABLE:
            return False
        return not isinstance(known, PiecedObject) or known.is_loaded

    def _drop(self, name: str) -> None:
        for number in self._of_names.pop(name, ()):
            piece = self._pieces.get(number)
            if piece is not None:
                piece[1] -= 1
                if not piece[1]:
                    del self._pieces[number]

    def _list(self, frame: FeedFrame) -> None:
        self._confirm(frame.name)
        playlist = _playlist(frame.meta, frame.body)
        known = self.shelf.find_playlist(frame.name)
        if known is None or _reach(known.facts) <= _reach(playlist):
            self.shelf.put_playlist(frame.name, playlist)

    def _promise(self, frame: FeedFrame) -> None:
        self._confirm(frame.name)
        self._promised.add(frame.name)
        self.shelf.announce(frame.name)

    def _withdraw(self, frame: FeedFrame) -> None:
        self._drop(frame.name)
        self._promised.discard(frame.name)
        self.shelf.withdraw(frame.name)

    def _state(self, frame: FeedFrame) -> None:
        self.state = str(frame.meta["state"])

    def _ready(self, _frame: FeedFrame) -> None:
        """The snapshot is whole: what it did not name is gone."""
        doubtful, self._doubtful = self._doubtful or set(), None
        self._is_whole = True
        for name in doubtful:
            self.shelf.withdraw(name)

    def _ping(self, _frame: FeedFrame) -> None:
        pass

    def _confirm(self, name: str) -> None:
        self._promised.discard(name)
        if self._doubtful is not None:
            self._doubtful.discard(name)

    # ── what viewers are served (IPlayable) ──────────────────────────────────────────────────────────────────────────

    @property
    def lag_s(self) -> float:
        """See :class:`IPlayable <rapidrtmp.interfaces.IPlayable>`."""
        return LAG_S

    @property
    def facts(self) -> PlayableFacts:
        """See :class:`PlayableFacts <rapidrtmp.interfaces.PlayableFacts>`."""
        is_over = self.state in ("ended", "gone")
        is_interrupted = not is_over and (self.state in ("interrupted", "moved") or not self.is_followed)
        return PlayableFacts(is_interrupted, is_over, self.shelf.target_ms)

    def find(self, name: str) -> IMediaObject | None:
        """See :meth:`IPlayable.find <rapidrtmp.interfaces.IPlayable.find>`."""
        self.asked_s = self._clock.seconds()
        found = self.shelf.find(name)
        if isinstance(found, PiecedObject) and not found.load():
            self.shelf.withdraw(name)
            return None
        return found

    def version(self, name: str) -> PlaylistVersion | None:
        """See :meth:`IPlayable.version <rapidrtmp.interfaces.IPlayable.version>`."""
        self.asked_s = self._clock.seconds()
        return self.shelf.find_playlist(name)

    def is_announced(self, name: str) -> bool:
        """
        See :meth:`IPlayable.is_announced <rapidrtmp.interfaces.IPlayable.is_announced>`: what is not known may have
        been, unless the owner never promises it.
        """
        if is_made_when_asked(name):
            return False
        if name in _OF_ROUTES or self.shelf.find(name) is not None or self.shelf.find_playlist(name) is not None:
            return False
        return not self._is_whole or name in self._promised or _MAY_COME.search(name) is not None

    def wait(self, name: str) -> Deferred[IMediaObject | None]:
        """See :meth:`IPlayable.wait <rapidrtmp.interfaces.IPlayable.wait>`; a name not promised comes soon or never."""
        self.shelf.announce(name)
        if name not in self._promised and name not in self._doubts and not name.endswith(".m3u8"):
            self._doubts[name] = self._clock.callLater(LAG_S, self._give_up, name)
        return self.shelf.wait_for(name)

    def _give_up(self, name: str) -> None:
        """A name was waited for long enough, unless it has come or is promised now."""
        del self._doubts[name]
        if name not in self._promised and self.is_announced(name):
            self.shelf.withdraw(name)

    def wait_for_version(self, name: str, sequence: int, part: int | None) -> Deferred[IPlaylistVersion | None]:
        """See :meth:`IPlayable.wait_for_version <rapidrtmp.interfaces.IPlayable.wait_for_version>`."""
        return self.shelf.wait_for_playlist(name, sequence, part)


_REACTIONS = {
    Kind.BEGIN: Mirror._begin,
    Kind.PIECE: Mirror._piece,
    Kind.PUT: Mirror._put,
    Kind.LIST: Mirror._list,
    Kind.PROMISE: Mirror._promise,
    Kind.WITHDRAW: Mirror._withdraw,
    Kind.STATE: Mirror._state,
    Kind.READY: Mirror._ready,
    Kind.PING: Mirror._ping,
}


def _playlist(meta: Mapping[str, Any], body: bytes) -> Playlist:
    delta = meta["delta"]
    at = len(body) if delta is None else len(body) - int(delta)
    return Playlist(
        body=body[:at],
        delta=None if delta is None else body[at:],
        last_sequence=int(meta["last"]),
        open_parts=int(meta["parts"]),
        last_segment_parts=int(meta["lastParts"]),
        target_ms=int(meta["target"]),
        part_target_ms=int(meta["partTarget"]),
        ended=bool(meta["ended"]),
        first_sequence=int(meta["first"]),
        blocks=bool(meta["blocks"]),
    )


def _reach(playlist: Playlist) -> tuple[int, int]:
    return playlist.last_sequence, playlist.open_parts
