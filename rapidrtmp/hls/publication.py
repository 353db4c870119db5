"""
The last thing between a playlist and the shelf: nothing that breaks its word is put up.

A version that breaks a rule is counted and held back; the last good one stays, which players take for a source that
stalls. That is told once, with both texts, and so is its end. A final version that is wrong would leave them waiting:
then the last good one is put up as final.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.interfaces import IReactorTime

from rapidrtmp.hls.guard import LivePlaylistGuard
from rapidrtmp.interfaces import Playlist, SinkContext
from rapidrtmp.m3u8.rules import Severity, Violation

__all__ = ["PlaylistGate"]

#: Held back for so many target durations, a playlist is stuck for players; that is worth an error in the log.
STUCK_TARGETS = 3


class PlaylistGate:
    """
    Puts the versions of one media playlist on its stream's shelf.

    :param name: of the playlist on the shelf.
    """

    def __init__(self, context: SinkContext, name: str) -> None:
        self._context = context
        self._name = name
        self._guard = LivePlaylistGuard()
        self._good: Playlist | None = None
        self._held_since_s: float | None = None
        self._told_stuck = False
        self._violations = context.metrics.counter(
            "playlist_violations_total", "Rules that playlists would have broken, had they been served"
        )

    def put(self, playlist: Playlist) -> None:
        """Put up the next version, or hold it back. The first of all is put up in any case: there is no better one."""
        errors = [found for found in self._guard.check(playlist) if found.severity is Severity.ERROR]
        if errors:
            self._violations.inc(len(errors))
        if errors and self._good is not None:
            self._hold_back(playlist, self._good, errors)
            return
        if errors:
            self._tell("{stream}: the first playlist breaks rules: {violations}\n{new}", playlist, errors)
        elif self._held_since_s is not None:
            self._context.log.info("{stream}: the playlist is good again", stream=self._context.stream)
            self._held_since_s = None
        self._put(playlist)

    def _put(self, playlist: Playlist) -> None:
        self._good = playlist
        self._context.shelf.put_playlist(self._name, playlist)

    def _hold_back(self, playlist: Playlist, good: Playlist, errors: list[Violation]) -> None:
        clock: IReactorTime = self._context.clock
        if self._held_since_s is None:
            self._held_since_s, self._told_stuck = clock.seconds(), False
            self._tell(
                "{stream}: a playlist is held back, because it breaks rules: {violations}\n"
                "the last good one:\n{old}\nthe new one:\n{new}",
                playlist,
                errors,
                old=good.body.decode("utf-8", "replace"),
            )
        held_s = clock.seconds() - self._held_since_s
        if held_s * 1000 > STUCK_TARGETS * good.target_ms and not self._told_stuck:
            self._told_stuck = True
            self._tell(
                "{stream}: no good playlist for {held_s:.1f} s, players give up about now: {violations}; "
                "have the encoder start again, and please report this with the log",
                playlist,
                errors,
                held_s=held_s,
            )
        if playlist.ended and not good.ended:
            self._put(_as_final(good))

    def _tell(self, text: str, playlist: Playlist, errors: list[Violation], **more: object) -> None:
        self._context.log.error(
            text,
            stream=self._context.stream,
            violations="; ".join(error.detail for error in errors),
            new=playlist.body.decode("utf-8", "replace"),
            **more,
        )


def _as_final(playlist: Playlist) -> Playlist:
    """All that a version lists, and no more to come."""
    lines = [line for line in playlist.body.splitlines(keepends=True) if not line.startswith(b"#EXT-X-PRELOAD-HINT:")]
    return replace(playlist, body=b"".join(lines) + b"#EXT-X-ENDLIST\n", delta=None, ended=True)
