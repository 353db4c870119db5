"""The configuration of a real server, changed while a real encoder publishes: by SIGHUP, and by `rapidrtmp config`."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.e2e.ffmpeg import CLIPS, FFMPEG
from tests.e2e.harness import TWISTD, EndToEndTest, Server, eventually, fetch, new_folder, server_environment

BEFORE = '[hls]\nsegment = "1s"\n[server]\nmax_streams = 9\n'
AFTER = '[hls]\nsegment = "2s"\n[server]\nmax_streams = 8\nshutdown_timeout = "5s"\n[apps.radio]\nauth = "open"\n'


class ReloadTests(EndToEndTest):
    def run_tool(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error of `rapidrtmp config`."""
        done = subprocess.run(
            [sys.executable, "-m", "rapidrtmp", "config", *arguments],
            cwd=new_folder("elsewhere"),
            env=server_environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr

    def live_server(self) -> Server:
        server = self.start_server(BEFORE, program=TWISTD)
        self.publisher = self.publish(FFMPEG, CLIPS["plain"].path, server.issue_token("mine").publish_url)
        eventually("the stream", lambda: server.get("/live/mine/index.m3u8").status == 200)
        return server

    def test_hang_up_follows_the_file(self) -> None:
        """HUP follows what the file says now, a wrong file changes nothing, and the stream goes through all of it."""
        server = self.live_server()
        (server.folder / "config.toml").write_text("[hls\n")
        server.send_signal(signal.SIGHUP)
        eventually("the refusal", lambda: "the configuration is not reloaded, nothing changes" in server.log)
        self.assertIn("config.toml is not TOML", server.log)
        (server.folder / "config.toml").write_text(AFTER)
        server.send_signal(signal.SIGHUP)
        applied = "applied: server.max_streams, apps.live.max_streams, apps.radio; "
        eventually("the reload", lambda: applied in server.log)
        self.assertIn("for new streams: hls.segment; needs a restart: server.shutdown_timeout", server.log)
        self.assertEqual("live", server.get("/api/v1/streams/mine").json()["state"])
        url = f"rtmp://127.0.0.1:{server.rtmp_port}/radio/other"
        self.publish(FFMPEG, CLIPS["plain"].path, url)
        playlist = eventually("the new stream", lambda: _found(server, "/radio/other/index.m3u8"))
        self.assertIn("#EXT-X-TARGETDURATION:2", playlist)
        self.assertIn("#EXT-X-TARGETDURATION:1", server.get("/live/mine/index.m3u8").text)
        self.assertFalse(self.publisher.has_ended)
        server.stop()

    def test_tool_says_the_difference(self) -> None:
        """`rapidrtmp config diff` says beforehand what `rapidrtmp config reload` then does."""
        server = self.start_server(BEFORE)
        new = server.folder / "new.toml"
        new.write_text(AFTER)
        expected = (
            "applied: server.max_streams, apps.live.max_streams, apps.radio\nfor new streams: hls.segment\n"
            "needs a restart: server.shutdown_timeout\n"
        )
        self.assertEqual((0, expected, ""), self.run_tool("diff", str(new), "--server", server.root))
        self.assertEqual(404, fetch(f"{server.root}/radio/other").status)
        (server.folder / "config.toml").write_text(AFTER)
        self.assertEqual((0, expected, ""), self.run_tool("reload", "--server", server.root))
        self.assertEqual(200, fetch(f"{server.root}/radio/other").status)
        status, said, _ = self.run_tool("diff", str(new), "--server", server.root)
        self.assertEqual((0, "needs a restart: server.shutdown_timeout\n"), (status, said))
        new.write_text("[hls]\nsegmnt = 3\n")
        status, said, error = self.run_tool("diff", str(new), "--server", server.root)
        self.assertEqual((1, ""), (status, said))
        self.assertRegex(error, r"\Arapidrtmp: \S+ answers 400: \S+new\.toml: \[hls\] has no key segmnt; [^\n]+\n\Z")
        server.stop()

    def test_file_leads_to_the_server(self) -> None:
        """Without a URL the file that is compared leads to the server, or the one that `--config` names."""
        server = self.start_server(f"{BEFORE}manage = 'unix:manage.sock'\n")
        door = f"manage = 'unix:{server.folder}/manage.sock'\n"
        new, other = server.folder / "new.toml", server.folder / "other.toml"
        new.write_text(f"{BEFORE}{door}")
        expected = (0, "needs a restart: server.manage\n", "")
        self.assertEqual(expected, self.run_tool("diff", str(new)))
        other.write_text(BEFORE)
        status, said, _ = self.run_tool("diff", str(other), "--config", str(new))
        self.assertEqual((0, "needs a restart: server.manage\n"), (status, said))
        server.stop()


def _found(server: Server, path: str) -> str | None:
    answer = server.get(path)
    return answer.text if answer.status == 200 else None
