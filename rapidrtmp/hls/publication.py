"""
The last thing between a playlist and the shelf: each version is checked before it is put up.

A version that breaks an invariant is counted and held back, and players take the last good one for a source that
stalls. They give up after some target durations; so then the newest version goes up, whatever it is: a viewer is better
served by it than by a playlist that stands still. Each time is logged once, with both texts, and so is its end. A final
version that is wrong would leave players waiting: then the last good one is put up as final.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from rapidrtmp.hls.invariants import version_violations
from rapidrtmp.hls.playlist import Version, write_version
from rapidrtmp.interfaces import SinkContext
from rapidrtmp.m3u8.write import PlaylistWriter, render_media_playlist

__all__ = ["Publication"]

#: A version is held back for no longer than so many target durations.
HELD_TARGETS = 3


class Publication:
    """
    Puts the versions of one media playlist on its stream's shelf.

    :param name: of the playlist on the shelf.
    """

    def __init__(self, context: SinkContext, name: str) -> None:
        self._context = context
        self._name = name
        self._writer = PlaylistWriter()
        self._shown: Version | None = None
        self._held: Version | None = None  # the newest, if it is not shown
        self._release: IDelayedCall | None = None
        self._violations = context.metrics.counter(
            "playlist_violations_total", "Rules that playlists would have broken, had they been served"
        )

    def put(self, version: Version) -> None:
        """Put up the next version, or hold it back. The first of all is put up in any case: there is no better one."""
        found = list(version_violations(version, self._shown, gapless=self._held is None))
        if not found:
            self._resume()
            self._show(version)
            return
        self._violations.inc(len(found))
        if self._shown is None:
            self._log("{stream}: the first playlist breaks rules: {violations}\n{new}", version, found)
            self._show(version)
        else:
            self._hold(version, self._shown, found)

    def _show(self, version: Version) -> None:
        self._shown = version
        self._context.shelf.put_playlist(self._name, write_version(version, self._writer))

    def _hold(self, version: Version, good: Version, found: Sequence[str]) -> None:
        if self._held is None:
            self._log(
                "{stream}: a playlist is held back, because it breaks rules: {violations}\n"
                "the last good one:\n{old}\nthe new one:\n{new}",
                version,
                found,
                old=render_media_playlist(good.playlist),
            )
            clock: IReactorTime = self._context.clock
            self._release = clock.callLater(HELD_TARGETS * good.playlist.target_s, self._give_in)
        self._held = version
        if version.playlist.ended:
            self._stop_waiting()
            if not good.playlist.ended:
                self._show(Version(replace(good.playlist, hints=(), ended=True)))

    def _give_in(self) -> None:
        """Put up the newest version, because no good one has come for so long that players give up."""
        version, self._held, self._release = self._held, None, None
        assert version is not None
        self._context.log.error(
            "{stream}: no good playlist for {held_s} s, serving the newest as it is; please report this with the log",
            stream=self._context.stream,
            held_s=HELD_TARGETS * version.playlist.target_s,
        )
        self._show(version)

    def _resume(self) -> None:
        if self._held is not None:
            self._context.log.info("{stream}: the playlist is good again", stream=self._context.stream)
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        self._held = None
        if self._release is not None:
            self._release.cancel()
            self._release = None

    def _log(self, text: str, version: Version, found: Sequence[str], **more: object) -> None:
        self._context.log.error(
            text,
            stream=self._context.stream,
            violations="; ".join(found),
            new=render_media_playlist(version.playlist),
            **more,
        )
