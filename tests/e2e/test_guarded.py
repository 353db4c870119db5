"""Streams that are not for everyone, on a real server: behind a cache, and with nothing secret to be found anywhere."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt

from tests.e2e import test_proxies
from tests.e2e.browser import FIGURES, BrowserTest, check_library, find_browser
from tests.e2e.ffmpeg import CLIPS, FFMPEG
from tests.e2e.harness import EndToEndTest, Server, eventually, fetch, free_port, server_environment
from tests.e2e.test_proxies import _other_user, _program

DOCUMENT = Path(__file__).parents[2] / "docs" / "authentication.md"


def play(server: Server, key: str = "show", **terms: Any) -> str:
    """A token to watch with."""
    answer = fetch(f"{server.root}/api/v1/play", method="POST", body=json.dumps({"streamKey": key, **terms}))
    token: str = answer.json()["token"]
    server.tokens.append(token)
    return token


def segment_of(playlist: str) -> str:
    found = re.findall(r"^segment_\d+\.m4s$", playlist, re.M)
    return found[-1] if found else ""


class CacheTests(EndToEndTest):
    start = test_proxies.ProxyTests.start

    def documented_nginx(self, server: Server) -> str:
        """nginx as the documentation has it, before a server."""
        program, port, folder = _program("nginx"), free_port(), Path(tempfile.mkdtemp(prefix="nginx-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        (found,) = re.findall(r"^    proxy_cache_path.*?^    \}$", DOCUMENT.read_text(), re.M | re.S)
        said = found.replace("http://127.0.0.1:8080", server.root).replace("/var/cache/nginx/live", f"{folder}/cache")
        said = said.replace("server {", f"server {{ listen 127.0.0.1:{port};", 1)
        (folder / "nginx.conf").write_text(
            f"user {_other_user()}; daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}} "
            f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n{said} }}"
        )
        return self.start([program, "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"], port)

    def test_one_copy_for_all(self) -> None:
        """A cache that leaves the token out of its keys holds media once for all tokens, and lets no other in."""
        server = self.start_server('[apps.live]\nplay = ["token"]\n[http]\ntrusted_proxies = ["127.0.0.1"]\n')
        self.publish(FFMPEG, CLIPS["plain"].path, server.issue_token("show").publish_url, ("-stream_loop", "-1"))
        tokens = [play(server) for _ in range(3)]
        root = self.documented_nginx(server)
        first = f"{root}/live/show/~{tokens[0]}"
        segment = eventually("a segment", lambda: segment_of(fetch(f"{first}/index.m3u8").text))

        def asked() -> float:
            text = fetch(f"{server.root}/metrics").text
            counts = re.findall(r'http_requests_total\{route="/<app>/<key>/<name>",status="200"\} ([\d.]+)', text)
            return sum(map(float, counts))

        before = asked()
        bodies = {fetch(f"{root}/live/show/~{token}/{segment}").body for token in tokens for _ in range(2)}
        self.assertEqual((1, 1.0), (len(bodies), asked() - before))
        self.assertEqual(fetch(f"{server.root}/live/show/~{tokens[0]}/{segment}").body, bodies.pop())
        for token, status in (("nonsense", 401), (play(server, "other"), 403)):
            self.assertEqual(status, fetch(f"{root}/live/show/~{token}/{segment}").status)
        fetch(f"{server.root}/api/v1/tokens/revoke", method="POST", body=json.dumps({"token": tokens[0]}))
        eventually("the end of a revoked token", lambda: fetch(f"{first}/{segment}").status == 401, 5)
        self.assertEqual(200, fetch(f"{root}/live/show/~{tokens[1]}/{segment}").status)
        server.stop()

    def test_sessions_end_within_seconds(self) -> None:
        """Expiry and revocation end the sessions of publishers and players within five seconds."""
        server = self.start_server('[apps.live]\nplay = ["token"]\n')
        publisher = self.publish(
            FFMPEG, CLIPS["plain"].path, server.issue_token("show").publish_url, ("-stream_loop", "-1")
        )
        brief, other = play(server, expiresIn=2), play(server)
        playlist = f"{server.root}/live/show/~{other}/index.m3u8"
        eventually("the stream", lambda: fetch(playlist).status == 200)
        eventually(
            "the end of a brief token", lambda: fetch(f"{server.root}/live/show/~{brief}/index.m3u8").status == 401, 7
        )
        revoke = json.dumps({"streamKey": "show"})
        self.assertEqual(200, fetch(f"{server.root}/api/v1/tokens/revoke", method="POST", body=revoke).status)
        eventually("the end of the publisher", lambda: publisher.has_ended, 5)
        eventually("the end of the player", lambda: fetch(playlist).status == 401, 5)
        server.stop()
        again = self.start_again(server)
        self.assertEqual(401, again.get(f"/live/show/~{other}/index.m3u8").status)
        again.stop()


class PageTests(BrowserTest):
    def test_page_plays_with_a_token(self) -> None:
        """A link with a token plays in a browser, from ?token= as well, and says so when the token is revoked."""
        paths = find_browser()
        server = self.start_server('[apps.live]\nplay = ["token"]\n')
        check_library(server)
        url, endless = server.issue_token("show").publish_url, ("-stream_loop", "-1")
        self.publish(FFMPEG, CLIPS["plain"].path, url, endless)
        token = play(server)
        browser = self.open_page(paths, f"{server.root}/live/show?token={token}")
        self.assertEqual(f"{server.root}/live/show/~{token}/", browser.current_url)
        first = eventually("the page to play", lambda: self.figures_of_play(browser))
        eventually("it to play on", lambda: self.figures_of_play(browser, first["currentTime"] + 2))
        fetch(f"{server.root}/api/v1/tokens/revoke", method="POST", body=json.dumps({"token": token}))
        said = eventually(
            "the page to say so",
            lambda: (found := browser.execute_script(FIGURES))["state"] == "failed" and found["said"],
        )
        self.assertIn("revoked", said)
        server.stop()


class Backend(BaseHTTPRequestHandler):
    """Lets in a client that shows the right token, under another name."""

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["content-length"])))
        allowed = said["token"] == "hook-s3cret-token"
        body = json.dumps({"allow": allowed, **({"name": "renamed"} if said["action"] == "publish" else {})}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


SETTINGS = """
[server]
log_level = "debug"
api_token = "api-s3cret-token"
[http]
access_log = true
open_metrics = true
[apps.live]
play = ["token"]
sinks = ["hls", "record"]
[apps.table]
auth = ["open"]
public_names = {{table-s3cret-key = "shown"}}
[apps.hashed]
auth = ["jwt:key=jwt.key", "http-users:users"]
play = ["jwt:key=jwt.key", "http-users:users"]
public_names = "hashed"
[apps.hook]
auth = ['webhook:url=http\\://url-s3cret-user\\:pw@127.0.0.1\\:{port}/url-s3cret-path:secret=hook.key']
"""


class SecretTests(EndToEndTest):
    def everything(self, server: Server) -> Iterator[tuple[str, str]]:
        """All that is to be seen of a server, with where it is."""
        yield "its log", server.log
        for name in ("cmdline",):
            yield name, Path(f"/proc/{server._process.pid}/{name}").read_text()
        manage = {"Authorization": "Bearer api-s3cret-token"}
        for path in (
            "/metrics",
            "/api/v1/streams",
            "/api/v1/recordings",
            "/api/v1/hooks",
            "/api/v1/openapi.json",
            "/",
            "/recordings",
            "/ready",
            "/table/shown",
            "/table/shown/index.m3u8",
            "/table/shown/master.m3u8",
            "/api/v1/streams/table/shown",
            "/api/v1/streams/none",
            "/live/show",
            "/live/show/index.m3u8",
        ):
            yield path, server.get(path, **manage).text
        checked = subprocess.run(
            [sys.executable, "-m", "twisted", "rapidrtmp", "--config", "config.toml", "--check-config"],
            cwd=server.folder,
            env=server_environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        yield "--check-config", checked.stdout + checked.stderr
        for path in server.store.rglob("*"):
            if path.is_file():
                yield str(path), path.read_bytes().decode("latin-1") + str(path)

    def test_nothing_secret_is_shown(self) -> None:
        """After all kinds of secrets were used, well and badly, none is in logs, metrics, API, playlists or files."""
        backend = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        self.addCleanup(backend.server_close)
        self.addCleanup(backend.shutdown)

        def prepare(server: Server) -> None:
            (server.folder / "jwt.key").write_text("jwt-s3cret-key-of-more-than-32-bytes")
            (server.folder / "hook.key").write_text("hook-s3cret-key")
            hashed = subprocess.run(
                [sys.executable, "-m", "rapidrtmp", "password", "anna"],
                input="users-s3cret-password\n",
                env=server_environment(),
                capture_output=True,
                text=True,
                check=True,
            )
            (server.folder / "users").write_text(hashed.stdout)

        folder = Path(tempfile.mkdtemp(prefix="secrets-", dir=Path.cwd()))
        made = type("Prepared", (), {"folder": folder})
        prepare(made)  # type: ignore[arg-type]
        server = self.start_server(SETTINGS.format(port=backend.server_port), folder=folder)
        said = jwt.encode({"actions": "publish play", "streams": "*/*"}, "jwt-s3cret-key-of-more-than-32-bytes")
        manage = {"Authorization": "Bearer api-s3cret-token"}
        grants = [
            fetch(f"{server.root}/api/v1/{what}", method="POST", body='{"streamKey": "show"}', **manage).json()["token"]
            for what in ("publish", "play")
        ]
        secrets = ["s3cret", said, *grants]
        clip, root = CLIPS["plain"].path, f"rtmp://127.0.0.1:{server.rtmp_port}"
        good = (
            f"{root}/live/show?token={grants[0]}",
            f"{root}/table/table-s3cret-key",
            f"{root}/hashed/hashed-s3cret-key?token={said}",
            f"{root}/hook/hook-s3cret-key?token=hook-s3cret-token",
        )
        publishers = [self.publish(FFMPEG, clip, url, ("-stream_loop", "-1")) for url in good]
        for url in (
            f"{root}/live/show?token=wrong-s3cret",
            f"{root}/table/table-s3cret-kez",
            f"{root}/table/bad%20s3cret",
            f"{root}/hashed/other-s3cret-key?user=anna&pass=wrong-s3cret",
            f"{root}/hook/wrong-s3cret-key?token=wrong-s3cret",
            f"{root}/none/s3cret",
        ):
            if "/none/" not in url:
                self.publish(FFMPEG, clip, url).wait()
        watched = f"/live/show/~{grants[1]}/index.m3u8"
        eventually("the streams", lambda: len(self.live(server)) == 4)
        eventually("the playlist", lambda: server.get(watched).status == 200)
        basic = base64.b64encode(b"anna:users-s3cret-password").decode()
        (key,) = (each for each in self.live(server) if each not in ("show", "shown", "renamed"))
        hashed = f"/hashed/{key}/index.m3u8"
        self.assertEqual(200, server.get(hashed, Authorization=f"Basic {basic}").status)
        self.assertEqual(200, server.get(hashed, Authorization=f"Bearer {said}").status)
        refused = server.get(hashed)
        self.assertEqual(401, refused.status)
        self.assertIn("Basic realm=", refused.headers["www-authenticate"])
        for path, headers in (
            (watched, {}),
            (f"/live/show?token={grants[1]}", {}),
            ("/live/show/~wrong-s3cret/index.m3u8", {"Accept": "text/html"}),
            ("/live/show/index.m3u8", {"Authorization": "Bearer wrong-s3cret"}),
            (hashed, {"Authorization": f"Basic {basic}"}),
            (hashed, {"Authorization": f"Bearer {said}"}),
            ("/api/v1/streams", {"Authorization": "Bearer wrong-s3cret"}),
        ):
            answer = server.get(path, **headers)
            self.assertEqual([], [each for each in secrets if each in answer.text], path)
        fetch(f"{server.root}/api/v1/streams/show/stop", method="POST", body='{"revoke": true}', **manage)
        for publisher in publishers:
            publisher.kill()
        for where, text in self.everything(server):
            shown = {
                each: match[0] for each in secrets if (match := re.search(f".{{0,60}}{re.escape(each)}.{{0,40}}", text))
            }
            self.assertEqual({}, shown, f"in {where}")
        server.stop()
        self.assertEqual([], [each for each in secrets if each in server.log])

    def live(self, server: Server) -> list[str]:
        answer = server.get("/api/v1/streams", Authorization="Bearer api-s3cret-token")
        return [each["streamKey"] for each in answer.json()["streams"] if each["active"]]
