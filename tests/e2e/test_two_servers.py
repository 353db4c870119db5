"""Two real servers on one folder: neither takes what the other one writes for abandoned, or for its own."""

from __future__ import annotations

from rapidrtmp.m3u8.model import MediaPlaylist
from tests.e2e.ffmpeg import CLIPS, FFMPEG
from tests.e2e.harness import Server, eventually, new_folder
from tests.e2e.test_recording import RecordingCase, listed, post
from tests.e2e.test_restart import SHOW
from tests.e2e.watched import Watched

SETTINGS = """
[server]
sinks = ["hls:dvr=1m", "record:segment=2s:part=500ms"]
[hls]
segment = "1s"
[live]
grace = "20s"
"""
#: Every recording that is over is too large.
GREEDY = SETTINGS.replace("part=500ms", "part=500ms:max-bytes=1")
REFUSAL = "another server publishes this stream"


class TwoServersTests(RecordingCase):
    def start_beside(self, server: Server, settings: str) -> Server:
        """Another server on the same storage, with a folder of its own for all else."""
        other = Server(new_folder("server"), settings, storage=f"local:{server.store}")
        self.servers.append(other)
        self.addCleanup(other.kill)
        return other

    def state_of(self, server: Server, key: str) -> list[str]:
        """What a server says of the recordings of a stream."""
        return [recording["state"] for recording in listed(server, key)]

    def test_side_by_side(self) -> None:
        """A server that starts beside a live one resumes what is abandoned, and touches nothing that is not."""
        first = self.start_server(SETTINGS)
        watched = Watched("mine")
        token = first.issue_token("mine")
        publisher = self.publish(FFMPEG, SHOW.path, token.publish_url)
        eventually("three segments", lambda: watched.has(first, 3))
        old = self.publish(FFMPEG, CLIPS["plain"].path, first.issue_token("old").publish_url)
        eventually("a segment of the other", lambda: Watched("old").has(first, 1))
        old.kill()
        self.assertEqual(200, self.stop_stream(first, "old"))
        eventually("its recording to be over", lambda: self.state_of(first, "old") == ["finished"])

        mortal = self.start_beside(first, SETTINGS)
        abandoned = Watched("abandoned")
        abandoned_token = mortal.issue_token("abandoned")
        lonely = self.publish(FFMPEG, SHOW.path, abandoned_token.publish_url)
        eventually("three segments of what will be abandoned", lambda: abandoned.has(mortal, 3))
        mortal.kill()
        lonely.kill()

        second = self.start_beside(first, GREEDY)
        self.assertIn("live/abandoned is resumed from storage", second.log)
        self.assertIn("live/mine is not resumed", second.log)
        self.assertEqual(404, second.get("/api/v1/streams/mine").status)
        eventually("retention to have its way", lambda: not listed(second, "old"))
        self.assertEqual(["recording"], self.state_of(second, "mine"))
        eventually(
            "the abandoned recording to be closed", lambda: "recording" not in self.state_of(second, "abandoned")
        )

        self.check_refused(second)
        reached = watched.look(first)
        assert reached is not None
        after = eventually("it to play on", lambda: self.beyond(watched, first, reached.next_sequence + 3))
        self.assertEqual([], [segment for segment in after.segments if segment.gap or segment.discontinuity])
        self.assertFalse(publisher.has_ended)
        self.assertEqual(["recording"], self.state_of(first, "mine"))

        first.kill()
        publisher.kill()
        again = self.start_again(first)
        self.assertIn("live/mine is resumed from storage", again.log)
        self.assertEqual(404, again.get("/api/v1/streams/abandoned").status)
        publisher = self.publish(FFMPEG, SHOW.path, token.publish_url)
        eventually("three more", lambda: watched.has(again, 3, returned=True))
        self.assertEqual([], watched.broken)
        self.check_refused(second)

    def check_refused(self, server: Server) -> None:
        """An encoder that wants to publish at this server what the other one carries is given the reason it may not."""
        refused = server.log.count(REFUSAL)
        encoder = self.publish(FFMPEG, SHOW.path, server.issue_token("mine").publish_url)
        encoder.wait()
        self.assertIn(REFUSAL, encoder.said)
        self.assertIn(REFUSAL, server.log)
        self.assertLessEqual(server.log.count(REFUSAL), refused + 1)

    def stop_stream(self, server: Server, key: str) -> int:
        return post(server, f"/api/v1/streams/{key}/stop", {}).status

    def beyond(self, watched: Watched, server: Server, sequence: int) -> MediaPlaylist | None:
        playlist = watched.look(server)
        return playlist if playlist is not None and playlist.next_sequence >= sequence else None

    def is_live(self, server: Server) -> bool:
        answer = server.get("/api/v1/streams/mine")
        return answer.status == 200 and answer.json()["state"] == "live"

    def test_taking_turns_on_one_stream(self) -> None:
        """What one server has ended, another one may publish at once, and the first one again after that."""
        servers = [self.start_server(SETTINGS)]
        servers.append(self.start_beside(servers[0], SETTINGS))
        numbers = []
        for server in (*servers, servers[0]):
            watched = Watched("mine")
            publisher = self.publish(FFMPEG, CLIPS["plain"].path, server.issue_token("mine").publish_url)
            eventually("it to be live", lambda: self.is_live(server))  # noqa: B023 - called at once
            playlist = eventually("two segments", lambda: watched.has(server, 2))  # noqa: B023 - called at once
            numbers.append(playlist.segments[0].sequence)
            publisher.kill()
            self.assertEqual(200, self.stop_stream(server, "mine"))
            eventually("all to be given back", lambda: 'leases{storage="storage"} 0.0' in server.get("/metrics").text)  # noqa: B023
        self.assertEqual(sorted(set(numbers)), numbers)
