"""Streams that go to other servers, and come from there: nginx-rtmp, FFmpeg, and ourselves over RTMPS."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twisted.trial.unittest import SkipTest

from rapidrtmp.rtmp.authmod import answer_challenge
from rapidrtmp.rtmp.events import ConnectRequested, PublishEnded
from tests.e2e.ffmpeg import FFMPEG, Clip, Packet, read_packets
from tests.e2e.harness import TWISTD, EndToEndTest, Server, eventually, fetch, free_port, new_folder
from tests.e2e.scripted import ADOBE, Script, ScriptedServer

CLIP = Clip("relayed", seconds=14, frame_rate=Fraction(30), sample_rate=48_000, channels=2, b_frames=2)
KEY, PASSWORD = "very-secret-key-0123456789", "also-very-secret"
OPEN = '[server]\nauth = ["open"]\n[live]\ngrace = "2s"\n'
NGINX = """
load_module {module};
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 64; }}
rtmp {{ server {{ listen 127.0.0.1:{port}; application app {{ live on; wait_key on; publish_notify on; }} }} }}
"""
MODULES = ("/usr/lib/nginx/modules/ngx_rtmp_module.so", "/usr/share/nginx/modules/ngx_rtmp_module.so")


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class RelayTest(EndToEndTest):
    """A test with another server, and the pictures that it gets."""

    def run_program(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """A program that is gone after the test."""
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def start_nginx(self) -> int:
        """The port of an nginx-rtmp with the application ``app``."""
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        module = next((each for each in MODULES if os.path.exists(each)), None)
        if program is None or module is None:
            raise SkipTest("nginx with its RTMP module is not installed")
        folder, port = new_folder("nginx-rtmp"), free_port()
        (folder / "nginx.conf").write_text(NGINX.format(module=module, folder=folder, port=port))
        process = self.run_program(
            [program, "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
        )
        self.addCleanup(process.terminate)  # which ends its worker as well; called before it is killed
        eventually("nginx to listen", lambda: is_open(port))
        return port

    def play(self, url: str) -> tuple[subprocess.Popen[bytes], Path]:
        """FFmpeg that writes what it is sent into a file, until the server says that it is over."""
        path = new_folder("played") / "played.mkv"
        said = ["-nostdin", "-v", "error", "-y", "-copyts", "-i", url, "-map", "0", "-c", "copy"]
        return self.run_program([FFMPEG, *said, str(path)]), path

    def relays(self, server: Server, key: str = "cam") -> list[dict[str, Any]]:
        relays: list[dict[str, Any]] = server.get(f"/api/v1/streams/{key}/relays").json()["relays"]
        return relays

    def wait_for_state(self, server: Server, state: str, key: str = "cam") -> dict[str, Any]:
        """The first relay of a stream, in a state."""

        def look() -> dict[str, Any] | None:
            relays = self.relays(server, key)
            return relays[0] if relays and relays[0]["state"] == state else None

        return eventually(f"the relay to be {state}", look)

    def assert_carried(self, path: Path, at_least_s: float) -> None:
        """A file holds pictures and sound of the clip, one after the other, none missing and none other."""
        received = read_packets(path)
        for kind in ("video", "audio"):
            sent = [packet.digest for packet in CLIP.packets.tracks[kind]]
            got = [packet.digest for packet in received.tracks[kind]]
            first = sent.index(got[0])
            self.assertEqual(sent[first : first + len(got)], got, kind)
            self.assertGreater(_span_s(received.tracks[kind]), at_least_s, kind)

    def assert_unseen(self, server: Server) -> None:
        """The key is in no log, answer, metric or command line."""
        places = [server.log, server.get("/metrics").text, server.get("/api/v1/streams").text]
        places += [json.dumps(self.relays(server)), server.get("/api/v1/openapi.json").text]
        places += [path.read_bytes().decode("utf-8", "replace") for path in Path("/proc").glob("[0-9]*/cmdline")]
        self.assertFalse([text[:100] for text in places if KEY in text and "ffmpeg" not in text])


def _span_s(packets: Sequence[Packet]) -> float:
    return float(packets[-1].dts - packets[0].dts)


class PushTests(RelayTest):
    def test_push_to_nginx_rtmp(self) -> None:
        """nginx-rtmp gets every packet from a keyframe on, and hears of the end, by which its player ends by itself."""
        port = self.start_nginx()
        server = self.start_server(
            f'{OPEN}[apps.live]\npush = [{{url = "rtmp://127.0.0.1:{port}/app", key = "{KEY}"}}]\n'
        )
        publisher = self.publish(FFMPEG, CLIP.path, f"rtmp://127.0.0.1:{server.rtmp_port}/live/cam")
        relay = self.wait_for_state(server, "running")
        self.assertEqual("****6789", relay["key"])
        player, played = self.play(f"rtmp://127.0.0.1:{port}/app/{KEY}")
        publisher.wait()
        self.assert_unseen(server)
        self.wait_for_state(server, "waiting")
        player.wait(20)
        self.assert_carried(played, 6)
        server.stop()

    def test_push_to_a_listening_ffmpeg(self) -> None:
        """A target that listens late is found by a later attempt, and its file is whole when the relay is removed."""
        port, path = free_port(), new_folder("listening") / "received.flv"
        server = self.start_server(OPEN)
        added = fetch(
            f"{server.root}/api/v1/streams/cam/relays",
            method="POST",
            body=json.dumps({"url": f"rtmp://127.0.0.1:{port}/app", "key": KEY}),
        )
        self.assertEqual((201, "waiting"), (added.status, added.json()["state"]))
        self.publish(FFMPEG, CLIP.path, f"rtmp://127.0.0.1:{server.rtmp_port}/live/cam")
        self.wait_for_state(server, "retrying")
        listening = ["-nostdin", "-v", "error", "-y", "-listen", "1", "-i", f"rtmp://127.0.0.1:{port}/app/{KEY}"]
        receiver = self.run_program([FFMPEG, *listening, "-c", "copy", str(path)])
        self.wait_for_state(server, "running")
        eventually("some seconds to be received", lambda: path.exists() and path.stat().st_size > 200_000)
        removed = fetch(f"{server.root}/api/v1/streams/cam/relays/{added.json()['id']}", method="DELETE")
        self.assertEqual(200, removed.status)
        receiver.wait(20)
        self.assert_carried(path, 1)
        self.assert_unseen(server)
        server.stop()

    def test_push_to_ourselves_over_rtmps(self) -> None:
        """Over RTMPS a certificate is checked by its name: what it does not name is refused, what it names gets all."""
        openssl = shutil.which("openssl")
        if openssl is None:
            raise SkipTest("openssl is not installed")
        folder, port = new_folder("certificate"), free_port()
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
        made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run([openssl, *made], check=True, capture_output=True)
        door = f"ssl:{port}:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
        target = self.start_server(OPEN, program=(*TWISTD, "--rtmp", door))
        urls = (f"rtmps://127.0.0.1:{port}/live", f"rtmps://localhost:{port}/live")
        push = ", ".join(f'{{url = "{url}", key = "to-{{key}}", ca = "{certificate}"}}' for url in urls)
        server = self.start_server(f'{OPEN}[apps.live]\npush = [{push}, {{url = "{urls[1]}", key = "untrusted"}}]\n')
        self.publish(FFMPEG, CLIP.path, f"rtmp://127.0.0.1:{server.rtmp_port}/live/cam")
        eventually(
            "the relays to have been tried",
            lambda: sorted(each["state"] for each in self.relays(server)) == ["refused", "refused", "running"],
        )
        by_name, running, untrusted = self.relays(server)
        self.assertIn("certificate is for another name", by_name["reason"])
        self.assertEqual("running", running["state"])
        self.assertIn("certificate", untrusted["reason"])
        (stream,) = target.get("/api/v1/streams").json()["streams"]
        self.assertEqual(("to-cam", "320x180", 2), (stream["streamKey"], stream["resolution"], len(stream["tracks"])))
        server.stop()
        target.stop()


class ScriptedTests(RelayTest):
    """Other servers that do what servers do on a bad day, all of them at the same time, as targets of one stream."""

    def start_scripted(self, script: Script) -> ScriptedServer:
        """Such a server, gone after the test."""
        server = ScriptedServer(script)
        self.addCleanup(server.close)
        return server

    def test_bad_targets_disturb_nothing(self) -> None:
        """
        A target that refuses, one whose name is in use, one that hangs, one that resets, one that leads elsewhere, and
        one that wants a password: each is dealt with in its way, and the stream, and the others, never notice.
        """
        elsewhere, guarded = self.start_scripted(Script()), self.start_scripted(Script(challenges=ADOBE))
        refusing = self.start_scripted(Script(refusal=("NetStream.Publish.Denied", f"no broadcast for {KEY}")))
        busy = self.start_scripted(Script(refusal=("NetStream.Publish.BadName", "already publishing")))
        hanging, resetting = self.start_scripted(Script(hangs=True)), self.start_scripted(Script(reset_s=2.0))
        leading = self.start_scripted(Script(redirect=f"rtmp://127.0.0.1:{elsewhere.port}/there"))
        targets = (refusing, busy, hanging, resetting, leading)
        urls = [*(f"rtmp://127.0.0.1:{target.port}/app" for target in targets)]
        urls.append(f"rtmp://me:{PASSWORD}@127.0.0.1:{guarded.port}/app")
        push = ", ".join(f'{{url = "{url}", key = "{KEY}"}}' for url in urls)
        server = self.start_server(f"{OPEN}[apps.live]\npush = [{push}]\n")
        publisher = self.publish(FFMPEG, CLIP.path, f"rtmp://127.0.0.1:{server.rtmp_port}/live/cam")
        eventually("the hanging one to be given up", lambda: "no answer within 10 s" in server.log, 25)
        said = {relay["id"]: relay for relay in self.relays(server)}
        states = [said[f"push-{number}"]["state"] for number in range(1, 7)]
        self.assertEqual(["refused", "refused", "retrying"], states[:3])
        self.assertEqual(["running", "running"], states[4:])
        self.assertIn("Denied", said["push-1"]["reason"])
        self.assertGreaterEqual(said["push-4"]["reconnects"], 1)
        publisher.wait()
        eventually("the ends to be said", lambda: elsewhere.of(PublishEnded) and guarded.of(PublishEnded))
        self.assertEqual((1, "there"), (leading.connections, elsewhere.of(ConnectRequested)[0].properties["app"]))
        self.assertEqual(3, guarded.connections)
        self.assertGreater(min(elsewhere.media, guarded.media), 200)
        self.assertEqual(1, refusing.connections)  # the next attempt comes after a minute
        events = re.findall(r"relay (push-\d) .* is (\w+)", server.log)
        self.assertEqual(1, events.count(("push-1", "refused")))
        self.assertEqual(1, events.count(("push-2", "refused")))
        self.assertEqual(1, events.count(("push-3", "retrying")))
        playlist = server.get("/live/cam/index.m3u8").text
        self.assertNotIn("#EXT-X-DISCONTINUITY\n", playlist)
        self.assertNotIn("GAP", playlist)
        for secret in (KEY, PASSWORD):
            self.assertNotIn(secret, server.log + json.dumps(list(said.values())) + server.get("/metrics").text)
        server.stop()

    def test_encoders_answer_the_same_challenge(self) -> None:
        """FFmpeg takes the scripted server's challenge for what it is, and gives the same kind of answer as we do."""
        guarded = self.start_scripted(Script(challenges=ADOBE))
        publisher = self.publish(FFMPEG, CLIP.path, f"rtmp://me:{PASSWORD}@127.0.0.1:{guarded.port}/app/cam")
        eventually("the publish", lambda: guarded.media > 10)
        publisher.kill()
        said = guarded.of(ConnectRequested)[2].properties["tcUrl"]
        fields = dict(each.partition("=")[::2] for each in said.partition("?")[2].split("&"))
        ours = answer_challenge(ADOBE[1], "app", "me", PASSWORD, bytes.fromhex(fields["challenge"].zfill(8)))
        self.assertIn(f"response={fields['response']}", ours)


