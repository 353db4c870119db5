"""`rapidrtmp token`: what a person needs to publish, of a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.e2e.ffmpeg import CLIPS, FFMPEG
from tests.e2e.harness import EndToEndTest, Server, eventually, fetch, free_port, new_folder, server_environment


class TokenToolTests(EndToEndTest):
    def run_tool(self, *arguments: str, cwd: Path | None = None, **environment: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        done = subprocess.run(
            [sys.executable, "-m", "rapidrtmp", "token", *arguments],
            cwd=cwd or new_folder("elsewhere"),
            env={**server_environment(), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr

    def grant(self, server: Server, *arguments: str, cwd: Path | None = None, **environment: str) -> dict[str, str]:
        status, out, err = self.run_tool(*arguments, "--json", cwd=cwd, **environment)
        self.assertEqual(0, status, err)
        found: dict[str, str] = json.loads(out)
        server.tokens.append(found["token"])
        return found

    def test_printed_url_can_be_published(self) -> None:
        """What it prints is what an encoder publishes with, and where the stream is watched."""
        server = self.start_server()
        status, out, err = self.run_tool(
            "show", "--expires", "2h", "--server", server.root.replace("127.0.0.1", "localhost")
        )
        self.assertEqual(0, status, err)
        shown = {line[:17].strip(): line[17:] for line in out.splitlines()}
        self.assertEqual(["Publish URL", "OBS, Server", "OBS, Stream Key", "Watch", "Good until"], list(shown))
        self.assertEqual(shown["Publish URL"], f"{shown['OBS, Server']}/{shown['OBS, Stream Key']}")
        server.tokens.append(shown["OBS, Stream Key"].partition("=")[2])
        self.assertIn("localhost", err)
        self.publish(FFMPEG, CLIPS["plain"].path, shown["Publish URL"])
        self.assertEqual(200, fetch(shown["Watch"]).status)
        eventually("the stream", lambda: fetch(f"{shown['Watch']}/index.m3u8").status == 200)
        server.stop()

    def test_finding_a_running_server(self) -> None:
        """A server is found by a URL, by its file, and by the environment; also at a UNIX socket and over TLS."""
        port = free_port()
        server = self.start_server(f"[server]\nmanage = ['tcp:{port}:interface=127.0.0.1', 'unix:manage.sock']\n")
        root = f"http://127.0.0.1:{port}"
        for options, environment in (
            (("--server", root), {}),
            (("--config", str(server.folder / "config.toml")), {}),
            ((), {"RAPIDRTMP_SERVER_MANAGE": f"tcp:{port}"}),
            ((), {"RAPIDRTMP_SERVER_MANAGE": f"tcp:{free_port()} tcp:{port}"}),
            ((), {"RAPIDRTMP_SERVER_MANAGE": f"unix:{server.folder}/manage.sock"}),
        ):
            grant = self.grant(server, "live/show", *options, **environment)
            self.assertTrue(
                grant["watchUrl"].endswith(f"{server.root.rpartition(':')[2]}/live/show"), grant["watchUrl"]
            )
        server.stop()

    def test_encrypted_server_is_asked(self) -> None:
        """A server of this machine is asked over TLS whatever the name in its certificate."""
        openssl = shutil.which("openssl")
        if openssl is None:
            raise SkipTest("openssl is not installed")
        folder, port = new_folder("certificate"), free_port()
        made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=media.example.com", "-days", "2"]
        subprocess.run(
            [openssl, *made, "-keyout", folder / "key.pem", "-out", folder / "chain.pem"],
            check=True,
            capture_output=True,
        )
        door = f"ssl:{port}:privateKey={folder}/key.pem:certKey={folder}/chain.pem"
        server = self.start_server(f"[server]\nmanage = ['{door}']\n")
        self.grant(server, "show", "--config", str(server.folder / "config.toml"))
        server.stop()

    def test_secret_beside_the_server(self) -> None:
        """Where the server wants the secret it is found beside the server, or as given; without it the tool says so."""
        server = self.start_server("[server]\ntrust_own_user = false\n")
        self.grant(server, "show", "--server", server.root, cwd=server.folder)
        key = server.folder / "data" / "api.key"
        self.grant(server, "show", "--server", server.root, "--api-token-file", str(key))
        secret = key.read_text().strip()
        self.grant(server, "show", "--server", server.root, RAPIDRTMP_SERVER_API_TOKEN=secret)
        status, out, err = self.run_tool("show", "--server", server.root)
        self.assertEqual((1, ""), (status, out))
        self.assertRegex(err, r"\Arapidrtmp: [^\n]*management secret[^\n]*\n\Z")
        _, out, err = self.run_tool("show", "--server", server.root, RAPIDRTMP_SERVER_API_TOKEN="wrong-wrong-wrong")
        self.assertIn("401", err)
        self.assertNotIn("wrong-wrong", out + err)
        server.stop()

    def test_refusals_are_one_line(self) -> None:
        """What goes wrong is one line on standard error, in the server's words where it has any."""
        server = self.start_server()
        for arguments, expected in (
            (("a b", "--server", server.root), "stream key"),
            (("nowhere/show", "--server", server.root), "nowhere"),
            (("show", "--expires", "9d", "--server", server.root), "longest allowed"),
            (("show", "--server", f"127.0.0.1:{free_port()}"), "no server answers"),
            (("show", "--server", "ftp://x"), "is not the URL"),
        ):
            status, out, err = self.run_tool(*arguments)
            self.assertEqual((1, ""), (status, out), arguments)
            self.assertRegex(err, rf"\Arapidrtmp: [^\n]*{expected}[^\n]*\n\Z")
        server.stop()
