"""Strangers at the doors of a real server, while a real encoder publishes and its viewers watch."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from threading import Thread

from benchmarks.hostile_clients import ATTACKS, Target, attack
from tests.e2e.ffmpeg import CLIPS, FFMPEG, read_packets
from tests.e2e.harness import Answer, EndToEndTest, Server, eventually, fetch, new_folder
from tests.e2e.viewer import Viewer

SETTINGS = """
[hls]
segment = "1s"
window = 30
[live]
grace = "1s"
[rtmp]
max_unauthorised_connections = 100
max_connections_per_ip = 50
handshake_timeout = "3s"
[http]
max_waiters_per_client = 20
trusted_proxies = ["127.0.0.1"]
"""
ATTACK_S = 8.0
CLIP = CLIPS["plain"]
#: Parts later than this have been kept waiting by another client: that of a stream in peace is a quarter of it.
LATE_S = "0.5"


def sample(server: Server, name: str) -> float:
    """The sum of all samples of a metric whose line begins with ``name``."""
    lines = re.findall(rf"^rapidrtmp_{name}[^ ]* ([0-9.e+]+)$", server.get("/metrics").text, re.MULTILINE)
    return sum(map(float, lines))


class HostileClientCase(EndToEndTest):
    """A healthy publish before, while and after something else happens."""

    def assertUnharmed(self, kinds: Sequence[str]) -> Server:
        """While all of ``kinds`` continue at a time a publish is complete, and its parts are on time."""
        server = self.start_server(SETTINGS)
        token = server.issue_token("healthy")
        viewer = Viewer(f"{server.root}/live/healthy")
        publisher = self.publish(FFMPEG, CLIP.path, token.publish_url)
        viewer.start()
        eventually("its picture", lambda: viewer.has_segments(1))
        port = int(server.root.rpartition(":")[2])
        target = Target(server.rtmp_port, port, time.monotonic() + ATTACK_S)
        done: dict[str, int] = {}
        threads = [
            Thread(target=lambda kind=kind: done.update({kind: attack(kind, target)}), daemon=True) for kind in kinds
        ]
        for thread in threads:
            thread.start()
        self.assertEqual(0, publisher.wait(), publisher.said)
        for thread in threads:
            thread.join()
        self.assertEqual(
            sorted(kinds), sorted(kind for kind, times in done.items() if times), "attacks that took place"
        )
        self._check_packets(viewer)
        parts = sample(server, "part_publish_delay_seconds_count")
        on_time = sample(server, rf'part_publish_delay_seconds_bucket{{le="{LATE_S}"')
        self.assertGreater(parts, 25)
        self.assertEqual(parts, on_time, "every part was published soon after its last frame")
        self._check_log(server)
        return server

    def _check_packets(self, viewer: Viewer) -> None:
        """Viewers got every frame that was sent, byte for byte, and no discontinuity."""
        playlist = viewer.result().versions[-1].playlist
        self.assertTrue(playlist.ended)
        self.assertEqual([], [segment.sequence for segment in playlist.segments if segment.discontinuity])
        path = new_folder("strangers") / "whole.mp4"
        names = [playlist.segments[0].map_uri, *(segment.uri for segment in playlist.segments)]
        path.write_bytes(b"".join(viewer.objects[name].body for name in names))
        received = read_packets(path).tracks
        for kind, packets in CLIP.packets.tracks.items():
            sent = [packet.digest for packet in packets]
            got = [packet.digest for packet in received[kind]]
            self.assertEqual(sent[-len(got) :], got)
            self.assertLessEqual(len(sent) - len(got), 2 if kind == "audio" else 0, "but for audio before the picture")

    def _check_log(self, server: Server) -> None:
        """Thousands of attempts made dozens of lines."""
        self.assertLess(len(server.log.splitlines()), 300)


class HostileClientTests(HostileClientCase):
    """Attacks that cost a healthy stream nothing, and clients that are bounded."""

    def test_connections_delay_no_part(self) -> None:
        """Connections by the hundred, from one address and from everywhere, idle, slow or gone again."""
        kinds = [kind for kind in ATTACKS if kind.startswith("connections")] + ["slow handshakes"]
        server = self.assertUnharmed(kinds)
        self.assertGreater(sample(server, "rtmp_connections_evicted_total"), 100)

    def test_bytes_delay_no_part(self) -> None:
        """Chunks, messages and values that are made to hurt."""
        kinds = ["10,000 chunk streams", "16 MiB declared", "chunks of one byte", "empty messages", "AMF, many"]
        server = self.assertUnharmed(kinds)
        self.assertGreater(sample(server, "rtmp_protocol_errors_total"), 10)

    def test_publish_attempts_delay_no_part(self) -> None:
        """Wrong tokens in a loop, message streams without end, and a peer that never reads."""
        server = self.assertUnharmed(["wrong tokens", "createStream", "answers never read"])
        self.assertGreater(sample(server, 'publishes_total{result="throttled"'), 10)
        self.assertEqual(1, sample(server, 'publishes_total{result="accepted"'))

    def test_requests_delay_no_part(self) -> None:
        """Requests for streams that are not there, floods of fields, and slow ones."""
        self.assertUnharmed(["requests for missing streams", "header floods", "slow requests"])

    def test_held_requests_delay_no_part(self) -> None:
        """Requests by the thousand that wait for the same segment keep no part waiting."""
        self.assertUnharmed(["blocking requests"])

    def test_waiters_of_one_client(self) -> None:
        """One client holds so many requests and no more; the next is asked to come back, and others may still wait."""
        server = self.start_server(SETTINGS)
        publisher = self.publish(FFMPEG, CLIP.path, server.issue_token("healthy").publish_url)
        viewer = Viewer(f"{server.root}/live/healthy")
        viewer.start()
        answers: list[tuple[str, Answer]] = []

        def ask(client: str) -> None:
            blocking = f"{server.root}/live/healthy/index.m3u8?_HLS_msn={sequence}"
            answers.append((client, fetch(blocking, X_Forwarded_For=client)))

        eventually("two segments", lambda: viewer.has_segments(2))
        sequence = viewer.versions[-1].playlist.edge[0] + 1
        threads = [Thread(target=ask, args=("192.0.2.1",)) for _ in range(40)]
        threads += [Thread(target=ask, args=("192.0.2.2",)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = sorted(answer.status for client, answer in answers if client == "192.0.2.1")
        self.assertEqual([200] * 20 + [429] * 20, statuses)
        self.assertEqual([200] * 5, [answer.status for client, answer in answers if client == "192.0.2.2"])
        self.assertEqual({"1"}, {answer.headers["retry-after"] for _, answer in answers if answer.status == 429})
        self.assertEqual(0, publisher.wait())
        viewer.result()
