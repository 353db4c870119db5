"""The caches of ``deploy/`` before a real server: however many watch, it is asked for each thing once."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.edges import EdgeViewer, watch
from tests.e2e.ffmpeg import CLIPS, FFMPEG
from tests.e2e.harness import EndToEndTest, Server, eventually, fetch, free_port
from tests.e2e.test_deploy import DEPLOY, find

SETTINGS = '[http]\naccess_log = true\ntrusted_proxies = ["127.0.0.1"]\n[hls]\nsegment = "1s"\n'
ASKED = re.compile(r"GET (/live/show/\S+).* 200\b")
VIEWERS = 50
SECONDS = 6.0


class EdgeCase(EndToEndTest):
    """A stream, and a cache before the server."""

    def start(self, command: Sequence[str | Path], root: str) -> None:
        """Start a cache that is gone after the test, and wait until it answers."""
        process = subprocess.Popen(
            [*map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        assert process.stderr is not None
        self.addCleanup(process.stderr.close)

        def answers() -> bool:
            if process.poll() is not None:
                assert process.stderr is not None
                raise AssertionError(f"the cache has ended: {process.stderr.read().decode()}")
            try:
                return fetch(f"{root}/health").status == 200
            except OSError:
                return False

        eventually("the cache to answer", answers)

    def broadcast(self) -> Server:
        """A server with a stream that can be watched."""
        server = self.start_server(SETTINGS, storage="memory:")
        url = server.issue_token("show").publish_url
        self.publish(FFMPEG, CLIPS["plain"].path, url, ("-stream_loop", "-1"))
        eventually("three segments", lambda: server.get("/live/show/index.m3u8").text.count("#EXTINF") > 2)
        return server

    def asked(self, server: Server, since: int) -> Counter[str]:
        """How often the server was asked for each path, since its log was so long."""
        return Counter(ASKED.findall(server.log[since:]))

    def folder(self) -> Path:
        """A folder whose name is short enough for a socket in it."""
        folder = Path(tempfile.mkdtemp(prefix="edge-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def check_audience(self, audience: Sequence[EdgeViewer]) -> set[str]:
        """Hold that every viewer got all it asked for; the media that any of them asked for."""
        self.assertEqual([], [failure for viewer in audience for failure in viewer.failures])
        media = {name for viewer in audience for name in viewer.got if name.endswith(".m4s")}
        self.assertGreater(len(media), 3)
        return media


class VarnishTests(EdgeCase):
    def test_low_latency_costs_one_viewer(self) -> None:
        """Fifty low-latency viewers behind Varnish: each part and each reload is asked for once, and is on time."""
        program, port = find("varnishd"), free_port()
        server = self.broadcast()
        text = (DEPLOY / "varnish" / "live.vcl").read_text()
        origin = f'.host = "127.0.0.1";\n    .port = "{urlsplit(server.root).port}";'
        vcl = self.folder() / "live.vcl"
        vcl.write_text(text.replace('.host = "127.0.0.1";\n    .port = "8080";', origin))
        self.assertIn(origin, vcl.read_text())
        root = f"http://127.0.0.1:{port}"
        vcl.parent.chmod(0o755)
        command = [program, "-F", "-a", f"127.0.0.1:{port}", "-f", vcl, "-n", vcl.parent / "n", "-s", "malloc,64m"]
        self.start(command, root)
        since = len(server.log)
        audience = watch(f"{root}/live/show", VIEWERS, SECONDS, low_latency=True)
        media = self.check_audience(audience)
        asked = self.asked(server, since)
        self.assertEqual({f"/live/show/{name}": 1 for name in media}, {p: asked[p] for p in asked if p.endswith("m4s")})
        reloads = {name for viewer in audience for name in viewer.got if "_HLS_msn" in name}
        plain = asked["/live/show/index.m3u8"] - len(reloads)
        self.assertTrue(0 <= plain <= 3, f"{plain} plain playlists besides {len(reloads)} reloads")
        lates = [
            viewer.got[name] - min(other.got[name] for other in audience if name in other.got)
            for viewer in audience
            for name in viewer.got
            if name.endswith(".m4s")
        ]
        self.assertLess(statistics.median(lates), 0.3)  # a part lasts 0.333 s; a cache that looks again takes 0.5


class NginxTests(EdgeCase):
    def test_ordinary_hls_costs_one_viewer(self) -> None:
        """Fifty ordinary viewers behind nginx: each segment is asked for once, and the playlist some times a second."""
        program, port = find("nginx"), free_port()
        server = self.broadcast()
        folder = self.folder()
        folder.chmod(0o755)
        text = (DEPLOY / "nginx" / "live.conf").read_text()
        for ours, theirs in (
            ("server 127.0.0.1:8080;", f"server 127.0.0.1:{urlsplit(server.root).port};"),
            ("listen 80;", f"listen 127.0.0.1:{port};"),
            ("/var/cache/nginx/live", f"{folder}/cache"),
        ):
            self.assertEqual(1, text.count(ours))
            text = text.replace(ours, theirs)
        temporary = " ".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy"))
        (folder / "live.conf").write_text(text)
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{ worker_connections 512; }}\n"
            f"http {{ access_log off; {temporary} include {folder}/live.conf; }}\n"
        )
        root = f"http://127.0.0.1:{port}"
        self.start([program, "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"], root)
        since = len(server.log)
        audience = watch(f"{root}/live/show", VIEWERS, SECONDS, low_latency=False)
        media = self.check_audience(audience)
        asked = self.asked(server, since)
        self.assertEqual({f"/live/show/{name}": 1 for name in media}, {p: asked[p] for p in asked if p.endswith("m4s")})
        self.assertLess(asked["/live/show/index.m3u8"], 3 * SECONDS)
