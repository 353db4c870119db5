"""What is in ``deploy/``, judged by the programs that will read it, where they are installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.e2e.harness import CHECKOUT, SERVE, EndToEndTest, new_folder

DEPLOY = CHECKOUT / "deploy"
OVERLAYS = DEPLOY / "kubernetes" / "overlays"
RUN_S = 60
#: Becomes the server, with two sockets that are open already, as systemd starts it.
ACTIVATE = """
import os, socket, sys
for number in (3, 4):
    door = socket.socket(socket.AF_INET6)
    door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    door.bind(("::", 0))
    door.listen(128)
    if door.fileno() != number:
        os.dup2(door.detach(), number)
    os.set_inheritable(number, True)
    door.detach()
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="rtmp:http")
words = sys.argv[1:]
for name in ("rtmp", "http"):
    words[words.index(f"--{name}") + 1] = f"systemd:domain=INET6:name={name}"
os.execv(words[0], words)
"""


def find(program: str) -> str:
    """Where a program is; without it the test is skipped."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise SkipTest(f"there is no {program}")
    return path


def run(*command: str | Path) -> str:
    """What a program prints; it must end well."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=RUN_S)
    if done.returncode:
        raise AssertionError(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class JudgedTests(SynchronousTestCase):
    def test_rules_are_taken_by_prometheus(self) -> None:
        """Prometheus takes the alerts, and its own configuration."""
        promtool = find("promtool")
        self.assertIn("15 rules found", run(promtool, "check", "rules", DEPLOY / "prometheus" / "rules.yml"))
        run(promtool, "check", "config", DEPLOY / "prometheus" / "prometheus.yml")

    def test_overlays_are_built_by_kustomize(self) -> None:
        """kustomize builds every overlay, with the image and the selectors in place."""
        command = [find("kustomize"), "build"] if shutil.which("kustomize") else [find("kubectl"), "kustomize"]
        for overlay in OVERLAYS.iterdir():
            built = run(*command, overlay)
            self.assertIn("app.kubernetes.io/name: rapidrtmp", built)
            self.assertNotIn("image: rapidrtmp\n", built)

    def test_units_are_taken_by_systemd(self) -> None:
        """systemd has nothing to say against the units."""
        analyze = find("systemd-analyze")
        folder = new_folder("units")
        for unit in (DEPLOY / "systemd").iterdir():
            text = unit.read_text().replace(
                "/opt/rapidrtmp/bin/rapidrtmp serve", f"{sys.executable} -m rapidrtmp serve"
            )
            (folder / unit.name).write_text(text)
        for unit in sorted(folder.iterdir()):
            self.assertNotIn("rapidrtmp", run(analyze, "verify", unit))


class ActivationTests(EndToEndTest):
    def test_server_uses_sockets_of_systemd(self) -> None:
        """The server serves at sockets that were open before it, by their names, and tells where they are."""
        server = self.start_server(program=(sys.executable, "-c", ACTIVATE, *SERVE), storage="memory:")
        self.assertEqual(200, server.get("/health").status)
        self.assertIn(f":{server.rtmp_port}/live/show", server.issue_token("show").publish_url)
        with socket.create_connection(("127.0.0.1", server.rtmp_port), 5):
            pass
        server.stop()
