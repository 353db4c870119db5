"""Beginnings and ends: who may publish, a publisher that comes back, a server that is stopped while it works."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from rapidrtmp.cmaf.reader import read_fragments, read_init_segment
from tests.e2e.ffmpeg import CLIPS, FFMPEG, decode, every_ffmpeg, read_packets
from tests.e2e.harness import TWIST, EndToEndTest, eventually, new_folder
from tests.e2e.playlists import Segment, parse_media_playlist
from tests.e2e.viewer import Viewer

SETTINGS = """
[hls]
segment = "1s"
window = 30
[live]
grace = "4s"
"""
#: What a service manager allows at least: Docker kills after ten seconds.
STOP_WITHIN_S = 10


class AdmissionTests(EndToEndTest):
    """Who may publish."""

    def test_refusals_reach_every_ffmpeg(self) -> None:
        """Every FFmpeg prints why it may not publish, and nothing is live."""
        server = self.start_server()
        mine, other = server.issue_token("mine"), server.issue_token("other")
        address = f"rtmp://127.0.0.1:{server.rtmp_port}"
        refusals = {
            f"{address}/live/mine": "a token is needed",
            f"{address}/live/mine?token={other.token}": "the token is for another stream",
            f"{address}/live/mine?token=guessed": "the token is not one of this server's",
            f"{address}/nowhere/mine?token={mine.token}": "there is no application",
        }
        for ffmpeg in every_ffmpeg():
            publishers = [self.publish(ffmpeg, CLIPS["plain"].path, url) for url in refusals]
            for publisher, reason in zip(publishers, refusals.values(), strict=True):
                self.assertNotEqual(0, publisher.wait())
                self.assertIn(reason, publisher.said)
        self.assertEqual({"streams": [], "total": 0}, server.get("/api/v1/streams").json())
        self.assertEqual(404, server.get("/live/mine/index.m3u8").status)
        self.assertNotIn(mine.token, server.get("/metrics").text)
        server.stop()

    def test_second_publisher_is_refused(self) -> None:
        """While a stream is live, a publisher with another token is refused and disturbs no one."""
        server = self.start_server(SETTINGS)
        viewer = Viewer(f"{server.root}/live/mine")
        first = self.publish(FFMPEG, CLIPS["video"].path, server.issue_token("mine").publish_url)
        viewer.start()
        eventually("the first to be live", lambda: viewer.has_segments(1))
        second = self.publish(FFMPEG, CLIPS["plain"].path, server.issue_token("mine").publish_url)
        self.assertNotEqual(0, second.wait())
        self.assertIn("published", second.said)
        self.assertEqual(0, first.wait(), first.said)
        playlist = viewer.result().versions[-1].playlist
        self.assertEqual([], [segment.sequence for segment in playlist.segments if segment.discontinuity])
        server.stop()


class ReturnTests(EndToEndTest):
    """A publisher that is cut off and comes back."""

    def test_return_costs_one_discontinuity(self) -> None:
        """A viewer is carried over a lost and renewed connection by one discontinuity, and loses nothing listed."""
        server = self.start_server(SETTINGS)
        token = server.issue_token("mine")
        viewer = Viewer(f"{server.root}/live/mine")
        first = self.publish(FFMPEG, CLIPS["plain"].path, token.publish_url)
        viewer.start()
        eventually("three segments", lambda: viewer.has_segments(3))
        first.kill()
        second = self.publish(FFMPEG, CLIPS["plain"].path, token.publish_url)
        self.assertEqual(0, second.wait(), second.said)
        viewer.result()
        segments = viewer.versions[-1].playlist.segments
        self.assertEqual(segments[0].sequence, viewer.versions[0].playlist.segments[0].sequence)
        returned = [at for at, segment in enumerate(segments) if segment.discontinuity]
        self.assertEqual(1, len(returned))
        self.assertEqual(1, len({str(version.playlist.header) for version in viewer.versions}))
        self._check_range(viewer, segments[: returned[0]], whole=False)
        self._check_range(viewer, segments[returned[0] :], whole=True)
        self._check_times(viewer, list(segments))
        server.stop()

    def _check_range(self, viewer: Viewer, segments: list[Segment], *, whole: bool) -> None:
        """What lies between discontinuities decodes silently and is what was sent, from its beginning on."""
        path = new_folder("range") / "range.mp4"
        names = [segments[0].map_uri, *(segment.uri for segment in segments)]
        path.write_bytes(b"".join(viewer.objects[name].body for name in names))
        self.assertEqual("", decode(path))
        sent, received = CLIPS["plain"].packets.tracks, read_packets(path).tracks
        for kind, packets in received.items():
            expected = [packet.digest for packet in sent[kind]]
            begin = expected.index(packets[0].digest)
            self.assertLessEqual(begin, 0 if kind == "video" else 2)
            self.assertEqual(expected[begin : begin + len(packets)], [packet.digest for packet in packets])
            if whole:
                self.assertEqual(len(expected), begin + len(packets))

    def _check_times(self, viewer: Viewer, segments: list[Segment]) -> None:
        """Decode times only ever continue, over the discontinuity as well."""
        tracks = read_init_segment(viewer.objects[segments[0].map_uri].body)
        for track in tracks:
            ends = []
            for segment in segments:
                runs = [
                    run.samples
                    for fragment in read_fragments(viewer.objects[segment.uri].body, tracks)
                    for run in fragment.tracks
                    if run.track_id == track.track_id
                ]
                ends += [(run[0].dts, run[-1].dts + run[-1].duration) for run in runs]
            for (_, before_end), (start, _) in pairwise(ends):
                self.assertGreaterEqual(start, before_end)


class StopTests(EndToEndTest):
    """A server that is stopped, for good, while a stream is live."""

    def test_terminated_server_ends_playlists(self) -> None:
        """It is gone within ten seconds, and what it leaves on the disk has ended and plays without a hole."""
        server = self.start_server(f'{SETTINGS}[server]\non_stop = "end"\n')
        streams = ("plain", "bframes")
        viewers = [Viewer(f"{server.root}/live/{name}") for name in streams]
        for name, viewer in zip(streams, viewers, strict=True):
            self.publish(FFMPEG, CLIPS[name].path, server.issue_token(name).publish_url)
            viewer.start()
        for viewer in viewers:
            eventually("two segments", lambda viewer=viewer: viewer.has_segments(2))
        self.assertLess(server.stop(), STOP_WITHIN_S)
        for name, viewer in zip(streams, viewers, strict=True):
            self._check_stored(server.store / "live" / name, name)
            self.assertTrue(viewer.result().versions[-1].playlist.ended, "viewers are shown the end")

    def _check_stored(self, folder: Path, name: str) -> None:
        playlist = folder / "index.m3u8"
        segments = parse_plain(playlist.read_text())
        self.assertEqual(
            {"index.m3u8", "master.m3u8", "state.json"} | segments, {path.name for path in folder.iterdir()}
        )
        for ffmpeg in every_ffmpeg():
            self.assertEqual("", decode(playlist, ffmpeg))
        sent = CLIPS[name].packets.tracks
        for kind, packets in read_packets(playlist).tracks.items():
            digests = [packet.digest for packet in packets]
            begin = [packet.digest for packet in sent[kind]].index(digests[0])
            self.assertEqual([packet.digest for packet in sent[kind]][begin : begin + len(digests)], digests)
            self.assertGreater(len(digests), len(sent[kind]) // 6)  # two of ten seconds, less what a cut takes

    def test_without_twistd_the_same_server(self) -> None:
        """``python -m twisted rapidrtmp``, which works in a checkout as well, is the same server."""
        server = self.start_server(program=TWIST)
        self.assertEqual({"status": "ok"}, server.get("/health").json())
        self.assertLess(server.stop(), STOP_WITHIN_S)


def parse_plain(text: str) -> set[str]:
    """The files that a stored playlist names; it must have ended, and have neither parts nor blocking reloads."""
    assert "#EXT-X-SERVER-CONTROL" not in text and "#EXT-X-PART" not in text, text
    playlist = parse_media_playlist(text)
    assert playlist.ended, text
    return {name for segment in playlist.segments for name in (segment.uri, segment.map_uri)}
