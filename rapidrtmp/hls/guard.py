"""
A check of each version of our own playlist that is cheap enough to stand before every publication.

The verdict is that of :func:`~rapidrtmp.m3u8.transitions.version_violations` on the whole text. But from one version to
the next nearly all of it is the same octets, and those were judged before. So :class:`LivePlaylistGuard` remembers the
last version as pieces of text, one for each segment. What the next version repeats is compared as octets; only its new
lines are read, and judged by the very same rules on a playlist of the last known segment and the new ones. Wherever the
pieces do not fit, and wherever anything is found, the whole text is read and judged: the short way only ever says yes.
"""

from __future__ import annotations

from rapidrtmp.hls.pieces import KnownVersion
from rapidrtmp.interfaces import Playlist
from rapidrtmp.m3u8.model import MediaPlaylist
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.rules import Severity, Violation, facts_violations
from rapidrtmp.m3u8.transitions import delta_violations, version_violations

__all__ = ["LivePlaylistGuard"]


class LivePlaylistGuard:
    """
    Judges each version of one playlist before it is published.

    :param incremental: whether to look only at what is new; the verdict is the same without.
    """

    def __init__(self, *, incremental: bool = True) -> None:
        self._incremental = incremental
        self._known: KnownVersion | None = None
        self._last: tuple[bytes, MediaPlaylist | None] | None = None
        self._held_back = False  # whether there were versions after the last good one

    def check(self, playlist: Playlist) -> list[Violation]:
        """
        What is wrong with a version, and with the way there from the last good one. Empty is the usual answer.

        A version without an ``ERROR`` is what the next one must follow from. So is the first of all, whatever is wrong
        with it: there was none before it to keep. After a version with one, the next may have left behind all that the
        last good one listed.
        """
        if self._incremental and self._known is not None and self._known.advance(playlist):
            self._last = playlist.body, None
            self._known = None if playlist.ended else self._known
            self._held_back = False
            return []
        parsed = parse_media_playlist(playlist.body)
        previous = self._previous()
        found = [
            *version_violations(parsed, previous, gapless=not self._held_back),
            *facts_violations(playlist, parsed),
        ]
        if playlist.delta is not None:  # players reload in full what they are too far behind for
            found += delta_violations(
                None if self._held_back else previous, parsed, parse_media_playlist(playlist.delta)
            )
        self._held_back = previous is not None and any(one.severity is Severity.ERROR for one in found)
        if not self._held_back:
            self._last = playlist.body, parsed
            self._known = KnownVersion.of(playlist.body, parsed) if self._incremental else None
        return found

    def _previous(self) -> MediaPlaylist | None:
        if self._last is None:
            return None
        body, parsed = self._last
        return parsed or parse_media_playlist(body)
