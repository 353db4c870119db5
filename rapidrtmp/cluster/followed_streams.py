"""
Streams of other nodes for players of RTMP and FLV: their frames come from the node that has them.

From the first player on this node reads the frames of a stream, once for all of its players, and until there has been
none for a while. When the stream moves to a third node its frames come from there, behind a discontinuity; when it
moves here its players are ended, and come back to the stream itself.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.cluster.followed_shelf import FollowedShelf
from rapidrtmp.cluster.frame_wire import FrameReader, Said
from rapidrtmp.cluster.mirror import Mirror
from rapidrtmp.cluster.peers import PeerError, stream_path
from rapidrtmp.errors import DirectoryError, PeerProtocolError
from rapidrtmp.live.registry import Registry
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.media import Track
from rapidrtmp.names import StreamName
from rapidrtmp.support.clock import now_ms

if TYPE_CHECKING:
    from rapidrtmp.cluster.node import ClusterNode

__all__ = ["FollowedStreams"]

#: Without a player for so long a stream is followed no more.
IDLE_S = 10.0
#: Without an owner for so long it has ended.
GONE_S = 12.0
#: Between two looks for an owner, or for players.
AGAIN_S, LOOK_S = 0.1, 1.0


class FollowedStreams:
    """
    Finds streams for players: those of this node, and those that others own.

    :param registry: those of this node.
    """

    _log = Logger()

    def __init__(self, reactor: Any, node: ClusterNode, registry: Registry) -> None:
        self._reactor = reactor
        self._node = node
        self._registry = registry
        self._followed: dict[StreamName, _Followed] = {}

    def find(self, name: StreamName) -> LiveStream | None:
        """The stream of that name; one that is followed has no tracks until they have come."""
        own = self._registry.find(name)
        if own is not None and not own.has_ended:
            return own
        followed = self._followed.get(name)
        if followed is None:
            mirror = self._node.find(name)
            if not isinstance(mirror, Mirror):
                return own
            followed = self._followed[name] = _Followed(self._reactor, self._node, mirror)
            following = Deferred.fromCoroutine(followed.run())
            following.addErrback(Failure.trap, CancelledError)
            following.addErrback(partial(self._log.failure, "internal error in following {stream}", stream=name))
            following.addCallback(lambda _: self._followed.pop(name, None))
            followed.following = following
        followed.asked_s = self._reactor.seconds()
        return followed.stream

    def __len__(self) -> int:
        """How many are followed."""
        return len(self._followed)

    def close(self) -> None:
        """Follow nothing any more."""
        for followed in list(self._followed.values()):
            followed.following.cancel()


class _Followed:
    """
    One stream that is followed.

    :ivar stream: it, fed with what comes.
    :ivar asked_s: when a player asked for it last. ``following`` is to be cancelled to follow no more.
    """

    _log = Logger()
    following: Deferred[Any]

    def __init__(self, reactor: Any, node: ClusterNode, mirror: Mirror) -> None:
        self._reactor = reactor
        self._node = node
        self._mirror = mirror
        self.stream = LiveStream(mirror.name, FollowedShelf(clock=reactor), mirror.viewers, started_at_ms=0)
        node.viewers.follow(mirror.viewers)
        self.asked_s = reactor.seconds()
        self._tracks: dict[int, Track] = {}
        self._end_s = Fraction(0)  # of what came so far
        self._shift_s: Fraction | None = Fraction(0)  # what comes is later here by so much, once that is known
        self._reader = FrameReader()
        self._has_ended = False

    async def run(self) -> None:
        """Follow it as long as there is an owner, and players."""
        seen_s = self._reactor.seconds()
        try:
            while not self._has_ended and self._is_wanted():
                owner = await self._find_owner()
                if owner is not None and owner.node == self._node.place.node:
                    return
                if owner is not None:
                    await self._read_from(owner.address)
                    seen_s = self._reactor.seconds()
                if self._reactor.seconds() - seen_s > GONE_S:
                    return
                await deferLater(self._reactor, AGAIN_S)
        finally:
            self.stream.finish()

    async def _find_owner(self) -> Any:
        try:
            return await self._node.names.find(self.stream.name)
        except DirectoryError:
            return None

    def _is_wanted(self) -> bool:
        now_s: float = self._reactor.seconds()
        if self.stream.fan_out.names:
            self.asked_s = self._mirror.asked_s = now_s  # its viewers are counted there
        return bool(now_s - self.asked_s <= IDLE_S)

    async def _read_from(self, address: str) -> None:
        self._reader = FrameReader()
        reading = Deferred.fromCoroutine(
            self._node.peers.stream(address, stream_path("frames", self.stream.name), self._receive)
        )

        def look() -> None:
            if not self._is_wanted():
                reading.cancel()

        looking = LoopingCall(look)
        looking.clock = self._reactor
        looking.start(LOOK_S, now=False)
        try:
            await reading
        except (PeerError, PeerProtocolError, CancelledError) as error:
            if isinstance(error, CancelledError) and self._is_wanted():
                raise
            self._log.debug("{stream}: frames of it: {error}", stream=self.stream.name, error=error)
        finally:
            looking.stop()
            if not reading.called:
                reading.cancel()
        if self._tracks and not self._has_ended:
            self._shift_s = None
            self.stream.interrupted()
            self.stream.discontinuity("its frames come from another process")

    def _receive(self, data: bytes) -> None:
        self._reader.receive_data(data)
        for said, body in self._reader.messages():
            if said is Said.FRAME:
                self._take_frame(body)
            elif said is Said.TRACKS:
                tracks, self.stream.via = self._reader.read_tracks(body)
                self._tracks = {track.id: track for track in tracks}
                self.stream.tracks_changed(tracks)
            elif said is Said.DISCONTINUITY:
                self.stream.discontinuity("the process that has it says so")
            elif said is Said.INTERRUPTED:
                self.stream.interrupted()
            else:
                self._has_ended = True

    def _take_frame(self, body: bytes) -> None:
        frame = self._reader.read_frame(body, self._tracks, now_ms(self._reactor))
        timescale = frame.track.timescale
        if self._shift_s is None:  # another process, which counts from another moment on
            self._shift_s = max(Fraction(0), self._end_s - Fraction(frame.dts, timescale))
        if self._shift_s:
            frame = replace(frame, dts=frame.dts + ceil(self._shift_s * timescale))
        self._end_s = max(self._end_s, Fraction(frame.dts + frame.duration, timescale))
        self.stream.frame_received(frame)
