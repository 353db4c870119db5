"""A playlist held to its word over all lives of its server."""

from __future__ import annotations

from rapidrtmp.m3u8.model import MediaPlaylist
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.rules import Rule, Severity
from rapidrtmp.m3u8.transitions import PlaylistChecker
from tests.e2e.harness import Server

__all__ = ["Watched"]


class Watched:
    """
    The media playlist of one stream, looked at again and again over all lives of its server.

    :ivar broken: every rule that it broke. That what was listed and not yet stored is a gap after a kill breaks none.
    """

    def __init__(self, key: str, app: str = "live") -> None:
        self._path = f"/{app}/{key}/index.m3u8"
        self._checker = PlaylistChecker()
        self.broken: list[str] = []

    def look(self, server: Server) -> MediaPlaylist | None:
        """The playlist as it is now, if there is one."""
        answer = server.get(self._path)
        return self.see(answer.text) if answer.status == 200 else None

    def see(self, text: str) -> MediaPlaylist:
        """Hold a version to what was promised before."""
        playlist = parse_media_playlist(text)
        lost = [f"segment {segment.sequence}:" for segment in playlist.segments if segment.gap]
        for violation in self._checker.check(playlist):
            is_lost = violation.rule is Rule.FINAL and violation.detail.startswith(tuple(lost))
            if violation.severity is Severity.ERROR and not is_lost:
                self.broken.append(str(violation))
        return playlist

    def has(self, server: Server, segments: int, *, returned: bool = False) -> MediaPlaylist | None:
        """
        The playlist, once it lists so many segments with something in them; where a publisher has ``returned``, those
        behind its discontinuity count.
        """
        playlist = self.look(server)
        if playlist is None:
            return None
        count, begun = 0, not returned
        for segment in playlist.segments:
            begun = begun or segment.discontinuity
            count += begun and not segment.gap
        return playlist if count >= segments else None
