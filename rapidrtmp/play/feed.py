"""
The renderings of one stream: a sink that is on the stream while there are players, and not otherwise.

It keeps the frames since the last keyframe, as a rendering may begin at any time.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from rapidrtmp.interfaces import IMetadataSink, UnavailableError
from rapidrtmp.live.stream import GopCache
from rapidrtmp.media import Frame, TimedMetadata, Track
from rapidrtmp.play.policy import PlayPolicy
from rapidrtmp.play.rendering import Ending, Follower, Rendering, RenderingKey

__all__ = ["Feed"]

_ENDED = Ending("the stream has ended")
_BROKEN = Ending("internal error", is_regular=False)


@implementer(IMetadataSink)
class Feed:
    """
    See the module.

    :param ended: called when the stream has ended.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        policy: PlayPolicy,
        is_crowded: Callable[[], bool],
        ended: Callable[[], object] = lambda: None,
    ) -> None:
        self._clock = clock
        self._policy = policy
        self._is_crowded = is_crowded
        self._ended = ended
        self._tracks: tuple[Track, ...] = ()
        self._gop = GopCache(policy.gop_bytes, policy.past_ms)
        self._renderings: dict[RenderingKey, Rendering] = {}

    def __len__(self) -> int:
        return sum(map(len, self._renderings.values()))

    # ── players ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def rendering(self, key: RenderingKey) -> Rendering:
        """
        The rendering for players who take just this, which may have begun by that.

        :raises UnavailableError: there are too many already.
        """
        found = self._renderings.get(key)
        if found is None:
            if len(self._renderings) >= self._policy.most_renderings:
                raise UnavailableError("the stream is played in too many ways at once; try again later", 10)
            found = self._renderings[key] = self._begin(key)
        return found

    def _begin(self, key: RenderingKey) -> Rendering:
        rendering = Rendering(key, self._clock, self._policy, self._is_crowded)
        if self._tracks:
            rendering.tracks_changed(self._tracks)
            rendering.catch_up(self._gop.frames_with_past)
        return rendering

    def leave(self, rendering: Rendering, follower: Follower) -> None:
        """Let a player go, and its rendering with the last one."""
        rendering.leave(follower)
        if not len(rendering) and self._renderings.get(rendering.key) is rendering:
            del self._renderings[rendering.key]
            rendering.stop()

    # ── the stream (ISink) ───────────────────────────────────────────────────────────────────────────────────────────

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :class:`~rapidrtmp.interfaces.ISink`; likewise the other methods."""
        self._tracks = tracks
        self._gop.start(tracks)
        for rendering in tuple(self._renderings.values()):
            rendering.tracks_changed(tracks)

    def frame_received(self, frame: Frame) -> None:
        """Render one frame."""
        self._gop.add(frame)
        try:
            for rendering in self._renderings.values():
                rendering.frame_received(frame)
        except Exception:
            self._give_up(rendering)

    def _give_up(self, rendering: Rendering) -> None:
        """End the players of a rendering that a bug has broken: they would wait for ever."""
        self._log.failure("internal error, ending {count} players", count=len(rendering))
        del self._renderings[rendering.key]
        rendering.stop()
        rendering.end(_BROKEN)

    def metadata_received(self, metadata: TimedMetadata) -> None:
        """See :class:`~rapidrtmp.interfaces.IMetadataSink`: what encoders and sinks say goes to players as it is."""
        for rendering in tuple(self._renderings.values()):
            rendering.metadata_received(metadata)

    def discontinuity(self) -> None:
        """What follows does not join on."""
        self._gop.clear()
        for rendering in self._renderings.values():
            rendering.discontinuity()

    def interrupted(self) -> None:
        """Send what there is; players wait."""
        for rendering in tuple(self._renderings.values()):
            rendering.flush()

    def finish(self) -> None:
        """End all players."""
        self._end_all(_ENDED)

    def detached(self) -> None:
        """End all players: they would wait for ever for what is fed no longer."""
        self._end_all(_BROKEN)

    def _end_all(self, ending: Ending) -> None:
        renderings, self._renderings = self._renderings, {}
        for rendering in renderings.values():
            rendering.end(ending)
            rendering.stop()
        self._ended()