class PullTests(RelayTest):
    def test_edge_of_nginx_rtmp(self) -> None:
        """An edge fetches a stream for its first viewer over HLS and for its first player, and lets go of it."""
        port = self.start_nginx()
        pulled = f'{{stream = "far", urls = "rtmp://127.0.0.1:{port}/app/cam", mode = "on demand", close_after = "2s"}}'
        server = self.start_server(f"{OPEN}[apps.live]\npull = [{pulled}]\n")
        self.publish(FFMPEG, CLIP.path, f"rtmp://127.0.0.1:{port}/app/cam")
        eventually("nginx to have the stream", lambda: server.get("/live/far/index.m3u8").status == 200)
        player, played = self.play(f"rtmp://127.0.0.1:{server.rtmp_port}/live/far")
        self.wait_for_state(server, "running", "far")
        self.assertEqual(1, server.log.count("live/far published by"))
        player.wait(40)
        self.assert_carried(played, 4)
        eventually("the pull to be closed", lambda: not self.relays(server, "far"))
        server.stop()

    def test_many_viewers_are_one_pull(self) -> None:
        """
        Fifty players who ask an edge in the same instant make one connection to the second origin, as the first does
        not answer, and all of them play soon after six seconds.
        """
        dead = ScriptedServer(Script(hangs=True))
        self.addCleanup(dead.close)
        origin = self.start_server(OPEN)
        origins = f'["rtmp://127.0.0.1:{dead.port}/live", "rtmp://127.0.0.1:{origin.rtmp_port}/live"]'
        edge = self.start_server(f"{OPEN}[apps.live]\norigin = {origins}\n")
        self.publish(FFMPEG, CLIP.path, f"rtmp://127.0.0.1:{origin.rtmp_port}/live/cam")
        eventually("the stream", lambda: origin.get("/live/cam/index.m3u8").status == 200)
        asked_s, request = time.monotonic(), b"GET /live/cam.flv HTTP/1.1\r\nHost: edge\r\n\r\n"
        address = ("127.0.0.1", urlsplit(edge.root).port or 0)
        players = [socket.create_connection(address, 20) for _ in range(50)]
        for player in players:
            self.addCleanup(player.close)
            player.sendall(request)
        for player in players:
            self.assertTrue(player.recv(4096).startswith(b"HTTP/1.1 200"))
        self.assertLess(time.monotonic() - asked_s, 8)
        self.assertEqual(1, origin.log.count("live/cam played by"))
        self.assertEqual(50, edge.get("/api/v1/streams/cam").json()["players"]["http"])
        edge.stop()
        eventually(
            "the connection to be closed", lambda: not origin.get("/api/v1/streams/cam").json()["players"]["rtmp"]
        )
        origin.stop()


class LoopTests(RelayTest):
    def test_loops_are_refused_at_once(self) -> None:
        """Servers that push to each other, or to themselves by another name, refuse at the first hop."""
        here, there = free_port(), free_port()
        push = '[apps.live]\npush = [{{url = "rtmp://{}:{}/live", key = "{{key}}"}}]\n'
        first = self.start_server(OPEN + push.format("127.0.0.1", there), ports=(here, 0))
        second = self.start_server(OPEN + push.format("localhost", here), ports=(there, 0))
        self.publish(FFMPEG, CLIP.path, f"rtmp://127.0.0.1:{here}/live/cam")
        refused = self.wait_for_state(second, "refused")
        self.assertIn("relay loop", refused["reason"])
        self.wait_for_state(first, "running")
        itself = fetch(
            f"{first.root}/api/v1/streams/cam/relays",
            method="POST",
            body=json.dumps({"url": f"rtmp://localhost:{here}/live", "key": "again"}),
        )
        self.assertEqual(201, itself.status)
        eventually("it to be refused", lambda: "relay loop" in self.relays(first)[1]["reason"])
        self.assertEqual(1, first.get("/api/v1/streams").json()["total"])
        first.stop()
        second.stop()
