"""The image of ``deploy/docker``, built for real: it serves, is killed, and a new container continues its stream."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.e2e.ffmpeg import CLIPS, FFMPEG
from tests.e2e.harness import CHECKOUT, EndToEndTest, Server, eventually, new_folder
from tests.e2e.playlists import parse_media_playlist
from tests.e2e.test_deploy import find

BASE, IMAGE = "localhost/rapidrtmp-test-base", "localhost/rapidrtmp-test"
PACKAGES = "python3,python3-venv,ca-certificates"
STEP_S = 400
USER = 10001
SETTINGS = '[live]\ngrace = "60s"\n[apps.live]\nauth = ["open"]\n'
#: What pip says where nothing can be fetched.
UNREACHABLE = ("No matching distribution", "Failed to establish a new connection", "Temporary failure")


class Builder:
    """
    buildah, with storage of its own and no registry.

    :param folder: all it leaves lies there.
    """

    def __init__(self, folder: Path) -> None:
        self._program = find("buildah")
        self._folder = folder
        policy = folder / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self.policy = f"--signature-policy={policy}"
        (folder / "registries.conf").write_text("")
        self._driver = "overlay"
        try:  # layers of overlayfs cost no copy; where there is none, files are copied
            self("mount", self("from", self.policy, "scratch").strip())
            self("unmount", "--all")
        except AssertionError:
            self._driver = "vfs"

    def command(self, *words: str | Path) -> list[str]:
        """A command line."""
        options = ["--root", self._folder / "root", "--runroot", self._folder / "run", "--storage-driver", self._driver]
        options += ["--registries-conf", self._folder / "registries.conf"]
        return [self._program, *map(str, options), *map(str, words)]

    def __call__(self, *words: str | Path) -> str:
        """What it prints; it must end well."""
        return finish(self.command(*words))

    def make_base(self) -> None:
        """An image of this Debian with Python; where no mirror can be reached the test is skipped."""
        container = self("from", self.policy, "scratch").strip()
        try:
            root = self("mount", container).strip()
            finish([find("debootstrap"), "--variant=minbase", f"--include={PACKAGES}", "bookworm", root])
        except AssertionError as error:
            raise SkipTest(f"there can be no base image here: {error}") from error
        shutil.rmtree(Path(root, "var/cache/apt/archives"), ignore_errors=True)
        self("commit", self.policy, "--rm", "--quiet", container, BASE)

    def build(self) -> None:
        """The image; where no package can be fetched the test is skipped."""
        options = ["--isolation=chroot", "--pull-never", "--format=docker", f"--build-arg=BASE={BASE}", self.policy]
        options.append("--build-arg=COMPILE=no")  # that takes minutes; tox has an environment for it
        for source, target in self._lent():
            options.append(f"--volume={source}:{target}:ro")
        try:
            self("bud", *options, "-t", IMAGE, "-f", CHECKOUT / "deploy" / "docker" / "Dockerfile", CHECKOUT)
        except AssertionError as error:
            if any(words in str(error) for words in UNREACHABLE):
                raise SkipTest("packages cannot be fetched here") from error
            raise

    def _lent(self) -> Iterator[tuple[Path, str]]:
        """What pip needs of this machine to fetch packages: its authorities and its settings."""
        if Path("/etc/ssl/certs/ca-certificates.crt").exists():
            yield Path("/etc/ssl/certs"), "/etc/ssl/certs"
        settings = {
            name.removeprefix("PIP_").lower(): value for name, value in os.environ.items() if "PIP_" in name[:4]
        }
        for name in ("/usr/share/ca-certificates", "/usr/local/share/ca-certificates", settings.get("find_links", "")):
            if name and Path(name).is_dir():
                yield Path(name), name
        lines = [f"{name.replace('_', '-')} = {value}" for name, value in settings.items()]
        if Path("/etc/pip.conf").exists() and not lines:
            yield Path("/etc/pip.conf"), "/etc/pip.conf"
        elif lines:
            path = self._folder / "pip.conf"
            path.write_text("\n".join(["[global]", *lines, ""]))
            yield path, "/etc/pip.conf"


def finish(command: Sequence[str]) -> str:
    """What a program prints; it must end well."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=STEP_S, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise AssertionError(
            f"{' '.join(command)}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


