"""Two servers and a Redis: what their viewers see when one of the three is killed, stopped, emptied or paused."""

from __future__ import annotations

import signal
import time

from twisted.trial.unittest import SkipTest

from tests.e2e.ffmpeg import FFMPEG
from tests.e2e.harness import EndToEndTest, Publisher, Server, eventually, new_folder
from tests.e2e.test_restart import SHOW
from tests.e2e.test_workers import Viewer
from tests.redis_server import RedisServer, find_servers

LEASE_S = 3
#: Viewers at survivors wait at most so long, and a publisher is back.
VIEWER_S, PUBLISHER_S = 8.0, 10.0
SETTINGS = """
[server]
directory = "redis:127.0.0.1:{port}:lease={lease}s"
[cluster]
endpoint = "tcp:0:interface=127.0.0.1"
secret_file = "{folder}/secret"
[tokens]
secret_file = "{folder}/token.key"
[hls]
segment = "1s"
[live]
grace = "20s"
[rtmp]
takeover_silence = "500ms"
"""


class MachinesTests(EndToEndTest):
    def setUp(self) -> None:
        program = find_servers().get("redis")
        if program is None:
            raise SkipTest("redis-server is not installed")
        self.redis = RedisServer(program)
        self.addCleanup(self.redis.close)
        self.shared = new_folder("shared")
        (self.shared / "secret").write_text("0123456789abcdef" * 2)
        settings = SETTINGS.format(port=self.redis.port, lease=LEASE_S, folder=self.shared)
        self.one = self.start_server(settings, storage="memory:")
        self.other = self.start_server(settings, storage="memory:")
        self.token = self.one.issue_token("show").token

    def publish_at(self, server: Server) -> Publisher:
        return self.publish(FFMPEG, SHOW.path, f"rtmp://127.0.0.1:{server.rtmp_port}/live/show?token={self.token}")

    def begin(self) -> tuple[Publisher, Viewer, Viewer]:
        """A publisher at the first server, and a viewer at each."""
        publisher = self.publish_at(self.one)
        viewers = Viewer(self.one, "show"), Viewer(self.other, "show")
        for viewer in viewers:
            eventually("a playlist", lambda viewer=viewer: viewer.beyond(0))
            viewer.statuses.clear()
        return publisher, *viewers

    def play_on(self, viewer: Viewer, count: int = 2) -> float:
        """Wait for more segments, and see that what is listed can be fetched; how long that took."""
        began_s = time.monotonic()
        reached = viewer.look()
        assert reached is not None
        eventually("it to play on", lambda: viewer.beyond(reached.next_sequence + count - 1), 20.0)
        return time.monotonic() - began_s

    def return_to(self, server: Server) -> Publisher:
        """A publisher that tries again and again, as encoders do, until it is taken."""
        began_s = time.monotonic()
        while True:
            publisher = self.publish_at(server)
            until_s = time.monotonic() + 1.0
            while time.monotonic() < until_s and not publisher.has_ended:
                time.sleep(0.05)
            if not publisher.has_ended:
                self.assertLess(time.monotonic() - began_s, PUBLISHER_S + 1.0)
                return publisher

    def test_moves_between_machines(self) -> None:
        """A publisher that comes to the one and the other, ten times, costs no viewer an error, and no number falls."""
        publisher, *viewers = self.begin()
        for server in (self.other, self.one) * 5:
            publisher.kill()
            time.sleep(0.6)
            publisher = self.publish_at(server)
            for viewer in viewers:
                self.play_on(viewer, 1)
        for viewer in viewers:
            self.assertEqual({200}, viewer.statuses)

    def check_owner(self, number: signal.Signals) -> None:
        """What becomes of a stream whose owner gets a signal, at the other server."""
        publisher, _, viewer = self.begin()
        self.one.send_signal(number)
        publisher.kill()
        publisher = self.return_to(self.other)
        self.assertLess(self.play_on(viewer), VIEWER_S)
        self.assertEqual({200}, viewer.statuses)

    def test_owner_is_killed(self) -> None:
        """After the owner was killed its publisher is at the other server in time, and viewers there play on."""
        self.check_owner(signal.SIGKILL)

    def test_owner_is_paused(self) -> None:
        """So they do when it was stopped for longer than its lease; when it wakes it shows what the new owner says."""
        self.check_owner(signal.SIGSTOP)
        self.one.send_signal(signal.SIGCONT)
        woken = Viewer(self.one, "show")
        seen = Viewer(self.other, "show").look()
        assert seen is not None
        eventually("the first server to follow", lambda: woken.beyond(seen.next_sequence), 15.0)
        self.assertIn("paused for too long", self.one.log)

    def test_owner_stops_in_order(self) -> None:
        """So they do when it is asked to end."""
        self.check_owner(signal.SIGTERM)

    def test_redis_is_away(self) -> None:
        """Redis killed, started again empty, emptied, and paused past the leases: both servers show all the time."""
        _, *viewers = self.begin()

        def check(lasting_s: float = LEASE_S + 1.5) -> None:
            until_s = time.monotonic() + lasting_s
            while time.monotonic() < until_s:
                for viewer in viewers:
                    self.assertLess(self.play_on(viewer, 1), VIEWER_S)

        self.redis.kill()
        check()
        self.redis.start()
        check(LEASE_S)
        self.redis.ask("FLUSHALL")
        check(LEASE_S)
        self.redis.pause()
        check()
        self.redis.go_on()
        check(LEASE_S)
        for viewer in viewers:
            self.assertEqual({200}, viewer.statuses)
