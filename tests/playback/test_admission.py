"""Viewers of what is not live: rewound, clipped and recorded media takes the same seats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.stream import LiveStream
from rapidrtmp.m3u8.read import parse_media_playlist
from tests.hls.rewind.test_http import RewindCase
from tests.recording.recordings import ID, record, store_into
from tests.slow import slow
from tests.web.kit import Reply, Server, playlist

REWOUND = ("dvr.m3u8", "clip.m3u8?from=-9s", "clip.mp4?from=-9s")
RECORDED = ("index.m3u8", "recording.mp4", "clip.m3u8", "clip.mp4?from=1s", "segment_00000000.m4s")


class RewoundTests(RewindCase):
    policy: ClassVar[Mapping[str, object]] = {"max_viewers": 2}

    def watch(self, number: int, name: str, **headers: str) -> Reply:
        return self.server.get(f"/live/k/{name}", peer=f"192.0.2.{number}", **headers)

    def count(self) -> int:
        return self.stream.viewers.count(int(self.server.clock.seconds() * 1000))

    @property
    def old_segment(self) -> str:
        """A segment that has left the shelf."""
        uri = parse_media_playlist(self.stream.shelf.find_playlist("dvr.m3u8").facts.body).segments[0].uri
        assert self.stream.shelf.find(uri) is None
        return uri

    def test_rewound_viewers_are_counted(self) -> None:
        """Who is rewound, or plays a clip, is a viewer, and leaves as others do."""
        for name in (*REWOUND, self.old_segment):
            self.assertEqual(200, self.watch(1, name).status)
            self.assertEqual(1, self.count(), name)
            self.server.clock.advance(60)
            self.assertEqual(0, self.count(), name)

    def test_full_stream_refuses_rewinding(self) -> None:
        """A full stream refuses all of it to others, as it refuses live playback, and to no one who is there."""
        for number in (1, 2):
            self.watch(number, "index.m3u8")
        for name in ("index.m3u8", *REWOUND, self.old_segment):
            refused = self.watch(3, name)
            self.assertEqual((503, "10"), (refused.status, refused.headers["retry-after"]), name)
            self.assertIn("all the 2 viewers", refused.json()["error"])
            self.assertEqual(200, self.watch(1, name).status, name)
        self.assertEqual(2, self.count())

    def test_shared_address_has_several_viewers(self) -> None:
        """Several behind one address are distinguished by old segments and clips too."""
        for name in (self.old_segment, "clip.mp4?from=-9s"):
            for _ in range(2):
                self.watch(1, name)
            self.assertEqual(2, self.count(), name)
            self.server.clock.advance(60)

    def test_ranges_are_one_viewer(self) -> None:
        """A client that jumps in a clip is one viewer, and is there as long as it asks."""
        for start in (0, 50, 50, 50):
            self.assertEqual(206, self.watch(1, "clip.mp4?from=-9s", Range=f"bytes={start}-99").status)
            self.server.clock.advance(10)
            self.assertEqual(1, self.count())

    def test_what_does_not_count(self) -> None:
        """Neither questions about a clip nor clips that there are not make a viewer."""
        self.server.request("HEAD", "/live/k/clip.mp4?from=-9s", peer="192.0.2.1")
        self.watch(1, "clip.mp4?from=x")
        self.watch(1, "clip.mp4?to=2025-01-01T00:00:00Z")
        self.assertEqual(0, self.count())


class RecordedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server(max_viewers=2)
        store_into(self.server.storage, record())

    def watch(self, number: int, name: str) -> Reply:
        return self.server.get(f"/{ID.folder}/{name}", peer=f"192.0.2.{number}")

    def watching(self) -> float:
        return self.server.metric("recording_viewers")

    def test_viewers_of_recordings_are_counted(self) -> None:
        """Who watches a recording of a stream that is not live counts, and leaves when nothing more is asked for."""
        for name in RECORDED:
            self.assertEqual(200, self.watch(1, name).status, name)
            self.assertEqual(1, self.watching(), name)
            self.server.clock.advance(31)
            self.assertEqual(0, self.watching(), name)

    def test_full_recordings_refuse_more(self) -> None:
        """A stream has as many seats for its recordings as for itself, and a viewer that has one keeps it."""
        for number in (1, 2):
            self.assertEqual(200, self.watch(number, "index.m3u8").status)
        for name in RECORDED:
            refused = self.watch(3, name)
            self.assertEqual((503, "10"), (refused.status, refused.headers["retry-after"]), name)
            self.assertEqual(200, self.watch(1, name).status, name)
        self.server.clock.advance(31)
        self.assertEqual(200, self.watch(3, "index.m3u8").status)

    def test_together_with_live(self) -> None:
        """While the stream is live, viewers of its recordings and its own take the same seats."""
        stream: LiveStream = self.server.live(ID.key, ID.app)
        for number in (1, 2):
            self.watch(number, "index.m3u8")
        self.assertEqual(2, stream.viewers.count(int(self.server.clock.seconds() * 1000)))
        self.assertEqual(503, self.server.get(f"/{ID.app}/{ID.key}/index.m3u8", peer="192.0.2.3").status)

    def test_long_download_is_one_viewer(self) -> None:
        """Who takes a movie slowly is a viewer as long as that continues."""
        wire = self.server.connect("192.0.2.1")
        take = wire.transport.write

        def take_slowly(data: bytes) -> None:
            take(data)
            wire.transport.producer.pauseProducing()

        wire.transport.write = take_slowly
        wire.request("GET", f"/{ID.folder}/recording.mp4")
        for _ in range(4):
            self.server.clock.advance(20)
            self.assertEqual(1, self.watching())
            wire.transport.producer.resumeProducing()
        wire.leave()
        self.server.clock.advance(31)
        self.assertEqual(0, self.watching())

    def test_missing_recording_makes_no_viewer(self) -> None:
        """What is not there makes no viewer, and nothing is kept for it."""
        for number in range(50):
            path = f"/recordings/live/missing{number}/{ID.start}/index.m3u8"
            self.assertEqual(404, self.server.get(path).status)
        self.assertEqual(0, self.watching())


class ShareTests(SynchronousTestCase):
    """What one address can take of the viewers that a stream may have."""

    def server(self, limit: int, **policy: object) -> Server:
        server = Server(max_viewers=limit, **policy)
        server.live().shelf.put_playlist("index.m3u8", playlist())
        return server

    def watch(self, server: Server, peer: str, number: int = 0, **headers: str) -> int:
        return server.get("/live/k/index.m3u8", peer=peer, User_Agent=f"agent {number}", **headers).status

    @slow
    def test_agents_share_a_quarter(self) -> None:
        """However many user agents an address has, it takes a quarter of the seats, at least four, and keeps them."""
        for limit, share in ((50, 12), (10, 4), (4, 4), (2, 2)):
            server = self.server(limit)
            statuses = [self.watch(server, "192.0.2.1", number) for number in range(50)]
            self.assertEqual([200] * share, statuses[:share])
            self.assertEqual({429} if share < limit else {503}, set(statuses[share:]))
            self.assertEqual(200, self.watch(server, "192.0.2.1", 0))
            self.assertEqual(200 if share < limit else 503, self.watch(server, "192.0.2.2"))

    def test_networks_share_as_one_address(self) -> None:
        """All addresses of one IPv6 /64 are one, also behind a proxy that is trusted."""
        server = self.server(50, trusted_proxies=("10.0.0.0/8",))
        direct = [self.watch(server, f"2001:db8::{number}") for number in range(1, 21)]
        proxied = [
            self.watch(server, "10.0.0.1", X_Forwarded_For=f"[2001:db8:0:1::{number}]:443") for number in range(1, 21)
        ]
        self.assertEqual([200] * 12 + [429] * 8, direct)
        self.assertEqual([200] * 12 + [429] * 8, proxied)

    def test_setting_changes_the_share(self) -> None:
        """The operator can say another number, or none."""
        for of_client, expected in ((1, 1), (30, 30), (0, 50)):
            server = self.server(50, max_viewers_per_client=of_client)
            statuses = [self.watch(server, "192.0.2.1", number) for number in range(60)]
            self.assertEqual(expected, statuses.count(200))

    def test_again_and_again(self) -> None:
        """A client that asks for the same thing again and again counts as no more than its share either."""
        server = self.server(20)
        for _ in range(50):
            server.get("/live/k/index.m3u8?_HLS_msn=9", peer="192.0.2.1")
        for number in range(2, 17):
            self.assertEqual(200, self.watch(server, f"192.0.2.{number}"))
        self.assertEqual(503, self.watch(server, "192.0.2.99"))