def kill_server(server: Server) -> None:
    """Kill the server within its container, as the kernel does where memory ends; buildah ends with it."""
    inside = [pid for pid in _descendants(server.pid) if os.stat(f"/proc/{pid}").st_uid == USER]
    if not inside:
        raise AssertionError("no process of the container's user was found")
    for pid in inside:
        os.kill(pid, signal.SIGKILL)
    eventually("the container to end", lambda: server.has_ended)


def _descendants(ancestor: int) -> Iterator[int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    for pid in parents:
        above = pid
        while above in parents and above != ancestor:
            above = parents[above]
        if above == ancestor and pid != ancestor:
            yield pid


class ImageTests(EndToEndTest):
    def test_killed_container_continues_its_stream(self) -> None:
        """The image is built, serves as a user of its own, and is killed; the next container continues the stream."""
        if os.geteuid() != 0:
            raise SkipTest("only root can build on a Debian made by debootstrap")
        folder = Path(tempfile.mkdtemp(prefix="image-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        builder = Builder(folder)
        self.addCleanup(builder, "unmount", "--all")
        builder.make_base()
        builder.build()
        self.check_image(json.loads(builder("inspect", "--type=image", IMAGE)))
        container = builder("from", builder.policy, "--pull-never", IMAGE).strip()
        place = new_folder("container")
        os.chown(place, USER, USER)
        program = builder.command("run", "--isolation=chroot", f"--volume={place}:/var/lib/rapidrtmp", container, "--")
        program += ["rapidrtmp", "serve"]
        first = self.start_server(SETTINGS, folder=place, program=program)
        clip, endless = CLIPS["plain"].path, ("-stream_loop", "-1")
        publisher = self.publish(FFMPEG, clip, f"rtmp://127.0.0.1:{first.rtmp_port}/live/show", endless)
        eventually("three segments", lambda: self.listed(first) > 2)
        before = parse_media_playlist(first.get("/live/show/index.m3u8").text)
        kill_server(first)
        publisher.kill()
        again = self.start_again(first, program)
        self.publish(FFMPEG, clip, f"rtmp://127.0.0.1:{again.rtmp_port}/live/show", endless)
        kept = {segment.uri for segment in before.complete}
        eventually("the stream to continue", lambda: "#EXT-X-DISCONTINUITY\n" in self.playlist(again))
        after = parse_media_playlist(self.playlist(again))
        self.assertGreaterEqual(after.sequence, before.sequence)
        self.assertTrue(kept & {segment.uri for segment in after.complete})
        kill_server(again)
        root = Path(builder("mount", container).strip())
        written = [path for path in root.rglob("*") if path.lstat().st_uid == USER]
        self.assertEqual([root / "var/lib/rapidrtmp"], written)
        self.assertFalse((root / "usr/bin/ffmpeg").exists())

    def check_image(self, inspected: dict[str, Any]) -> None:
        """The image says that it is to run as a user of its own, what it listens at, and how it is checked."""
        config = inspected["Docker"]["config"]
        self.assertEqual(f"{USER}:{USER}", config["User"])
        self.assertEqual({"1935/tcp", "8080/tcp"}, set(config["ExposedPorts"]))
        self.assertEqual(["rapidrtmp", "serve"], config["Entrypoint"])
        self.assertIn("/health", " ".join(config["Healthcheck"]["Test"]))

    def playlist(self, server: Server) -> str:
        return server.get("/live/show/index.m3u8").text

    def listed(self, server: Server) -> int:
        return self.playlist(server).count("#EXTINF")
