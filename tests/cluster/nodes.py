"""Whole servers on loopback that share a directory, for tests of several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from rapidrtmp.live.stream import LiveStream
from rapidrtmp.m3u8.model import MediaPlaylist
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.names import StreamName
from rapidrtmp.server.service import RapidRtmpService
from rapidrtmp.settings.model import RtmpSettings, Settings
from tests.serving import ServerCase, loopback_settings, open_app

__all__ = ["NAME", "PLAYLIST", "NodesCase"]

NAME = StreamName("live", "k")
PLAYLIST = "/live/k/index.m3u8"


class NodesCase(ServerCase):
    """Servers that share a directory."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()

    def shared(self, storage: str = "memory:") -> Settings:
        """The settings of a server that shares a directory with others."""
        settings = loopback_settings(live=open_app("hls:segment=1s:part=200ms", storage=storage))
        server = replace(settings.server, directory=self.directory, numbers_file=f"{self.mktemp()}/numbers")
        return replace(settings, server=server, rtmp=RtmpSettings(takeover_silence_ms=0))

    @property
    def directory(self) -> str:
        return f"local:{self.folder}/directory"

    async def let_die(self, service: RapidRtmpService) -> None:
        """What is seen of a server whose process dies."""
        node: Any = service.node
        self.patch(node._folder, "delete", lambda _number: None)  # a dead process does not
        node.names.directory.forget()  # the kernel lets go of what a dead process had
        await self.cut(node)

    async def cut(self, node: Any) -> None:
        """Have a node reset all connections, and take no more."""
        await node._port.stopListening()
        for feed in node._feeds.values():
            for follower in list(feed._followers):
                follower.abort()

    async def look(self, service: RapidRtmpService, least: int = 0) -> MediaPlaylist:
        """The playlist that a server shows, once it has reached a number."""
        while True:
            status, body = await self.get(service, PLAYLIST)
            playlist = parse_media_playlist(body) if status == 200 else None
            if playlist is not None and playlist.next_sequence >= least:
                return playlist
            await deferLater(reactor, 0.02)

    async def check_listed(self, service: RapidRtmpService, playlist: MediaPlaylist) -> None:
        """Every name that is listed can be fetched."""
        for segment in playlist.segments:
            if not segment.gap:
                status, _ = await self.get(service, f"/live/k/{segment.uri}")
                self.assertEqual(200, status, segment.uri)

    def stream_of(self, service: RapidRtmpService) -> LiveStream | None:
        return service.registry.find(NAME)
